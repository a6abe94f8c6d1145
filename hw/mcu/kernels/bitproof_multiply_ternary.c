/* Matrix-vector product over ternary weights: 8 columns of two rows to a word. */
#include "bitproof_ternary.h"

void bitproof_multiply_ternary(const bitproof_matrix *matrix, const uint8_t *codes, int32_t *accumulators) {
    const bitproof_block block =
        matrix->run > 1u ? bitproof_ternary_block_of_runs : bitproof_ternary_block_of_single_words;
    bitproof_walk_blocks(matrix, codes, accumulators, 8u, 2u, block);
}
