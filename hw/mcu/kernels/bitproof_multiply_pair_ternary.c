/* Products of ternary weights, 8 columns of two rows to a word, and what two windows show. */
#include "bitproof_pairs.h"
#include "bitproof_ternary.h"

#define SPLIT(both, first, second)                                                                                     \
    do {                                                                                                               \
        (first) = (both)&BITPROOF_ROW_MASK;                                                                            \
        (second) = (both) >> BITPROOF_ROW_BITS;                                                                        \
    } while (0)

#define LANES(rotation) BITPROOF_ROWS_LANES(rotation, BITPROOF_ROW_BITS)

static BITPROOF_IN_LINE bitproof_sums_of_block take_run(const uint32_t *words, const uint32_t *shown, uint32_t run) {
    bitproof_sums_of_block sums;
    BITPROOF_ROWS_RUN(0x30033003u, 0x00030003u, SPLIT, LANES(0); LANES(2); LANES(8); LANES(10));
    return sums;
}

void bitproof_multiply_pair_ternary(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums,
                                    uint32_t second) {
    bitproof_walk_rows(matrix, shown, sums, second, 8u, take_run);
}
