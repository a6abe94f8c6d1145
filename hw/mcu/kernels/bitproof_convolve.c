/* Convolution: what two windows show is laid side by side, and multiplied at once. */
#include "bitproof_convolve.h"

#include "bitproof_pairs.h"

#define LEAST_SUM (-2147483647 - 1)

/* One position of a window. */
typedef struct {
    uint32_t row;
    uint32_t column;
} place;

#if BITPROOF_LANES

#define WORDS_PER_QUAD 4u

static inline uint32_t *begin_of(uint32_t *shown, uint32_t quads, uint32_t which) {
    (void)quads;
    return shown + BITPROOF_PAIR_HEAD + which;
}

static inline void put_quad(uint32_t quad, uint32_t *to) {
    to[0] = bitproof_even_bytes(quad);
    to[2] = bitproof_odd_bytes(quad);
}

#else

#define WORDS_PER_QUAD 1u

static inline uint32_t *begin_of(uint32_t *shown, uint32_t quads, uint32_t which) {
    return shown + BITPROOF_PAIR_HEAD + which * quads;
}

static inline void put_quad(uint32_t quad, uint32_t *to) {
    uint8_t *const bytes = (uint8_t *)to;
    bytes[0] = (uint8_t)quad;
    bytes[1] = (uint8_t)(quad >> 8);
    bytes[2] = (uint8_t)(quad >> 16);
    bytes[3] = (uint8_t)(quad >> 24);
}

#endif

/* Where the next four bytes of a position go, and the sum of those before. */
typedef struct {
    uint32_t *to;
    uint32_t sum;
} cursor;

static inline void put(cursor *at, uint32_t quad) {
    put_quad(quad, at->to);
    at->to += WORDS_PER_QUAD;
    at->sum = bitproof_add_bytes(quad, at->sum);
}

/* Put `count` bytes, and zeros up to the next multiple of four. */
static inline void put_bytes(const uint8_t *from, uint32_t count, cursor *at) {
    for (; count >= 4u; count -= 4u, from += 4) {
        put(at, bitproof_load4(from));
    }
    if (count > 0u) {
        const uint32_t second = count > 1u ? (uint32_t)from[1] << 8 : 0u;
        const uint32_t third = count > 2u ? (uint32_t)from[2] << 16 : 0u;
        put(at, from[0] | second | third);
    }
}

/*
 * The same of a row of the kernel, tap after tap, whose first lies in column `x`. `row`: that of the image, from the
 * first channel of the group; NULL: it lies outside.
 */
static void put_taps(const bitproof_window *window, const uint8_t *row, uint32_t x, cursor *at) {
    const uint32_t members = window->channels / window->groups;
    uint32_t quad = 0;
    uint32_t held = 0;
    uint32_t tap;
    for (tap = 0; tap < window->kernel_width; ++tap, x += window->dilation_width) {
        const uint8_t *const pixel = row != 0 && x < window->width ? row + x * window->channels : 0;
        uint32_t member = 0;
        while (member < members) {
            if (held == 0u && members - member >= 4u) {
                put(at, pixel != 0 ? bitproof_load4(pixel + member) : window->outside * 0x01010101u);
                member += 4u;
                continue;
            }
            quad |= (pixel != 0 ? pixel[member] : window->outside) << (8u * held);
            ++member;
            if (++held == 4u) {
                put(at, quad);
                quad = held = 0;
            }
        }
    }
    if (held > 0u) {
        put(at, quad);
    }
}

/* Lay what the window at a place shows of a group beside the other: whole rows of it where they lie in the image. */
static void show(const bitproof_window *window, const uint8_t *image, place at, uint32_t group, uint32_t *to,
                 uint32_t *sum_of_bytes) {
    /* Modulo 2^32: what lies before the first row or column is larger than any height or width. */
    const uint32_t x = at.column * window->stride_width - window->left;
    const uint32_t row_bytes = window->kernel_width * window->channels;
    const uint32_t pitch = window->width * window->channels;
    const int whole = window->dilation_width == 1u && window->groups == 1u && x < window->width &&
                      window->kernel_width <= window->width - x;
    const uint32_t rows_in_one = whole ? window->height : 0u;
    cursor next = {to, 0};
    uint32_t y = at.row * window->stride_height - window->top;
    uint32_t i;
    for (i = window->kernel_height; i > 0u; --i, y += window->dilation_height) {
        if (y < rows_in_one) {
            put_bytes(image + (y * pitch + x * window->channels), row_bytes, &next);
        } else {
            const uint8_t *const row = image + group * (window->channels / window->groups);
            cursor copied = next; /* whose address is taken, so that `next` stays in registers */
            put_taps(window, y < window->height ? row + y * pitch : 0, x, &copied);
            next = copied;
        }
    }
    *sum_of_bytes = next.sum;
}

static void clear(const bitproof_products *products, uint32_t *shown) {
    uint32_t i;
    for (i = 0; i < BITPROOF_PAIR_HEAD + 4u * products->quads; ++i) {
        shown[i] = 0;
    }
}

/* The sums at two places of the images `first` and `second`; see bitproof_multiplies_pair for where they are stored. */
static void multiply_at(const bitproof_window *window, const bitproof_products *products, const uint8_t *const image[2],
                        const place at[2], uint32_t *shown, int32_t *sums, uint32_t second) {
    const uint32_t rows = products->matrices[0].rows;
    uint32_t group;
    for (group = 0; group < window->groups; ++group, sums += rows) {
        show(window, image[0], at[0], group, begin_of(shown, products->quads, 0), &shown[0]);
        show(window, image[1], at[1], group, begin_of(shown, products->quads, 1), &shown[1]);
        products->multiply(&products->matrices[group], shown, sums, second);
    }
}

static place next_of(const bitproof_window *window, place at) {
    ++at.column;
    if (at.column == window->columns) {
        at.column = 0;
        ++at.row;
    }
    return at;
}

void bitproof_convolve(const bitproof_window *window, const bitproof_products *products, const uint8_t *image,
                       uint32_t *shown, int32_t *sums, uint8_t *target) {
    const uint8_t *const images[2] = {image, image};
    place at[2] = {{0, 0}, {0, 0}};
    uint32_t left;
    clear(products, shown);
    for (left = window->rows * window->columns; left > 1u; left -= 2u) {
        at[1] = next_of(window, at[0]);
        multiply_at(window, products, images, at, shown, sums, products->outputs);
        products->finish(sums, target);
        products->finish(sums + products->outputs, target + products->stride);
        target += 2u * products->stride;
        at[0] = next_of(window, at[1]);
    }
    if (left > 0u) {
        at[1] = at[0];
        multiply_at(window, products, images, at, shown, sums, products->outputs);
        products->finish(sums, target);
    }
}

/* Leave in `sums` the largest that the window `pool` at (row, column) shows. */
static void pool_at(const bitproof_window *window, const bitproof_window *pool, const bitproof_products *products,
                    const uint8_t *image, uint32_t row, uint32_t column, uint32_t *shown, int32_t *sums) {
    const uint8_t *const images[2] = {image, image};
    place at[2];
    uint32_t found = 0;
    uint32_t i;
    uint32_t j;
    for (i = 0; i < products->outputs; ++i) {
        sums[i] = LEAST_SUM;
    }
    for (i = 0; i < pool->kernel_height; ++i) {
        const uint32_t y = row * pool->stride_height + i * pool->dilation_height - pool->top;
        for (j = 0; y < window->rows && j < pool->kernel_width; ++j) {
            const uint32_t x = column * pool->stride_width + j * pool->dilation_width - pool->left;
            if (x < window->columns) {
                at[found].row = y;
                at[found].column = x;
                if (++found == 2u) {
                    multiply_at(window, products, images, at, shown, sums, 0);
                    found = 0;
                }
            }
        }
    }
    if (found > 0u) {
        at[1] = at[0];
        multiply_at(window, products, images, at, shown, sums, 0);
    }
}

void bitproof_convolve_and_pool(const bitproof_window *window, const bitproof_window *pool,
                                const bitproof_products *products, const uint8_t *image, uint32_t *shown, int32_t *sums,
                                uint8_t *target) {
    uint32_t row;
    uint32_t column;
    clear(products, shown);
    for (row = 0; row < pool->rows; ++row) {
        for (column = 0; column < pool->columns; ++column, target += products->stride) {
            pool_at(window, pool, products, image, row, column, shown, sums);
            products->finish(sums, target);
        }
    }
}

void bitproof_multiply_windows(const bitproof_window *window, const bitproof_products *products, const uint8_t *bytes,
                               uint32_t *shown, int32_t *sums) {
    bitproof_window alone = *window;
    const uint8_t *images[2];
    const place at[2] = {{0, 0}, {0, 0}};
    alone.height = window->kernel_height;
    alone.width = window->kernel_width;
    alone.dilation_height = alone.dilation_width = 1u;
    alone.top = alone.left = 0u;
    images[0] = bytes;
    images[1] = bytes + window->kernel_height * window->kernel_width * window->channels;
    clear(products, shown);
    multiply_at(&alone, products, images, at, shown, sums, products->outputs);
}
