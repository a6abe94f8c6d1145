/* Requantization by one multiplication and addition of 64 bits, one shift and two comparisons a channel. */
#include "bitproof_kernels.h"

void bitproof_requantize_multiply_shift_64(const bitproof_multiply_shift_64 *layer, const int32_t *accumulators,
                                           uint8_t *codes) {
    const int32_t *multiplier = layer->multiplier;
    const int64_t *offset = layer->offset;
    const int64_t lowest = layer->lowest;
    const int64_t highest = layer->highest;
    const uint32_t shift = layer->shift;
    uint32_t remaining;

    for (remaining = layer->channels; remaining > 0u; --remaining) {
        /* The product of two int32_t fits; the sum does on every accumulator that can occur (proven), else it wraps. */
        const int64_t product = (int64_t)*accumulators++ * *multiplier++;
        int64_t code = (int64_t)((uint64_t)product + (uint64_t)*offset++) >> shift;
        code = code < lowest ? lowest : code;
        code = code > highest ? highest : code;
        *codes++ = (uint8_t)code;
    }
}
