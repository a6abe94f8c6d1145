/*
 * Requantization by a division by a power of two, rounded to the nearest integer.
 *
 * (moved + half - 1 + bit) >> shift, bit the lowest of the quotient: half is added where the quotient is odd, one less
 * where it is even, so that a tie goes to the even neighbour; with the bit turned round, to the odd one.
 */
#include "bitproof_kernels.h"

void bitproof_requantize_rounding_shift(const bitproof_rounding_shift *layer, const int32_t *accumulators,
                                        uint8_t *codes) {
    const int32_t *offset = layer->offset;
    const int32_t lowest = layer->lowest;
    const int32_t highest = layer->highest;
    const uint32_t shift = layer->shift;
    const uint32_t below_half = ((uint32_t)1 << (shift - 1u)) - 1u;
    uint32_t remaining;

    for (remaining = layer->channels; remaining > 0u; --remaining) {
        /* Fits int32_t on every accumulator that can occur (proven); wraps on any other. */
        const uint32_t moved = (uint32_t)*accumulators++ + (uint32_t)*offset++;
        const uint32_t bit = ((moved >> shift) & 1u) ^ layer->to_odd;
        int32_t code = (int32_t)(moved + below_half + bit) >> shift;
        code = code < lowest ? lowest : code;
        code = code > highest ? highest : code;
        *codes++ = (uint8_t)code;
    }
}
