/* Products of ternary weights, 8 columns of two rows to a word, and what two windows show. */
#include "bitproof_pairs.h"
#include "bitproof_ternary.h"

#if BITPROOF_LANES

#define LANES(rotation)                                                                                                \
    do {                                                                                                               \
        uint32_t a, b, fields;                                                                                         \
        BITPROOF_TAKE_TWO(shown, 2, a, b);                                                                             \
        fields = bitproof_rotate_right(w01, rotation) & mask;                                                          \
        a01 = bitproof_dual_multiply_add(fields, a, a01);                                                              \
        b01 = bitproof_dual_multiply_add(fields, b, b01);                                                              \
        fields = bitproof_rotate_right(w23, rotation) & mask;                                                          \
        a23 = bitproof_dual_multiply_add(fields, a, a23);                                                              \
        b23 = bitproof_dual_multiply_add(fields, b, b23);                                                              \
    } while (0)

/* Add to sums[row] of the first window, sums[4 + row] of the second, what `run` words of each two rows give. */
static const uint32_t *add_run(const uint32_t *words, const uint32_t *shown, uint32_t run, uint32_t sums[8]) {
    const uint32_t mask = bitproof_in_register(0x30033003u);
    const uint32_t *const end = words + 2u * run;
    uint32_t a01 = 0, a23 = 0, b01 = 0, b23 = 0;
    do {
        uint32_t w01, w23;
        BITPROOF_TAKE_TWO(words, 2, w01, w23);
        LANES(0);
        LANES(2);
        LANES(8);
        LANES(10);
    } while (words != end);
    sums[0] += a01 & BITPROOF_ROW_MASK;
    sums[1] += a01 >> BITPROOF_ROW_BITS;
    sums[2] += a23 & BITPROOF_ROW_MASK;
    sums[3] += a23 >> BITPROOF_ROW_BITS;
    sums[4] += b01 & BITPROOF_ROW_MASK;
    sums[5] += b01 >> BITPROOF_ROW_BITS;
    sums[6] += b23 & BITPROOF_ROW_MASK;
    sums[7] += b23 >> BITPROOF_ROW_BITS;
    return words;
}

void bitproof_multiply_pair_ternary(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums,
                                    uint32_t second) {
    const uint32_t groups = (matrix->columns + 7u) / 8u;
    const uint32_t of_first = 0u - matrix->zero_point * shown[0];
    const uint32_t of_second = 0u - matrix->zero_point * shown[1];
    const uint32_t *words = matrix->words;
    uint32_t row;
    uint32_t i;
    for (row = 0; row < matrix->rows; row += BITPROOF_BLOCK_ROWS) {
        const uint32_t *lanes = shown + BITPROOF_PAIR_HEAD;
        uint32_t of_rows[8];
        uint32_t left = groups;
        for (i = 0; i < BITPROOF_BLOCK_ROWS; ++i) {
            of_rows[i] = of_first;
            of_rows[4u + i] = of_second;
        }
        while (left > 0u) {
            const uint32_t run = left < matrix->ternary_run ? left : matrix->ternary_run;
            words = add_run(words, lanes, run, of_rows);
            lanes += 8u * run;
            left -= run;
        }
        for (i = 0; i < BITPROOF_BLOCK_ROWS && row + i < matrix->rows; ++i) {
            bitproof_store_pair(sums + row + i, second, of_rows[i], of_rows[4u + i]);
        }
    }
}

#else

void bitproof_multiply_pair_ternary(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums,
                                    uint32_t second) {
    const bitproof_block block =
        matrix->ternary_run > 1u ? bitproof_ternary_block_of_runs : bitproof_ternary_block_of_single_words;
    bitproof_walk_pair(matrix, shown, sums, second, 8u, 2u, block);
}

#endif
