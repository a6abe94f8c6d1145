/* Private to the kernels: the walk over blocks of four rows, common to all packings of the weights. */
#ifndef BITPROOF_BLOCKS_H
#define BITPROOF_BLOCKS_H

#include "bitproof_kernels.h"
#include "bitproof_lanes.h"

#define BITPROOF_BLOCK_ROWS 4u
#define BITPROOF_MOST_COLUMNS_PER_WORD 16u

/* Add to sums[0..3] the products of `groups` groups of columns of one block of rows. */
typedef void (*bitproof_block)(const bitproof_matrix *matrix, const uint32_t *words, const uint8_t *codes,
                               uint32_t groups, uint32_t sums[BITPROOF_BLOCK_ROWS]);

static inline uint32_t bitproof_sum_of_codes(const uint8_t *codes, uint32_t count) {
    uint32_t sum = 0;
#if BITPROOF_LANES
    for (; count >= 4u; count -= 4u, codes += 4) {
        const uint32_t quad = bitproof_load4(codes);
        sum = bitproof_dual_multiply_add(0x00010001u, bitproof_even_bytes(quad), sum);
        sum = bitproof_dual_multiply_add(0x00010001u, bitproof_odd_bytes(quad), sum);
    }
#endif
    for (; count > 0u; --count) {
        sum += *codes++;
    }
    return sum;
}

/*
 * accumulators = weights * codes. The columns of the last group that the matrix does not have meet codes of 0, read
 * from a copy: nothing outside `codes` is read.
 */
static inline void bitproof_walk_blocks(const bitproof_matrix *matrix, const uint8_t *codes, int32_t *accumulators,
                                        uint32_t columns_per_word, uint32_t words_per_group, bitproof_block block) {
    const uint32_t groups = matrix->columns / columns_per_word;
    const uint32_t rest = matrix->columns % columns_per_word;
    const uint32_t correction = matrix->zero_point * bitproof_sum_of_codes(codes, matrix->columns);
    const uint32_t *words = matrix->words;
    uint8_t last[BITPROOF_MOST_COLUMNS_PER_WORD] = {0};
    uint32_t row;
    uint32_t i;

    for (i = 0; i < rest; ++i) {
        last[i] = codes[groups * columns_per_word + i];
    }
    for (row = 0; row < matrix->rows; row += BITPROOF_BLOCK_ROWS) {
        uint32_t sums[BITPROOF_BLOCK_ROWS] = {0};
        block(matrix, words, codes, groups, sums);
        words += groups * words_per_group;
        if (rest > 0u) {
            block(matrix, words, last, 1u, sums);
            words += words_per_group;
        }
        for (i = 0; i < BITPROOF_BLOCK_ROWS && row + i < matrix->rows; ++i) {
            accumulators[row + i] = (int32_t)(sums[i] - correction);
        }
    }
}

#endif
