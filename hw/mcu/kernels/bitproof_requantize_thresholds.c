/* Requantization by binary search in the sorted thresholds of a channel; the steps do not depend on the data. */
#include "bitproof_kernels.h"

void bitproof_requantize_thresholds(const bitproof_thresholds *layer, const int32_t *accumulators, uint8_t *codes) {
    const int32_t *row = layer->thresholds;
    const uint32_t levels = layer->levels;
    uint32_t remaining;

    for (remaining = layer->channels; remaining > 0u; --remaining, row += levels) {
        const int32_t accumulator = *accumulators++;
        const int32_t *base = row;
        uint32_t half;
        for (half = (levels + 1u) / 2u; half > 0u; half /= 2u) {
            base += base[half - 1u] <= accumulator ? half : 0u;
        }
        *codes++ = (uint8_t)(layer->lowest + (uint32_t)(base - row));
    }
}
