/* Convolution and pooling: the walk over the positions of a window. */
#include "bitproof_windows.h"

/* The pixel under tap (i, j) of the window at (row, column); NULL: it lies outside of the image. */
static const uint8_t *pixel_under(const bitproof_window *window, const uint8_t *image, uint32_t row, uint32_t column,
                                  uint32_t i, uint32_t j) {
    /* Modulo 2^32: what lies before the first row or column is larger than any height or width. */
    const uint32_t y = row * window->stride_height + i * window->dilation_height - window->top;
    const uint32_t x = column * window->stride_width + j * window->dilation_width - window->left;
    return y < window->height && x < window->width ? image + (y * window->width + x) * window->channels * window->size
                                                   : 0;
}

static void copy(const uint8_t *from, uint32_t count, uint8_t *to) {
    for (; count > 0u; --count) {
        *to++ = *from++;
    }
}

static void fill(uint8_t *to, uint32_t count, uint8_t byte) {
    for (; count > 0u; --count) {
        *to++ = byte;
    }
}

/* Copy the pixel of one tap, or what lies outside of the image, to its place in each group. */
static void show_pixel(const bitproof_window *window, const uint8_t *pixel, uint32_t tap, uint8_t *bytes) {
    const uint32_t members = window->channels / window->groups;
    const uint32_t taps = window->kernel_height * window->kernel_width;
    uint32_t group;
    bytes += tap * members;
    for (group = 0; group < window->groups; ++group, bytes += taps * members) {
        if (pixel != 0) {
            copy(pixel + group * members, members, bytes);
        } else {
            fill(bytes, members, (uint8_t)window->outside);
        }
    }
}

/* Copy what the window at (row, column) shows: whole lines of it at once where they lie within the image. */
static void show(const bitproof_window *window, const uint8_t *image, uint32_t row, uint32_t column, uint8_t *bytes) {
    const uint32_t x = column * window->stride_width - window->left;
    const uint32_t in_line = window->kernel_width * window->channels;
    const int whole = window->dilation_width == 1u && window->groups == 1u && x < window->width &&
                      window->kernel_width <= window->width - x;
    uint32_t i;
    uint32_t j;
    for (i = 0; i < window->kernel_height; ++i) {
        const uint32_t y = row * window->stride_height + i * window->dilation_height - window->top;
        if (whole && y < window->height) {
            copy(image + (y * window->width + x) * window->channels, in_line, bytes + i * in_line);
            continue;
        }
        for (j = 0; j < window->kernel_width; ++j) {
            const uint8_t *const pixel = pixel_under(window, image, row, column, i, j);
            show_pixel(window, pixel, i * window->kernel_width + j, bytes);
        }
    }
}

/* Multiply what the window at (row, column) shows; one pixel is not copied. */
static void multiply_at(const bitproof_window *window, const bitproof_products *products, const uint8_t *image,
                        uint32_t row, uint32_t column, uint8_t *bytes, int32_t *sums) {
    const int is_pixel = window->kernel_height == 1u && window->kernel_width == 1u;
    const uint8_t *const pixel = is_pixel ? pixel_under(window, image, row, column, 0, 0) : 0;
    if (pixel == 0) {
        show(window, image, row, column, bytes);
    }
    products->multiply(pixel != 0 ? pixel : bytes, sums);
}

void bitproof_convolve(const bitproof_window *window, const bitproof_products *products, const uint8_t *image,
                       uint8_t *bytes, int32_t *sums, uint8_t *target) {
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
static void pool_at(const bitproof_window *window, const bitproof_window *pool, const bitproof_products *products,
                    const uint8_t *image, uint32_t row, uint32_t column, uint8_t *bytes, int32_t *largest) {
    int32_t *const sums = largest + products->outputs;
    int is_first = 1;
    uint32_t i;
    uint32_t j;
    for (i = 0; i < pool->kernel_height; ++i) {
        const uint32_t y = row * pool->stride_height + i * pool->dilation_height - pool->top;
        if (y >= window->rows) {
            continue;
        }
        for (j = 0; j < pool->kernel_width; ++j) {
            const uint32_t x = column * pool->stride_width + j * pool->dilation_width - pool->left;
            if (x >= window->columns) {
                continue;
            }
            multiply_at(window, products, image, y, x, bytes, is_first ? largest : sums);
            if (!is_first) {
                keep_largest(sums, products->outputs, largest);
            }
            is_first = 0;
        }
    }
}

void bitproof_convolve_and_pool(const bitproof_window *window, const bitproof_window *pool,
                                const bitproof_products *products, const uint8_t *image, uint8_t *bytes, int32_t *sums,
                                uint8_t *target) {
    uint32_t row;
    uint32_t column;
    for (row = 0; row < pool->rows; ++row) {
        for (column = 0; column < pool->columns; ++column, target += products->stride) {
            pool_at(window, pool, products, image, row, column, bytes, sums);
            products->finish(sums, target);
        }
    }
}

static int32_t number_at(const bitproof_window *window, const uint8_t *pixel, uint32_t channel) {
    return window->size == 1u ? (int32_t)pixel[channel] : ((const int32_t *)(const void *)pixel)[channel];
}

static void sum_at(const bitproof_window *window, const uint8_t *image, uint32_t row, uint32_t column, int32_t *sums) {
    uint32_t channel;
    uint32_t i;
    uint32_t j;
    for (channel = 0; channel < window->channels; ++channel) {
        sums[channel] = 0;
    }
    for (i = 0; i < window->kernel_height; ++i) {
        for (j = 0; j < window->kernel_width; ++j) {
            const uint8_t *const pixel = pixel_under(window, image, row, column, i, j);
            for (channel = 0; channel < window->channels; ++channel) {
                sums[channel] += pixel != 0 ? number_at(window, pixel, channel) : (int32_t)window->outside;
            }
        }
    }
}

void bitproof_sum_windows(const bitproof_window *window, bitproof_finishes finish, uint32_t stride,
                          const uint8_t *image, int32_t *sums, uint8_t *target) {
    uint32_t row;
    uint32_t column;
    for (row = 0; row < window->rows; ++row) {
        for (column = 0; column < window->columns; ++column, target += stride) {
            sum_at(window, image, row, column, sums);
            finish(sums, target);
        }
    }
}

static void largest_at(const bitproof_window *window, const uint8_t *image, uint32_t row, uint32_t column,
                       uint8_t *target) {
    uint32_t channel;
    uint32_t i;
    uint32_t j;
    fill(target, window->channels, 0);
    for (i = 0; i < window->kernel_height; ++i) {
        for (j = 0; j < window->kernel_width; ++j) {
            const uint8_t *const pixel = pixel_under(window, image, row, column, i, j);
            for (channel = 0; pixel != 0 && channel < window->channels; ++channel) {
                target[channel] = pixel[channel] > target[channel] ? pixel[channel] : target[channel];
            }
        }
    }
}

void bitproof_largest_of_windows(const bitproof_window *window, const uint8_t *image, uint8_t *target) {
    uint32_t row;
    uint32_t column;
    for (row = 0; row < window->rows; ++row) {
        for (column = 0; column < window->columns; ++column, target += window->channels) {
            largest_at(window, image, row, column, target);
        }
    }
}
