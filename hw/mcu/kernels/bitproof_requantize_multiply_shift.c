/* Requantization by one multiplication, one addition, one shift and two comparisons a channel. */
#include "bitproof_kernels.h"
#include "bitproof_lanes.h"

void bitproof_requantize_multiply_shift(const bitproof_multiply_shift *layer, const int32_t *accumulators,
                                        uint8_t *codes) {
    const bitproof_affine *channel = layer->channel;
    const int32_t lowest = layer->lowest;
    const int32_t highest = layer->highest;
    const uint32_t shift = layer->shift;
    uint32_t remaining;

    for (remaining = layer->channels; remaining > 0u; --remaining, ++channel) {
        /* Fits int32_t on every accumulator that can occur (proven); wraps on any other. */
        const uint32_t scaled = (uint32_t)*accumulators++ * (uint32_t)channel->multiplier + (uint32_t)channel->offset;
        int32_t code = (int32_t)scaled >> shift;
        code = code < lowest ? lowest : code;
        code = code > highest ? highest : code;
        *codes++ = (uint8_t)code;
    }
}
