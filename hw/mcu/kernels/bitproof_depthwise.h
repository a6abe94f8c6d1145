/* Products in which each output channel sees one input channel: depthwise convolution, over packed weights. */
#ifndef BITPROOF_DEPTHWISE_H
#define BITPROOF_DEPTHWISE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Weights of `taps` taps in `channels` channels, as fields weight + zero_point of `bits` bits, 2, 4 or 8. The fields of
 * a tap begin with a new word; channel c is the field c % (32 / bits), from the lowest bits, of word c / (32 / bits).
 */
typedef struct {
    const uint32_t *words;
    uint32_t taps;
    uint32_t channels;
    uint32_t bits;
    uint32_t zero_point;
} bitproof_depthwise;

/* bytes: `taps` times `channels` bytes, channels last. sums: `channels` results; modulo 2^32, and they fit int32_t. */
void bitproof_multiply_depthwise(const bitproof_depthwise *weights, const uint8_t *bytes, int32_t *sums);

#ifdef __cplusplus
}
#endif

#endif
