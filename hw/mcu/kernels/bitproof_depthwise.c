/* Depthwise convolution: one multiplication for each field. */
#include "bitproof_depthwise.h"

void bitproof_multiply_depthwise(const bitproof_depthwise *weights, const uint8_t *bytes, int32_t *sums) {
    const uint32_t *words = weights->words;
    const uint32_t bits = weights->bits;
    const uint32_t mask = (1u << bits) - 1u;
    const uint32_t zero_point = weights->zero_point;
    uint32_t channel;
    uint32_t tap;
    for (channel = 0; channel < weights->channels; ++channel) {
        sums[channel] = 0;
    }
    for (tap = 0; tap < weights->taps; ++tap) {
        uint32_t fields = 0;
        uint32_t left = 0;
        for (channel = 0; channel < weights->channels; ++channel, fields >>= bits, left -= bits) {
            if (left == 0u) {
                fields = *words++;
                left = 32u;
            }
            sums[channel] = (int32_t)((uint32_t)sums[channel] + ((fields & mask) - zero_point) * *bytes++);
        }
    }
}

/* Copy what the window at (row, column) shows. */
static void show(const bitproof_window *window, const uint8_t *image, uint32_t row, uint32_t column, uint8_t *bytes) {
    uint32_t i;
    uint32_t j;
    uint32_t channel;
    for (i = 0; i < window->kernel_height; ++i) {
        for (j = 0; j < window->kernel_width; ++j) {
            const uint8_t *const pixel = bitproof_pixel_under(window, image, row, column, i, j);
            for (channel = 0; channel < window->channels; ++channel) {
                *bytes++ = (uint8_t)(pixel != 0 ? pixel[channel] : window->outside);
            }
        }
    }
}

void bitproof_convolve_depthwise(const bitproof_window *window, const bitproof_depthwise_products *products,
                                 const uint8_t *image, uint8_t *bytes, int32_t *sums, uint8_t *target) {
    uint32_t row;
    uint32_t column;
    for (row = 0; row < window->rows; ++row) {
        for (column = 0; column < window->columns; ++column, target += products->stride) {
            show(window, image, row, column, bytes);
            bitproof_multiply_depthwise(products->weights, bytes, sums);
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
                show(window, image, y, x, bytes);
                bitproof_multiply_depthwise(products->weights, bytes, to);
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
