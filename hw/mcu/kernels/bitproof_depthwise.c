/* Depthwise convolution: the walk over the positions of a window. */
#include "bitproof_depthwise.h"

#include "bitproof_lanes.h"

static inline void store4(uint32_t four, uint8_t *to) {
    to[0] = (uint8_t)four;
    to[1] = (uint8_t)(four >> 8);
    to[2] = (uint8_t)(four >> 16);
    to[3] = (uint8_t)(four >> 24);
}

static void copy(const uint8_t *from, uint32_t count, uint8_t *to) {
    for (; count >= 4u; count -= 4u, from += 4, to += 4) {
        store4(bitproof_load4(from), to);
    }
    for (; count > 0u; --count) {
        *to++ = *from++;
    }
}

static void fill(uint32_t four, uint32_t count, uint8_t *to) {
    for (; count >= 4u; count -= 4u, to += 4) {
        store4(four, to);
    }
    for (; count > 0u; --count) {
        *to++ = (uint8_t)four;
    }
}

/* Copy what the window at (row, column) shows, tap after tap. */
static void show(const bitproof_window *window, const uint8_t *image, uint32_t row, uint32_t column, uint8_t *bytes) {
    uint32_t i;
    uint32_t j;
    for (i = 0; i < window->kernel_height; ++i) {
        for (j = 0; j < window->kernel_width; ++j, bytes += window->channels) {
            const uint8_t *const pixel = bitproof_pixel_under(window, image, row, column, i, j);
            if (pixel != 0) {
                copy(pixel, window->channels, bytes);
            } else {
                fill(window->outside * 0x01010101u, window->channels, bytes);
            }
        }
    }
}

/* Multiply what the window at (row, column) shows: where it lies if it is all within the image, else of a copy. */
static void multiply_at(const bitproof_window *window, const bitproof_depthwise_products *products,
                        const uint8_t *image, uint32_t row, uint32_t column, uint8_t *bytes, int32_t *sums) {
    const uint32_t channels = window->channels;
    const uint32_t pitch = window->width * channels;
    /* Modulo 2^32: what lies before the first row or column is larger than any height or width. */
    const uint32_t y = row * window->stride_height - window->top;
    const uint32_t x = column * window->stride_width - window->left;
    const uint32_t last_y = (window->kernel_height - 1u) * window->dilation_height;
    const uint32_t last_x = (window->kernel_width - 1u) * window->dilation_width;
    if (y < window->height && last_y < window->height - y && x < window->width && last_x < window->width - x) {
        products->multiply(products->weights, image + (y * pitch + x * channels), window->dilation_width * channels,
                           window->dilation_height * pitch, sums);
    } else {
        show(window, image, row, column, bytes);
        products->multiply(products->weights, bytes, channels, window->kernel_width * channels, sums);
    }
}

void bitproof_convolve_depthwise(const bitproof_window *window, const bitproof_depthwise_products *products,
                                 const uint8_t *image, uint8_t *bytes, int32_t *sums, uint8_t *target) {
    uint32_t row;
    uint32_t column;
    for (row = 0; row < window->rows; ++row) {
        for (column = 0; column < window->columns; ++column, target += products->stride) {
            multiply_at(window, products, image, row, column, bytes, sums);
            products->finish(sums, target);
        }
    }
}

static void keep_largest(const int32_t *sums, uint32_t count, int32_t *largest) {
    for (; count > 0u; --count, ++sums, ++largest) {
        *largest = *sums > *largest ? *sums : *largest;
    }
}

/* Leave in `largest` the largest sums that the window `pool` at (row, column) shows. */
static void pool_at(const bitproof_window *window, const bitproof_window *pool,
                    const bitproof_depthwise_products *products, const uint8_t *image, uint32_t row, uint32_t column,
                    uint8_t *bytes, int32_t *largest) {
    int32_t *const sums = largest + window->channels;
    int32_t *to = largest;
    uint32_t i;
    uint32_t j;
    for (i = 0; i < pool->kernel_height; ++i) {
        const uint32_t y = row * pool->stride_height + i * pool->dilation_height - pool->top;
        for (j = 0; y < window->rows && j < pool->kernel_width; ++j) {
            const uint32_t x = column * pool->stride_width + j * pool->dilation_width - pool->left;
            if (x < window->columns) {
                multiply_at(window, products, image, y, x, bytes, to);
                if (to != largest) {
                    keep_largest(to, window->channels, largest);
                }
                to = sums;
            }
        }
    }
}

void bitproof_convolve_depthwise_and_pool(const bitproof_window *window, const bitproof_window *pool,
                                          const bitproof_depthwise_products *products, const uint8_t *image,
                                          uint8_t *bytes, int32_t *sums, uint8_t *target) {
    uint32_t row;
    uint32_t column;
    for (row = 0; row < pool->rows; ++row) {
        for (column = 0; column < pool->columns; ++column, target += products->stride) {
            pool_at(window, pool, products, image, row, column, bytes, sums);
            products->finish(sums, target);
        }
    }
}
