/* Requantization by one multiplication, one addition, one shift and two comparisons a channel. */
#include "bitproof_kernels.h"
#include "bitproof_lanes.h"

/* Fits int32_t on every accumulator that can occur (proven); wraps on any other. */
static inline int32_t scaled(int32_t accumulator, const bitproof_affine *channel) {
    return (int32_t)((uint32_t)accumulator * (uint32_t)channel->multiplier + (uint32_t)channel->offset);
}

/* Codes of 4 bits. */
static void requantize_4_bits(const bitproof_multiply_shift *layer, const int32_t *accumulators, uint8_t *codes) {
    const bitproof_affine *channel = layer->channel;
    const uint32_t shift = layer->shift;
    const uint8_t *const end = codes + layer->channels;

    while (codes != end) {
        int32_t code = scaled(*accumulators++, channel++) >> shift;
        BITPROOF_SATURATE(code, 4);
        *codes++ = (uint8_t)code;
    }
}

void bitproof_requantize_multiply_shift(const bitproof_multiply_shift *layer, const int32_t *accumulators,
                                        uint8_t *codes) {
    const int32_t lowest = layer->lowest;
    const int32_t highest = layer->highest;
    const uint32_t shift = layer->shift;
    const bitproof_affine *channel = layer->channel;
    uint32_t left;

    if (lowest == 0 && highest == 15) {
        requantize_4_bits(layer, accumulators, codes);
        return;
    }
    for (left = layer->channels; left > 0u; --left) {
        int32_t code = scaled(*accumulators++, channel++) >> shift;
        code = code < lowest ? lowest : code;
        code = code > highest ? highest : code;
        *codes++ = (uint8_t)code;
    }
}
