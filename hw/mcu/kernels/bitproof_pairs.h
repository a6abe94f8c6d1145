/*
 * Private to the kernels: the walk over the rows of a matrix that is multiplied by what two windows show at once,
 * common to all packings of the weights. A weight is loaded and unpacked once for both.
 */
#ifndef BITPROOF_PAIRS_H
#define BITPROOF_PAIRS_H

#include "bitproof_blocks.h"

#define BITPROOF_PAIR_HEAD 2u

static inline int32_t bitproof_larger(int32_t one, int32_t other) { return one > other ? one : other; }

/* Store the sums of one row for both windows, or the larger, see bitproof_multiplies_pair. */
static inline void bitproof_store_pair(int32_t *sums, uint32_t second, uint32_t of_first, uint32_t of_second) {
    if (second == BITPROOF_LARGER || second == BITPROOF_LARGEST) {
        const int32_t larger = bitproof_larger((int32_t)of_first, (int32_t)of_second);
        sums[0] = second == BITPROOF_LARGEST ? bitproof_larger(sums[0], larger) : larger;
    } else {
        sums[0] = (int32_t)of_first;
        sums[second] = (int32_t)of_second;
    }
}

/*
 * Two rows of fields of 2, 4 or 8 bits (bitproof_fields.h) times four columns of two windows. The macros take the words
 * w0, w1 of the rows, their sums a0, a1 of the first window and b0, b1 of the second, the mask of a field in both
 * halves of a word, and `shown`.
 */
#define BITPROOF_PAIR_LANES(shift)                                                                                     \
    do {                                                                                                               \
        uint32_t a, b, field;                                                                                          \
        BITPROOF_TAKE_TWO(shown, 2, a, b);                                                                             \
        field = (w0 >> (shift)) & mask;                                                                                \
        a0 = bitproof_add_products(field, a, a0);                                                                      \
        b0 = bitproof_add_products(field, b, b0);                                                                      \
        field = (w1 >> (shift)) & mask;                                                                                \
        a1 = bitproof_add_products(field, a, a1);                                                                      \
        b1 = bitproof_add_products(field, b, b1);                                                                      \
    } while (0)

#define BITPROOF_PAIR_QUAD(bits, quad)                                                                                 \
    BITPROOF_PAIR_LANES(2 * (quad) * (bits));                                                                          \
    BITPROOF_PAIR_LANES(2 * (quad) * (bits) + (bits))

/* A word of each of the two rows; QUADS: for every quad of a word. */
#define BITPROOF_PAIR_STEP(QUADS)                                                                                      \
    do {                                                                                                               \
        uint32_t w0, w1;                                                                                               \
        BITPROOF_TAKE_TWO(words, 4, w0, w1);                                                                           \
        QUADS;                                                                                                         \
    } while (0)

#if BITPROOF_LANES

/* The body of a kernel; STEPS: from `words` to `end`. */
#define BITPROOF_PAIR_KERNEL(columns_per_word, field_mask, STEPS)                                                      \
    const uint32_t mask = bitproof_in_register(field_mask);                                                            \
    const uint32_t of_block = 4u * ((matrix->columns + (columns_per_word)-1u) / (columns_per_word));                   \
    const uint32_t of_first = 0u - matrix->zero_point * shown[0];                                                      \
    const uint32_t of_second = 0u - matrix->zero_point * shown[1];                                                     \
    const uint32_t *const lanes = shown + BITPROOF_PAIR_HEAD;                                                          \
    const uint32_t *words = matrix->words;                                                                             \
    uint32_t back = of_block - 2u; /* from behind rows 0 and 1 of a block to rows 2 and 3; 2: to the next block */     \
    uint32_t left = matrix->rows;                                                                                      \
    for (;;) {                                                                                                         \
        const uint32_t *const end = words + of_block;                                                                  \
        uint32_t a0 = of_first, a1 = of_first, b0 = of_second, b1 = of_second;                                         \
        shown = lanes;                                                                                                 \
        STEPS;                                                                                                         \
        words -= back;                                                                                                 \
        back = of_block - back;                                                                                        \
        bitproof_store_pair(sums, second, a0, b0);                                                                     \
        if (left < 2u) {                                                                                               \
            return;                                                                                                    \
        }                                                                                                              \
        bitproof_store_pair(sums + 1, second, a1, b1);                                                                 \
        sums += 2;                                                                                                     \
        left -= 2u;                                                                                                    \
        if (left == 0u) {                                                                                              \
            return;                                                                                                    \
        }                                                                                                              \
    }

#else

/* The same; after `run` words of each row the sums are taken from the upper halves. */
#define BITPROOF_PAIR_KERNEL(columns_per_word, field_mask, STEPS)                                                      \
    const uint32_t mask = bitproof_in_register(field_mask);                                                            \
    const uint32_t groups = (matrix->columns + (columns_per_word)-1u) / (columns_per_word);                            \
    const uint32_t of_first = 0u - matrix->zero_point * shown[0];                                                      \
    const uint32_t of_second = 0u - matrix->zero_point * shown[1];                                                     \
    const uint32_t *const lanes = shown + BITPROOF_PAIR_HEAD;                                                          \
    const uint32_t *words = matrix->words;                                                                             \
    uint32_t back = 4u * groups - 2u; /* from behind rows 0 and 1 of a block to rows 2 and 3; 2: to the next block */  \
    uint32_t left = matrix->rows;                                                                                      \
    for (;;) {                                                                                                         \
        uint32_t of_rows[4] = {of_first, of_first, of_second, of_second};                                              \
        uint32_t todo = groups;                                                                                        \
        shown = lanes;                                                                                                 \
        while (todo > 0u) {                                                                                            \
            const uint32_t run = todo < matrix->run ? todo : matrix->run;                                              \
            const uint32_t *const end = words + 4u * run;                                                              \
            uint32_t a0 = 0, a1 = 0, b0 = 0, b1 = 0;                                                                   \
            todo -= run;                                                                                               \
            STEPS;                                                                                                     \
            of_rows[0] += a0 >> 16;                                                                                    \
            of_rows[1] += a1 >> 16;                                                                                    \
            of_rows[2] += b0 >> 16;                                                                                    \
            of_rows[3] += b1 >> 16;                                                                                    \
        }                                                                                                              \
        words -= back;                                                                                                 \
        back = 4u * groups - back;                                                                                     \
        bitproof_store_pair(sums, second, of_rows[0], of_rows[2]);                                                     \
        if (left < 2u) {                                                                                               \
            return;                                                                                                    \
        }                                                                                                              \
        bitproof_store_pair(sums + 1, second, of_rows[1], of_rows[3]);                                                 \
        sums += 2;                                                                                                     \
        left -= 2u;                                                                                                    \
        if (left == 0u) {                                                                                              \
            return;                                                                                                    \
        }                                                                                                              \
    }

#endif

#endif
