/* Pooling: the walk over the positions of a window. */
#include "bitproof_windows.h"

static void fill(uint8_t *to, uint32_t count, uint8_t byte) {
    for (; count > 0u; --count) {
        *to++ = byte;
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
            const uint8_t *const pixel = bitproof_pixel_under(window, image, row, column, i, j);
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
            const uint8_t *const pixel = bitproof_pixel_under(window, image, row, column, i, j);
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
