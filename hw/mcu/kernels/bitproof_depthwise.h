/* Convolution in which each output channel sees one input channel, over packed weights; channels last. */
#ifndef BITPROOF_DEPTHWISE_H
#define BITPROOF_DEPTHWISE_H

#include "bitproof_windows.h"

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

/* A layer of them: `stride` bytes are stored for one position. */
typedef struct {
    const bitproof_depthwise *weights;
    bitproof_finishes finish;
    uint32_t stride;
} bitproof_depthwise_products;

/* bytes: `taps` times `channels` bytes, channels last. sums: `channels` results; modulo 2^32, and they fit int32_t. */
void bitproof_multiply_depthwise(const bitproof_depthwise *weights, const uint8_t *bytes, int32_t *sums);

/*
 * bytes: room for what one window shows: taps * channels.
 * sums:  room for `channels` numbers.
 */
void bitproof_convolve_depthwise(const bitproof_window *window, const bitproof_depthwise_products *products,
                                 const uint8_t *image, uint8_t *bytes, int32_t *sums, uint8_t *target);

/*
 * The same, and of all sums that the windows of `pool` show the largest in each channel, before they are finished. Its
 * image is that of the positions of `window`.
 *
 * sums: room for twice `channels` numbers.
 */
void bitproof_convolve_depthwise_and_pool(const bitproof_window *window, const bitproof_window *pool,
                                          const bitproof_depthwise_products *products, const uint8_t *image,
                                          uint8_t *bytes, int32_t *sums, uint8_t *target);

#ifdef __cplusplus
}
#endif

#endif
