/* Matrix-vector product over 8-bit fields: 4 columns of one row to a word. */
#include "bitproof_blocks.h"
#include "bitproof_fields.h"

static void block(const bitproof_matrix *matrix, const uint32_t *words, const uint8_t *codes, uint32_t groups,
                  uint32_t sums[BITPROOF_BLOCK_ROWS]) {
    BITPROOF_FIELD_BLOCK(4, 0x00FF00FFu, BITPROOF_QUAD(8, 0));
}

void bitproof_multiply_u8(const bitproof_matrix *matrix, const uint8_t *codes, int32_t *accumulators) {
    bitproof_walk_blocks(matrix, codes, accumulators, 4u, 4u, block);
}
