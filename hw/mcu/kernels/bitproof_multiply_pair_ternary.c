/* Products of ternary weights, 8 columns of two rows to a word, and what two windows show. */
#include "bitproof_rows.h"
#include "bitproof_ternary.h"

#define LANES(rotation) BITPROOF_ROWS_LANES(rotation, BITPROOF_ROW_BITS)

#define ALL                                                                                                            \
    LANES(0);                                                                                                          \
    LANES(2);                                                                                                          \
    LANES(8);                                                                                                          \
    LANES(10)

static BITPROOF_IN_LINE void split(uint32_t both, uint32_t *first, uint32_t *second) {
    *first = both & BITPROOF_ROW_MASK;
    *second = both >> BITPROOF_ROW_BITS;
}

static BITPROOF_IN_LINE bitproof_taken take_run(const uint32_t *words, const uint32_t *shown, uint32_t run,
                                                uint32_t half) {
    BITPROOF_ROWS_RUN(0x30033003u, 0x00030003u, ALL, ALL);
}

BITPROOF_DEFINE_STORE(store, split)

void bitproof_multiply_pair_ternary(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums,
                                    uint32_t second) {
    const bitproof_row_kernel kernel = {8u, 0u, take_run, split, store};
    bitproof_walk_rows(matrix, shown, sums, second, kernel);
}
