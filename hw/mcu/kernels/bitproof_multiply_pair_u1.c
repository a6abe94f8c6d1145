/* Products of 1-bit fields, 16 columns of two rows to a word, and what two windows show. */
#include "bitproof_bits.h"
#include "bitproof_pairs.h"

#define LANES(rotation) BITPROOF_ROWS_LANES(rotation, BITPROOF_BITS_DISTANCE)

static BITPROOF_IN_LINE bitproof_sums_of_block take_run(const uint32_t *words, const uint32_t *shown, uint32_t run) {
    bitproof_sums_of_block sums;
    BITPROOF_ROWS_RUN(BITPROOF_BITS_OF_BOTH, BITPROOF_BITS_OF_ONE, BITPROOF_BITS_SPLIT, BITPROOF_BITS_ALL(LANES));
    return sums;
}

void bitproof_multiply_pair_u1(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums, uint32_t second) {
    bitproof_walk_rows(matrix, shown, sums, second, BITPROOF_BITS_COLUMNS, take_run);
}
