/* Convolution: what two windows show is laid side by side, and multiplied at once. */
#include "bitproof_convolve.h"

#include "bitproof_pairs.h"

/* One position of a window. */
typedef struct {
    uint32_t row;
    uint32_t column;
} place;

/* Where the lanes of the next four bytes of a position go, and the sum of those before. */
typedef struct {
    uint32_t *to;
    uint32_t sum;
} cursor;

static inline void put(cursor *at, uint32_t quad) {
    *at->to = bitproof_even_lanes(quad);
    at->to += 2;
    *at->to = bitproof_odd_lanes(quad);
    at->to += 2;
    at->sum = bitproof_add_bytes(quad, at->sum);
}

/* Put `count` bytes, and zeros up to the next multiple of four. */
static inline void put_bytes(const uint8_t *from, uint32_t count, cursor *at) {
    for (; count >= 8u; count -= 8u, from += 8) {
        put(at, bitproof_load4(from));
        put(at, bitproof_load4(from + 4));
    }
    if (count >= 4u) {
        put(at, bitproof_load4(from));
        from += 4;
        count -= 4u;
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
static BITPROOF_OUT_OF_LINE void put_taps(const bitproof_window *window, const uint8_t *row, uint32_t x, cursor *at) {
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

static inline void put_outside(const bitproof_window *window, uint32_t quads, cursor *at) {
    if (quads > 0u) {
        const uint32_t quad = window->outside * 0x01010101u;
        do {
            put(at, quad);
        } while (--quads > 0u);
    }
}

static inline uint32_t least(uint32_t one, uint32_t other) { return one < other ? one : other; }

/* Tell whether `taps` columns from x on, modulo 2^32, lie in an image of `width`. */
static inline int is_inside(uint32_t x, uint32_t taps, uint32_t width) { return x < width && width - x >= taps; }

/*
 * Lay out the row y of an image that a window shows from column x on, both modulo 2^32, and return the sum of its bytes.
 * It is taken as what lies before the image, in it and behind it; tap after tap where the taps of a row do not lie side
 * by side, or do not begin with a word.
 */
static BITPROOF_OUT_OF_LINE uint32_t show_row(const bitproof_window *window, const uint8_t *image, uint32_t group,
                                              uint32_t y, uint32_t x, uint32_t *to) {
    const uint32_t channels = window->channels;
    const uint32_t taps = window->kernel_width;
    const uint32_t pitch = window->width * channels;
    const uint32_t start = x + window->left;
    const uint32_t before = start < window->left ? least(window->left - start, taps) : 0u;
    const uint32_t first = x + before;
    const uint32_t inside = first < window->width ? least(taps - before, window->width - first) : 0u;
    const int is_aligned = channels % 4u == 0u;
    const int is_dense = window->dilation_width == 1u && window->groups == 1u;
    const int by_rows = is_dense && (is_aligned || inside == taps);
    cursor next = {to, 0};
    if (by_rows && y < window->height) {
        put_outside(window, before * channels / 4u, &next);
        put_bytes(image + (y * pitch + first * channels), inside * channels, &next);
        put_outside(window, (taps - before - inside) * channels / 4u, &next);
    } else if (by_rows && is_aligned) {
        put_outside(window, taps * channels / 4u, &next);
    } else {
        const uint8_t *const row = image + group * (channels / window->groups);
        cursor copied = next; /* whose address is taken, so that `next` stays in registers */
        put_taps(window, y < window->height ? row + y * pitch : 0, x, &copied);
        next = copied;
    }
    return next.sum;
}

/* Four bytes of each of two windows, side by side. */
#define PUT_BOTH(quad)                                                                                                 \
    do {                                                                                                               \
        const uint32_t one = bitproof_load4(from + 4 * (quad)), other = bitproof_load4(from_other + 4 * (quad));       \
        sum = bitproof_add_bytes(one, sum);                                                                            \
        sum_other = bitproof_add_bytes(other, sum_other);                                                              \
        BITPROOF_PUT_TWO(to, bitproof_even_lanes(one), bitproof_even_lanes(other));                                    \
        BITPROOF_PUT_TWO(to, bitproof_odd_lanes(one), bitproof_odd_lanes(other));                                      \
    } while (0)

/* Sums of bytes that two windows show: of all rows, of the first one, of all but the last. */
typedef struct {
    uint32_t all[2];
    uint32_t first[2];
    uint32_t but_last[2];
} sums_of_two;

/*
 * Lay what the windows at two places show of a group side by side, row after row of the kernel: both at once where the
 * row of both lies in the image and is one of whole words. `rows`: how many rows, the kernel may be taken as longer.
 */
static void show(const bitproof_window *window, const uint8_t *const images[2], const place at[2], uint32_t group,
                 uint32_t rows, uint32_t *to, sums_of_two *sums) {
    const uint32_t channels = window->channels;
    const uint32_t taps = window->kernel_width;
    const uint32_t height = window->height;
    const uint32_t bytes = taps * (window->groups == 1u ? channels : channels / window->groups);
    const uint32_t words = (bytes + 3u) / 4u * 4u;
    const uint32_t x = at[0].column * window->stride_width - window->left;
    const uint32_t x_other = at[1].column * window->stride_width - window->left;
    const int is_whole = channels % 4u == 0u && window->dilation_width == 1u && window->groups == 1u &&
                         is_inside(x, taps, window->width) && is_inside(x_other, taps, window->width);
    uint32_t sum = 0, sum_other = 0;
    uint32_t y = at[0].row * window->stride_height - window->top;
    uint32_t y_other = at[1].row * window->stride_height - window->top;
    uint32_t i;
    for (i = rows; i > 0u; --i, y += window->dilation_height, y_other += window->dilation_height) {
        uint32_t *const end = to + words;
        sums->but_last[0] = sum;
        sums->but_last[1] = sum_other;
        if (is_whole && y < height && y_other < height) {
            const uint8_t *from = images[0] + (y * window->width + x) * channels;
            const uint8_t *from_other = images[1] + (y_other * window->width + x_other) * channels;
            if ((words & 4u) != 0u) {
                PUT_BOTH(0);
                from += 4;
                from_other += 4;
            }
            while (to != end) {
                PUT_BOTH(0);
                PUT_BOTH(1);
                from += 8;
                from_other += 8;
            }
        } else {
            sum += show_row(window, images[0], group, y, x, to);
            sum_other += show_row(window, images[1], group, y_other, x_other, to + 1);
            to = end;
        }
        if (i == rows) {
            sums->first[0] = sum;
            sums->first[1] = sum_other;
        }
    }
    sums->all[0] = sum;
    sums->all[1] = sum_other;
}

static void clear(const bitproof_products *products, uint32_t *shown) {
    uint32_t i;
    for (i = 0; i < BITPROOF_PAIR_HEAD + 4u * products->quads + products->shared; ++i) {
        shown[i] = 0;
    }
}

/* The sums at two places, each of an image of its own; see bitproof_multiplies_pair for where they are stored. */
static void multiply_at(const bitproof_window *window, const bitproof_products *products,
                        const uint8_t *const images[2], const place at[2], uint32_t *shown, int32_t *sums,
                        uint32_t second) {
    const uint32_t rows = products->matrices[0].rows;
    uint32_t group;
    for (group = 0; group < window->groups; ++group, sums += rows) {
        sums_of_two of;
        show(window, images, at, group, window->kernel_height, shown + BITPROOF_PAIR_HEAD, &of);
        shown[0] = of.all[0];
        shown[1] = of.all[1];
        if (products->pack != 0) {
            products->pack(products->quads, shown);
        }
        products->multiply(&products->matrices[group], shown, sums, second);
    }
}

/*
 * The largest sums at two places and at those below them. These see the same rows but the first, and one more, so all
 * rows are laid out once; the sums of the lower two go where the first row was. Lanes of the row behind that stand in
 * the last word of a window meet no column.
 */
static void multiply_square_at(const bitproof_window *window, const bitproof_products *products, const uint8_t *image,
                               const place at[2], uint32_t *shown, int32_t *sums) {
    const uint8_t *const images[2] = {image, image};
    uint32_t *const lower = shown + products->shared;
    sums_of_two of;
    show(window, images, at, 0, window->kernel_height + 1u, shown + BITPROOF_PAIR_HEAD, &of);
    shown[0] = of.but_last[0];
    shown[1] = of.but_last[1];
    products->multiply(products->matrices, shown, sums, BITPROOF_LARGER);
    lower[0] = of.all[0] - of.first[0];
    lower[1] = of.all[1] - of.first[1];
    products->multiply(products->matrices, lower, sums, BITPROOF_LARGEST);
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
    uint32_t how = BITPROOF_LARGER;
    uint32_t i;
    uint32_t j;
    at[0].row = at[1].row = row * pool->stride_height;
    at[0].column = column * pool->stride_width;
    at[1].column = at[0].column + 1u;
    if (products->shared > 0u && at[0].row + 1u < window->rows && at[1].column < window->columns) {
        multiply_square_at(window, products, image, at, shown, sums);
        return;
    }
    for (i = 0; i < pool->kernel_height; ++i) {
        const uint32_t y = row * pool->stride_height + i * pool->dilation_height - pool->top;
        for (j = 0; y < window->rows && j < pool->kernel_width; ++j) {
            const uint32_t x = column * pool->stride_width + j * pool->dilation_width - pool->left;
            if (x < window->columns) {
                at[found].row = y;
                at[found].column = x;
                if (++found == 2u) {
                    multiply_at(window, products, images, at, shown, sums, how);
                    how = BITPROOF_LARGEST;
                    found = 0;
                }
            }
        }
    }
    if (found > 0u) {
        at[1] = at[0];
        multiply_at(window, products, images, at, shown, sums, how);
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
