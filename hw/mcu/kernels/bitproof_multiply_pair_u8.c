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

/* Two rows of two columns, the products of which would reach 2^16 even in one word: one by one. */
#define SINGLES(shift, lanes_a, lanes_b)                                                                               \
    do {                                                                                                               \
        const uint32_t a_low = (lanes_a) >> 16, a_high = (lanes_a)&0xFFu;                                              \
        const uint32_t b_low = (lanes_b) >> 16, b_high = (lanes_b)&0xFFu;                                              \
        uint32_t field = (w0 >> (shift)) & 0xFFu;                                                                      \
        a0 = bitproof_multiply_add(field, a_low, a0);                                                                  \
        b0 = bitproof_multiply_add(field, b_low, b0);                                                                  \
        field = (w0 >> ((shift) + 16)) & 0xFFu;                                                                        \
        a0 = bitproof_multiply_add(field, a_high, a0);                                                                 \
        b0 = bitproof_multiply_add(field, b_high, b0);                                                                 \
        field = (w1 >> (shift)) & 0xFFu;                                                                               \
        a1 = bitproof_multiply_add(field, a_low, a1);                                                                  \
        b1 = bitproof_multiply_add(field, b_low, b1);                                                                  \
        field = (w1 >> ((shift) + 16)) & 0xFFu;                                                                        \
        a1 = bitproof_multiply_add(field, a_high, a1);                                                                 \
        b1 = bitproof_multiply_add(field, b_high, b1);                                                                 \
    } while (0)

static void multiply_large(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums, uint32_t second) {
    const uint32_t groups = (matrix->columns + 3u) / 4u;
    const uint32_t of_first = 0u - matrix->zero_point * shown[0];
    const uint32_t of_second = 0u - matrix->zero_point * shown[1];
    uint32_t row;
    for (row = 0; row < matrix->rows; row += 2) {
        const uint32_t of_block = row / BITPROOF_BLOCK_ROWS * BITPROOF_BLOCK_ROWS * groups;
        const uint32_t *words = matrix->words + (of_block + row % BITPROOF_BLOCK_ROWS);
        const uint32_t *const end = words + BITPROOF_BLOCK_ROWS * groups;
        const uint32_t *lanes = shown + BITPROOF_PAIR_HEAD;
        uint32_t a0 = of_first, a1 = of_first, b0 = of_second, b1 = of_second;
        for (; words != end; words += BITPROOF_BLOCK_ROWS, lanes += 4) {
            const uint32_t w0 = words[0], w1 = words[1];
            SINGLES(0, lanes[0], lanes[1]);
            SINGLES(8, lanes[2], lanes[3]);
        }
        bitproof_store_pair(sums + row, second, a0, b0);
        if (row + 1u < matrix->rows) {
            bitproof_store_pair(sums + row + 1u, second, a1, b1);
        }
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
