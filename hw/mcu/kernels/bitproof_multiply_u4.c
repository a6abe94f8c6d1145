/* Matrix-vector product over 4-bit fields: 8 columns of one row to a word. */
#include "bitproof_blocks.h"
#include "bitproof_fields.h"

static void block(const bitproof_matrix *matrix, const uint32_t *words, const uint8_t *codes, uint32_t groups,
                  uint32_t sums[BITPROOF_BLOCK_ROWS]) {
    BITPROOF_FIELD_BLOCK(8, 0x000F000Fu, BITPROOF_QUAD(4, 0); BITPROOF_QUAD(4, 1));
}

void bitproof_multiply_u4(const bitproof_matrix *matrix, const uint8_t *codes, int32_t *accumulators) {
    bitproof_walk_blocks(matrix, codes, accumulators, 8u, 4u, block);
}
