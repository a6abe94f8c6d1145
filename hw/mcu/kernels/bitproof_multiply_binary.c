/* Matrix-vector product over 1-bit fields and codes of one bit: ones of both are counted, see bitproof_binary.h. */
#include "bitproof_binary.h"

/* Pack `columns` codes, and codes 0 up to whole words; return the sum of the codes. */
static uint32_t pack(const uint8_t *codes, uint32_t columns, uint32_t *packed) {
    uint32_t sum = 0;
    for (; columns >= BITPROOF_BINARY_COLUMNS; columns -= BITPROOF_BINARY_COLUMNS, ++packed) {
        uint32_t word = 0;
        uint32_t quads;
        for (quads = 8; quads > 0u; --quads, codes += 4) {
            const uint32_t quad = bitproof_load4(codes);
            word = (word << 1) | quad;
            sum = bitproof_add_bytes(quad, sum);
        }
        *packed = word;
    }
    if (columns > 0u) {
        uint32_t word = 0;
        uint32_t i;
        for (i = 0; i < columns; ++i) {
            word |= (uint32_t)codes[i] << (8u * (i % 4u) + 7u - i / 4u);
            sum += codes[i];
        }
        *packed = word;
    }
    return sum;
}

void bitproof_multiply_binary(const bitproof_matrix *matrix, const uint8_t *codes, int32_t *accumulators) {
    const bitproof_counting_masks of = bitproof_masks_of_counts();
    const uint32_t groups = (matrix->columns + BITPROOF_BINARY_COLUMNS - 1u) / BITPROOF_BINARY_COLUMNS;
    const uint32_t step = matrix->step;
    uint32_t packed[BITPROOF_BINARY_CHUNK];
    uint32_t first;
    uint32_t row;
    for (row = 0; row < matrix->rows; ++row) {
        accumulators[row] = 0;
    }
    for (first = 0; first < groups; first += BITPROOF_BINARY_CHUNK) {
        const uint32_t count = groups - first < BITPROOF_BINARY_CHUNK ? groups - first : BITPROOF_BINARY_CHUNK;
        const uint32_t rest = matrix->columns - first * BITPROOF_BINARY_COLUMNS;
        const uint32_t most = BITPROOF_BINARY_CHUNK * BITPROOF_BINARY_COLUMNS;
        const uint32_t sum = pack(codes + first * BITPROOF_BINARY_COLUMNS, rest < most ? rest : most, packed);
        const uint32_t correction = matrix->zero_point * sum;
        for (row = 0; row < matrix->rows; ++row) {
            const uint32_t of_block = row / BITPROOF_BLOCK_ROWS * groups + first;
            const uint32_t *const words = matrix->words + (BITPROOF_BLOCK_ROWS * of_block + row % BITPROOF_BLOCK_ROWS);
            const uint32_t common = bitproof_count_common(words, packed, 1u, count, &of);
            accumulators[row] = (int32_t)((uint32_t)accumulators[row] + (step * common - correction));
        }
    }
}
