/* Products of 4-bit fields, 8 columns of one row to a word, and what two windows show. */
#include "bitproof_pairs.h"

#define STEPS                                                                                                          \
    do {                                                                                                               \
        BITPROOF_PAIR_STEP(BITPROOF_PAIR_QUAD(4, 0); BITPROOF_PAIR_QUAD(4, 1));                                        \
    } while (words != end)

void bitproof_multiply_pair_u4(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums, uint32_t second) {
    BITPROOF_PAIR_KERNEL(8u, 0x000F000Fu, STEPS)
}
