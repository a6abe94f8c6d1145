/*
 * Sliding windows over images of bytes, channels last: convolution, with or without a max pool behind it, sums and
 * largest bytes of windows. A sequence is an image of one row.
 *
 * Sums of products go through two functions of the layer: one that multiplies what lies under a window by the weights,
 * one that makes what is stored of the sums.
 */
#ifndef BITPROOF_WINDOWS_H
#define BITPROOF_WINDOWS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Where the windows lie. A byte of padding is `outside`, that of the code 0.
 *
 * What a window shows is copied group after group of channels: bytes[group][tap][channel of the group].
 */
typedef struct {
    uint32_t height, width, channels; /* of the image */
    uint32_t rows, columns;           /* positions of the window */
    uint32_t kernel_height, kernel_width;
    uint32_t stride_height, stride_width;
    uint32_t dilation_height, dilation_width;
    uint32_t top, left; /* padding before the first row and before the first column */
    uint32_t groups;    /* divides channels */
    uint32_t outside;
    uint32_t size; /* bytes of one number of the image: 1; 4 in sums of windows alone */
} bitproof_window;

/* bytes: what a window shows. sums: one for each output of the layer. */
typedef void (*bitproof_multiplies)(const uint8_t *bytes, int32_t *sums);

/* Store what the layer makes of its sums at one position; the sums mean nothing after. */
typedef void (*bitproof_finishes)(int32_t *sums, uint8_t *target);

/*
 * A layer of products under windows.
 *
 * outputs: how many sums there are at a position.
 * stride:  how many bytes the layer stores for one position.
 */
typedef struct {
    bitproof_multiplies multiply;
    bitproof_finishes finish;
    uint32_t outputs;
    uint32_t stride;
} bitproof_products;

/*
 * bytes: room for what one window shows: kernel_height * kernel_width * channels.
 * sums:  room for `outputs` numbers.
 */
void bitproof_convolve(const bitproof_window *window, const bitproof_products *products, const uint8_t *image,
                       uint8_t *bytes, int32_t *sums, uint8_t *target);

/*
 * The same, and of all sums that the windows of `pool` show the largest in each channel, before they are finished. Its
 * image is that of the positions of `window`.
 *
 * sums: room for twice `outputs` numbers.
 */
void bitproof_convolve_and_pool(const bitproof_window *window, const bitproof_window *pool,
                                const bitproof_products *products, const uint8_t *image, uint8_t *bytes, int32_t *sums,
                                uint8_t *target);

/* The sum of the numbers of each channel under each window. sums: room for `channels` numbers. */
void bitproof_sum_windows(const bitproof_window *window, bitproof_finishes finish, uint32_t stride,
                          const uint8_t *image, int32_t *sums, uint8_t *target);

/* The largest byte of each channel under each window; padding never wins. */
void bitproof_largest_of_windows(const bitproof_window *window, const uint8_t *image, uint8_t *target);

#ifdef __cplusplus
}
#endif

#endif
