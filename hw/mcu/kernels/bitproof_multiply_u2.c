/* Matrix-vector product over 2-bit fields: 16 columns of one row to a word. */
#include "bitproof_blocks.h"
#include "bitproof_fields.h"

static void block(const bitproof_matrix *matrix, const uint32_t *words, const uint8_t *codes, uint32_t groups,
                  uint32_t sums[BITPROOF_BLOCK_ROWS]) {
    BITPROOF_FIELD_BLOCK(16, 0x00030003u, BITPROOF_QUAD(2, 0); BITPROOF_QUAD(2, 1); BITPROOF_QUAD(2, 2);
                         BITPROOF_QUAD(2, 3));
}

void bitproof_multiply_u2(const bitproof_matrix *matrix, const uint8_t *codes, int32_t *accumulators) {
    bitproof_walk_blocks(matrix, codes, accumulators, 16u, 4u, block);
}
