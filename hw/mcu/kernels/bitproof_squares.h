/*
 * Convolution of an image of one channel with kernels of 3 x 3, and a max pool of 2 x 2 behind it: what a first layer
 * often is.
 *
 * The windows at the four positions of a pool overlap, so that four bytes of each row hold what all of them show of it.
 */
#ifndef BITPROOF_SQUARES_H
#define BITPROOF_SQUARES_H

#include "bitproof_kernels.h"
#include "bitproof_windows.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The layer.
 *
 * matrix:  fields of 8 bits, as of bitproof_multiply_u8; four columns a row of the kernel, of which three are used.
 * outputs: how many sums there are at a position.
 * stride:  how many bytes the layer stores for one position.
 */
typedef struct {
    const bitproof_matrix *matrix;
    bitproof_finishes finish;
    uint32_t outputs;
    uint32_t stride;
} bitproof_square_products;

/*
 * window: its kernel is 3 x 3; channels, groups, strides and dilations are 1.
 * pool:   2 x 2, with strides of 2, without padding.
 * shown:  room for 12 words.
 * sums:   room for `outputs` numbers.
 */
void bitproof_convolve_squares(const bitproof_window *window, const bitproof_window *pool,
                               const bitproof_square_products *products, const uint8_t *image, uint32_t *shown,
                               int32_t *sums, uint8_t *target);

/*
 * For verification: the sums at four positions, two by two, by the same kernel.
 *
 * bytes: what their windows show: four rows of four.
 * sums:  room for four times `outputs` numbers, position after position.
 */
void bitproof_multiply_square(const bitproof_window *window, const bitproof_square_products *products,
                              const uint8_t *bytes, uint32_t *shown, int32_t *sums);

#ifdef __cplusplus
}
#endif

#endif
