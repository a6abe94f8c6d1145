/* Requantization by one multiplication and addition of 64 bits, one shift and two comparisons a channel. */
#include "bitproof_kernels.h"
#include "bitproof_lanes.h"

/* The product of two int32_t fits; the sum does on every accumulator that can occur (proven), else it wraps. */
static inline int64_t scaled(int32_t accumulator, int32_t multiplier, int64_t offset) {
    return (int64_t)((uint64_t)((int64_t)accumulator * multiplier) + (uint64_t)offset);
}

/* Shifts of at least 32, for which the upper half of a sum is enough. */
static void requantize_upper_half(const bitproof_multiply_shift_64 *layer, const int32_t *accumulators,
                                  uint8_t *codes) {
    const int32_t *multiplier = layer->multiplier;
    const int64_t *offset = layer->offset;
    const uint32_t shift = layer->shift - 32u;
    const uint8_t *const end = codes + layer->channels;
    const int32_t lowest = layer->lowest;
    const int32_t highest = layer->highest;

    if (lowest == 0 && highest == 255) {
        while (codes != end) {
            int32_t code = (int32_t)(scaled(*accumulators++, *multiplier++, *offset++) >> 32) >> shift;
            BITPROOF_SATURATE(code, 8);
            *codes++ = (uint8_t)code;
        }
        return;
    }
    if (lowest == 0 && highest == 15) {
        while (codes != end) {
            int32_t code = (int32_t)(scaled(*accumulators++, *multiplier++, *offset++) >> 32) >> shift;
            BITPROOF_SATURATE(code, 4);
            *codes++ = (uint8_t)code;
        }
        return;
    }
    while (codes != end) {
        int32_t code = (int32_t)(scaled(*accumulators++, *multiplier++, *offset++) >> 32) >> shift;
        code = code < lowest ? lowest : code;
        code = code > highest ? highest : code;
        *codes++ = (uint8_t)code;
    }
}

void bitproof_requantize_multiply_shift_64(const bitproof_multiply_shift_64 *layer, const int32_t *accumulators,
                                           uint8_t *codes) {
    const int64_t lowest = layer->lowest;
    const int64_t highest = layer->highest;
    const uint32_t shift = layer->shift;
    const int32_t *multiplier = layer->multiplier;
    const int64_t *offset = layer->offset;
    uint32_t left;

    if (shift >= 32u) {
        requantize_upper_half(layer, accumulators, codes);
        return;
    }
    for (left = layer->channels; left > 0u; --left) {
        int64_t code = scaled(*accumulators++, *multiplier++, *offset++) >> shift;
        code = code < lowest ? lowest : code;
        code = code > highest ? highest : code;
        *codes++ = (uint8_t)code;
    }
}
