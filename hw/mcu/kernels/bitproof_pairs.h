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

#if BITPROOF_LANES

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
        a0 = bitproof_dual_multiply_add(field, a, a0);                                                                 \
        b0 = bitproof_dual_multiply_add(field, b, b0);                                                                 \
        field = (w1 >> (shift)) & mask;                                                                                \
        a1 = bitproof_dual_multiply_add(field, a, a1);                                                                 \
        b1 = bitproof_dual_multiply_add(field, b, b1);                                                                 \
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

/* The same with single products, one window after the other. */
static inline void bitproof_walk_pair(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums,
                                      uint32_t second, uint32_t columns_per_word, uint32_t words_per_group,
                                      bitproof_block block) {
    const uint32_t groups = (matrix->columns + columns_per_word - 1u) / columns_per_word;
    const uint8_t *const bytes = (const uint8_t *)(shown + BITPROOF_PAIR_HEAD);
    const uint32_t *words = matrix->words;
    uint32_t row;
    uint32_t i;
    for (row = 0; row < matrix->rows; row += BITPROOF_BLOCK_ROWS, words += groups * words_per_group) {
        uint32_t first[BITPROOF_BLOCK_ROWS] = {0};
        uint32_t other[BITPROOF_BLOCK_ROWS] = {0};
        block(matrix, words, bytes, groups, first);
        block(matrix, words, bytes + groups * columns_per_word, groups, other);
        for (i = 0; i < BITPROOF_BLOCK_ROWS && row + i < matrix->rows; ++i) {
            bitproof_store_pair(sums + row + i, second, first[i] - matrix->zero_point * shown[0],
                                other[i] - matrix->zero_point * shown[1]);
        }
    }
}

#endif

#endif
