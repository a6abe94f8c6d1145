/*
 * Sliding windows over images, channels last: sums and largest bytes of windows. A sequence is an image of one row.
 */
#ifndef BITPROOF_WINDOWS_H
#define BITPROOF_WINDOWS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where the windows lie. A byte of padding is `outside`, that of the code 0. */
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

/* Store what the layer makes of its sums at one position; the sums mean nothing after. */
typedef void (*bitproof_finishes)(int32_t *sums, uint8_t *target);

/* The pixel under tap (i, j) of the window at (row, column); NULL: it lies outside of the image. */
static inline const uint8_t *bitproof_pixel_under(const bitproof_window *window, const uint8_t *image, uint32_t row,
                                                  uint32_t column, uint32_t i, uint32_t j) {
    /* Modulo 2^32: what lies before the first row or column is larger than any height or width. */
    const uint32_t y = row * window->stride_height + i * window->dilation_height - window->top;
    const uint32_t x = column * window->stride_width + j * window->dilation_width - window->left;
    return y < window->height && x < window->width ? image + (y * window->width + x) * window->channels * window->size
                                                   : 0;
}

/* The sum of the numbers of each channel under each window. sums: room for `channels` numbers. */
void bitproof_sum_windows(const bitproof_window *window, bitproof_finishes finish, uint32_t stride,
                          const uint8_t *image, int32_t *sums, uint8_t *target);

/* The largest byte of each channel under each window; padding never wins. */
void bitproof_largest_of_windows(const bitproof_window *window, const uint8_t *image, uint8_t *target);

#ifdef __cplusplus
}
#endif

#endif
