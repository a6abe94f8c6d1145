/* Products of 8-bit fields, 4 columns of one row to a word, and what two windows show. */
#include "bitproof_pairs.h"

/* Two words at a time, the odd one first. */
#define STEPS                                                                                                          \
    if (((end - words) & 4) != 0) {                                                                                    \
        BITPROOF_PAIR_STEP(BITPROOF_PAIR_QUAD(8, 0));                                                                  \
    }                                                                                                                  \
    while (words != end) {                                                                                             \
        BITPROOF_PAIR_STEP(BITPROOF_PAIR_QUAD(8, 0));                                                                  \
        BITPROOF_PAIR_STEP(BITPROOF_PAIR_QUAD(8, 0));                                                                  \
    }

#if BITPROOF_LANES

void bitproof_multiply_pair_u8(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums, uint32_t second) {
    BITPROOF_PAIR_KERNEL(4u, 0x00FF00FFu, STEPS)
}

#else

static void multiply_small(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums, uint32_t second) {
    BITPROOF_PAIR_KERNEL(4u, 0x00FF00FFu, STEPS)
}

/* Two columns of which even the products of one word would reach 2^16: one by one. */
static inline uint32_t add_both(uint32_t fields, uint32_t lanes, uint32_t sum) {
    return sum + (fields & 0xFFu) * (lanes >> 16) + ((fields >> 16) & 0xFFu) * (lanes & 0xFFFFu);
}

static void multiply_large(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums, uint32_t second) {
    const uint32_t groups = (matrix->columns + 3u) / 4u;
    const uint32_t of_first = 0u - matrix->zero_point * shown[0];
    const uint32_t of_second = 0u - matrix->zero_point * shown[1];
    uint32_t row;
    for (row = 0; row < matrix->rows; ++row) {
        const uint32_t *words = matrix->words + row / BITPROOF_BLOCK_ROWS * BITPROOF_BLOCK_ROWS * groups;
        const uint32_t *lanes = shown + BITPROOF_PAIR_HEAD;
        uint32_t first = of_first;
        uint32_t other = of_second;
        uint32_t left;
        words += row % BITPROOF_BLOCK_ROWS;
        for (left = groups; left > 0u; --left, words += BITPROOF_BLOCK_ROWS, lanes += 4) {
            const uint32_t word = *words;
            first = add_both(word, lanes[0], first);
            other = add_both(word, lanes[1], other);
            first = add_both(word >> 8, lanes[2], first);
            other = add_both(word >> 8, lanes[3], other);
        }
        bitproof_store_pair(sums + row, second, first, other);
    }
}

void bitproof_multiply_pair_u8(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums, uint32_t second) {
    if (matrix->run > 0u) {
        multiply_small(matrix, shown, sums, second);
    } else {
        multiply_large(matrix, shown, sums, second);
    }
}

#endif
