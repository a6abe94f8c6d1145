/* Requantization by binary search in the sorted thresholds of a channel; the steps do not depend on the data. */
#include "bitproof_kernels.h"

void bitproof_requantize_thresholds(const bitproof_thresholds *layer, const int32_t *accumulators, uint8_t *codes) {
    const int32_t *row = layer->thresholds;
    uint32_t remaining;

    for (remaining = layer->channels; remaining > 0u; --remaining, row += layer->levels) {
        const int32_t accumulator = *accumulators++;
        const int32_t *base = row;
        uint32_t length = layer->levels;
        while (length > 1u) {
            const uint32_t half = length / 2u;
            base += (uint32_t)(base[half - 1u] <= accumulator) * half;
            length -= half;
        }
        base += *base <= accumulator;
        *codes++ = (uint8_t)(layer->lowest + (uint32_t)(base - row));
    }
}
