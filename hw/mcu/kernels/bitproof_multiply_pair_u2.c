/* Products of 2-bit fields, 16 columns of one row to a word, and what two windows show. */
#include "bitproof_pairs.h"

#define STEPS                                                                                                          \
    do {                                                                                                               \
        BITPROOF_PAIR_STEP(BITPROOF_PAIR_QUAD(2, 0); BITPROOF_PAIR_QUAD(2, 1); BITPROOF_PAIR_QUAD(2, 2);               \
                           BITPROOF_PAIR_QUAD(2, 3));                                                                  \
    } while (words != end)

void bitproof_multiply_pair_u2(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums, uint32_t second) {
    BITPROOF_PAIR_KERNEL(16u, 0x00030003u, STEPS)
}
