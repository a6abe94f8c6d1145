/*
 * Convolution of one channel with kernels of 3 x 3, at four positions at once.
 *
 * Of the bytes x0..x3 of a row the left positions see x0, x1, x2 and the right ones x1, x2, x3; the weights of a row
 * are the fields w0, w1, w2 of one word. In lanes of 16 bits, even = x0 | x2 << 16 and odd = x1 | x3 << 16:
 *
 *   left   w0 * x0 + w2 * x2 = (w0, w2) times even,   w1 * x1 = w1 times the low half of odd
 *   right  w0 * x1 + w2 * x3 = (w0, w2) times odd,    w1 * x2 = w1 times the high half of even
 *
 * `shown` holds the sums of the bytes of the four windows, and then each row: two words of lanes if BITPROOF_LANES is
 * 1, else its bytes in the first of two words.
 */
#include "bitproof_squares.h"

#include "bitproof_lanes.h"

#define POSITIONS 4u
#define ROWS_PER_BLOCK 4u
#define KERNEL 3u

/* A number for each position: the upper left, the upper right, the lower left, the lower right one. */
typedef struct {
    uint32_t a, b, c, d;
} four;

static inline int32_t larger(uint32_t one, uint32_t other) {
    return (int32_t)one > (int32_t)other ? (int32_t)one : (int32_t)other;
}

/* Store the sums of four positions, `second` apart, or only the largest. */
static inline void store(int32_t *sums, uint32_t second, four of) {
    if (second == BITPROOF_LARGER) {
        sums[0] = larger((uint32_t)larger(of.a, of.b), (uint32_t)larger(of.c, of.d));
    } else {
        sums[0] = (int32_t)of.a;
        sums[second] = (int32_t)of.b;
        sums[2u * second] = (int32_t)of.c;
        sums[3u * second] = (int32_t)of.d;
    }
}

#define WORDS_OF_ROW(row) words[ROWS_PER_BLOCK * (row)]

#if BITPROOF_LANES

/* The products of a word of weights with two rows of bytes: the upper positions see the first, the lower the second. */
#define ADD_ROW(row)                                                                                                   \
    do {                                                                                                               \
        const uint32_t outer = bitproof_even_bytes(WORDS_OF_ROW(row));                                                 \
        const uint32_t inner = bitproof_odd_bytes(WORDS_OF_ROW(row));                                                  \
        of.a = bitproof_dual_multiply_add(outer, even, of.a);                                                          \
        of.b = bitproof_dual_multiply_add(outer, odd, of.b);                                                           \
        of.a = bitproof_low_low_add(inner, odd, of.a);                                                                 \
        of.b = bitproof_low_high_add(inner, even, of.b);                                                               \
        even = rows[2 * (row) + 2];                                                                                    \
        odd = rows[2 * (row) + 3];                                                                                     \
        of.c = bitproof_dual_multiply_add(outer, even, of.c);                                                          \
        of.d = bitproof_dual_multiply_add(outer, odd, of.d);                                                           \
        of.c = bitproof_low_low_add(inner, odd, of.c);                                                                 \
        of.d = bitproof_low_high_add(inner, even, of.d);                                                               \
    } while (0)

static inline four add_products(const uint32_t *words, const uint32_t *rows, four of) {
    uint32_t even, odd;
    even = rows[0];
    odd = rows[1];
    ADD_ROW(0);
    ADD_ROW(1);
    ADD_ROW(2);
    return of;
}

static inline void put_row(uint32_t bytes, uint32_t *to) {
    to[0] = bitproof_even_bytes(bytes);
    to[1] = bitproof_odd_bytes(bytes);
}

#else

static inline four add_products(const uint32_t *words, const uint32_t *rows, four of) {
    uint32_t row;
    uint32_t column;
    for (row = 0; row < KERNEL; ++row, rows += 2) {
        const uint8_t *const upper = (const uint8_t *)rows;
        const uint8_t *const lower = (const uint8_t *)(rows + 2);
        for (column = 0; column < KERNEL; ++column) {
            const uint32_t field = (WORDS_OF_ROW(row) >> (8u * column)) & 0xFFu;
            of.a += field * upper[column];
            of.b += field * upper[column + 1u];
            of.c += field * lower[column];
            of.d += field * lower[column + 1u];
        }
    }
    return of;
}

static inline void put_row(uint32_t bytes, uint32_t *to) {
    uint8_t *const row = (uint8_t *)to;
    row[0] = (uint8_t)bytes;
    row[1] = (uint8_t)(bytes >> 8);
    row[2] = (uint8_t)(bytes >> 16);
    row[3] = (uint8_t)(bytes >> 24);
}

#endif

/* Inline, so that how sums are stored is decided once for all of them. */
static inline void multiply(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums, uint32_t second) {
    const uint32_t weight = 0u - matrix->zero_point;
    const four corrections = {weight * shown[0], weight * shown[1], weight * shown[2], weight * shown[3]};
    const uint32_t outputs = matrix->rows;
    uint32_t output;
    for (output = 0; output < outputs; ++output) {
        const uint32_t *const words =
            matrix->words + (output + output / ROWS_PER_BLOCK * (ROWS_PER_BLOCK * (KERNEL - 1u)));
        store(sums++, second, add_products(words, shown + POSITIONS, corrections));
    }
}

/* Four bytes of the row y from column x on; x and y modulo 2^32, what lies before the first is larger than any size. */
static uint32_t four_at(const bitproof_window *window, const uint8_t *image, uint32_t y, uint32_t x) {
    const uint32_t outside = window->outside;
    const uint32_t width = window->width;
    const uint8_t *row;
    uint32_t bytes = 0;
    uint32_t shift;
    if (y >= window->height) {
        return outside * 0x01010101u;
    }
    row = image + y * width;
    for (shift = 0; shift < 32u; shift += 8u, ++x) {
        bytes |= (x < width ? row[x] : outside) << shift;
    }
    return bytes;
}

/* sum + the three lowest bytes. */
static inline uint32_t sum_of_three(uint32_t bytes, uint32_t sum) { return bitproof_add_bytes(bytes & 0xFFFFFFu, sum); }

/* Lay out four rows from y on, and the sums of the bytes that each of the four windows shows. */
static void show(const bitproof_window *window, const uint8_t *image, uint32_t y, uint32_t x, uint32_t *shown) {
    const uint32_t height = window->height;
    const uint32_t width = window->width;
    uint32_t rows[KERNEL + 1u];
    uint32_t left;
    uint32_t right;
    uint32_t i;
    if (y < height && height - y >= 4u && x < width && width - x >= 4u) {
        const uint8_t *const upper = image + (y * width + x);
        rows[0] = bitproof_load4(upper);
        rows[1] = bitproof_load4(upper + width);
        rows[2] = bitproof_load4(upper + 2u * width);
        rows[3] = bitproof_load4(upper + 3u * width);
    } else {
        for (i = 0; i <= KERNEL; ++i) {
            rows[i] = four_at(window, image, y + i, x);
        }
    }
    left = sum_of_three(rows[1], sum_of_three(rows[2], 0));
    right = sum_of_three(rows[1] >> 8, sum_of_three(rows[2] >> 8, 0));
    shown[0] = sum_of_three(rows[0], left);
    shown[1] = sum_of_three(rows[0] >> 8, right);
    shown[2] = sum_of_three(rows[3], left);
    shown[3] = sum_of_three(rows[3] >> 8, right);
    put_row(rows[0], shown + POSITIONS);
    put_row(rows[1], shown + POSITIONS + 2);
    put_row(rows[2], shown + POSITIONS + 4);
    put_row(rows[3], shown + POSITIONS + 6);
}

void bitproof_convolve_squares(const bitproof_window *window, const bitproof_window *pool,
                               const bitproof_square_products *products, const uint8_t *image, uint32_t *shown,
                               int32_t *sums, uint8_t *target) {
    uint32_t row;
    uint32_t column;
    for (row = 0; row < pool->rows; ++row) {
        for (column = 0; column < pool->columns; ++column, target += products->stride) {
            show(window, image, 2u * row - window->top, 2u * column - window->left, shown);
            multiply(products->matrix, shown, sums, BITPROOF_LARGER);
            products->finish(sums, target);
        }
    }
}

void bitproof_multiply_square(const bitproof_window *window, const bitproof_square_products *products,
                              const uint8_t *bytes, uint32_t *shown, int32_t *sums) {
    bitproof_window alone = *window;
    alone.height = alone.width = KERNEL + 1u;
    show(&alone, bytes, 0, 0, shown);
    multiply(products->matrix, shown, sums, products->outputs);
}
