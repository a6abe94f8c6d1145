/*
 * Convolution of images of bytes, channels last, with or without a max pool behind it. A sequence is an image of one
 * row.
 *
 * Two positions are multiplied at once: what their windows show is copied side by side, as the kernels take it, so that
 * each weight is loaded and unpacked once for both.
 */
#ifndef BITPROOF_CONVOLVE_H
#define BITPROOF_CONVOLVE_H

#include "bitproof_kernels.h"
#include "bitproof_windows.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A layer of products under windows.
 *
 * multiply: by the matrix of one group of channels.
 * matrices: one for each group. Their columns are the bytes that a window shows of the group: row after row of the
 *           kernel, tap after tap, channel after channel. A row is filled up to a multiple of four columns.
 * pack:     what makes of what two windows show what `multiply` takes; NULL: it takes it as it is.
 * quads:    how many fours of bytes `multiply` takes of one position, see bitproof_multiplies_pair.
 * shared:   if not 0, a max pool of 2 x 2 without padding follows a convolution of one group that moves down by one row
 *           of the image, and nothing is packed: positions one above the other share what they show but one row of the
 *           kernel, of `shared` words for two windows.
 * outputs:  how many sums there are at a position.
 * stride:   how many bytes the layer stores for one position.
 */
typedef struct {
    bitproof_multiplies_pair multiply;
    bitproof_packs_pair pack;
    const bitproof_matrix *matrices;
    bitproof_finishes finish;
    uint32_t quads;
    uint32_t shared;
    uint32_t outputs;
    uint32_t stride;
} bitproof_products;

/*
 * shown: room for 2 + 4 * quads + shared words.
 * sums:  room for twice `outputs` numbers.
 */
void bitproof_convolve(const bitproof_window *window, const bitproof_products *products, const uint8_t *image,
                       uint32_t *shown, int32_t *sums, uint8_t *target);

/*
 * The same, and of all sums that the windows of `pool` show the largest in each channel, before they are finished. Its
 * image is that of the positions of `window`.
 *
 * sums: room for `outputs` numbers.
 */
void bitproof_convolve_and_pool(const bitproof_window *window, const bitproof_window *pool,
                                const bitproof_products *products, const uint8_t *image, uint32_t *shown, int32_t *sums,
                                uint8_t *target);

/*
 * For verification: the sums of two windows whose bytes are given, by the same kernel.
 *
 * bytes: what the first shows, tap after tap, all channels of each; then what the second shows.
 * sums:  room for twice `outputs` numbers: those of the first, then those of the second.
 */
void bitproof_multiply_windows(const bitproof_window *window, const bitproof_products *products, const uint8_t *bytes,
                               uint32_t *shown, int32_t *sums);

#ifdef __cplusplus
}
#endif

#endif
