/* Convolution in which each output channel sees one input channel, over packed weights; channels last. */
#ifndef BITPROOF_DEPTHWISE_H
#define BITPROOF_DEPTHWISE_H

#include "bitproof_windows.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The weights of a kernel of height x width in `channels` channels, as two's complement fields of 2, 4 or 8 bits.
 *
 * words: blocks of four channels; in a block the rows of the kernel, each from a new word on; in a row its taps, each
 *        four fields of b bits. Moved up by 2 t b bits, a word has those of its tap t on top of its halves: channel 0
 * in the upper b bits of the low half, channel 2 in those of the high half, and below them channels 1 and 3. Of b = 4,
 * from the highest bits, tap:channel: 0:2 0:3 1:2 1:3 0:0 0:1 1:0 1:1. The fields of channels that there are not are 0.
 */
typedef struct {
    const uint32_t *words;
    uint32_t height, width;
    uint32_t channels;
} bitproof_depthwise;

/*
 * bytes: the first channel of the first tap; the next tap lies `column_pitch` bytes on, the next row `row_pitch`.
 * sums:  `channels` results. Each times 2^(16 - width of a field) fits int32_t (proven by the generator): the products
 *        are accumulated with the fields on top of 16 bits, where they need no extension of their signs.
 */
typedef void (*bitproof_multiplies_depthwise)(const bitproof_depthwise *weights, const uint8_t *bytes,
                                              uint32_t column_pitch, uint32_t row_pitch, int32_t *sums);

void bitproof_multiply_depthwise_2(const bitproof_depthwise *weights, const uint8_t *bytes, uint32_t column_pitch,
                                   uint32_t row_pitch, int32_t *sums);
void bitproof_multiply_depthwise_4(const bitproof_depthwise *weights, const uint8_t *bytes, uint32_t column_pitch,
                                   uint32_t row_pitch, int32_t *sums);
void bitproof_multiply_depthwise_8(const bitproof_depthwise *weights, const uint8_t *bytes, uint32_t column_pitch,
                                   uint32_t row_pitch, int32_t *sums);

/* A layer: `stride` bytes are stored for one position. */
typedef struct {
    bitproof_multiplies_depthwise multiply;
    const bitproof_depthwise *weights;
    bitproof_finishes finish;
    uint32_t stride;
} bitproof_depthwise_products;

/*
 * bytes: room for what one window shows: height * width * channels. Only windows that show padding are copied.
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
