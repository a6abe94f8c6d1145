/* Products of 1-bit fields, 16 columns of two rows to a word, and what two windows show. */
#include "bitproof_bits.h"
#include "bitproof_rows.h"

#define LANES(rotation) BITPROOF_ROWS_LANES(rotation, BITPROOF_BITS_DISTANCE)

#define HALF                                                                                                           \
    LANES(0);                                                                                                          \
    LANES(2);                                                                                                          \
    LANES(4);                                                                                                          \
    LANES(6)

static BITPROOF_IN_LINE void split(uint32_t both, uint32_t *first, uint32_t *second) {
    BITPROOF_BITS_SPLIT(both, *first, *second);
}

static BITPROOF_IN_LINE bitproof_taken take_run(const uint32_t *words, const uint32_t *shown, uint32_t run,
                                                uint32_t half) {
    BITPROOF_ROWS_RUN(BITPROOF_BITS_OF_BOTH, BITPROOF_BITS_OF_ONE, BITPROOF_BITS_ALL(LANES), HALF);
}

BITPROOF_DEFINE_STORE(store, split)

void bitproof_multiply_pair_u1(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums, uint32_t second) {
    const uint32_t half = (matrix->columns - 1u) / (BITPROOF_BITS_COLUMNS / 2u) % 2u == 0u;
    const bitproof_row_kernel kernel = {BITPROOF_BITS_COLUMNS, half, take_run, split, store};
    bitproof_walk_rows(matrix, shown, sums, second, kernel);
}
