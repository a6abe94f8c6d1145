/* Products of 8-bit fields, 4 columns of one row to a word, and what two windows show. */
#include "bitproof_fields.h"
#include "bitproof_pairs.h"

#if BITPROOF_LANES

/* Two words at a time, the odd one first. */
#define STEPS                                                                                                          \
    if ((of_block & 4u) != 0u) {                                                                                       \
        BITPROOF_PAIR_STEP(BITPROOF_PAIR_QUAD(8, 0));                                                                  \
    }                                                                                                                  \
    while (words != end) {                                                                                             \
        BITPROOF_PAIR_STEP(BITPROOF_PAIR_QUAD(8, 0));                                                                  \
        BITPROOF_PAIR_STEP(BITPROOF_PAIR_QUAD(8, 0));                                                                  \
    }

void bitproof_multiply_pair_u8(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums, uint32_t second) {
    BITPROOF_PAIR_KERNEL(4u, 0x00FF00FFu, STEPS)
}

#else

static void block(const bitproof_matrix *matrix, const uint32_t *words, const uint8_t *codes, uint32_t groups,
                  uint32_t sums[BITPROOF_BLOCK_ROWS]) {
    BITPROOF_FIELD_BLOCK(4, 0x00FF00FFu, BITPROOF_QUAD(8, 0));
}

void bitproof_multiply_pair_u8(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums, uint32_t second) {
    bitproof_walk_pair(matrix, shown, sums, second, 4u, 4u, block);
}

#endif
