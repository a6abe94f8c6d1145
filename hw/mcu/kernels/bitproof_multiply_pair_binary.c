/* Products of 1-bit fields, 32 columns of one row to a word, and what two windows show of codes of one bit. */
#include "bitproof_binary.h"
#include "bitproof_pairs.h"

#define LANES_OF_WORD 32u

/* The codes of 32 columns of a window, whose lanes are every other word. */
static inline uint32_t packed_of(const uint32_t *lanes) {
    const uint32_t *const end = lanes + LANES_OF_WORD;
    uint32_t word = 0;
    for (; lanes != end; lanes += 4) {
        word = (word << 1) | lanes[0] | (lanes[2] << 8);
    }
#if BITPROOF_LANES
    return word;
#else
    return bitproof_rotate_right(word, 16);
#endif
}

void bitproof_pack_pair(uint32_t quads, uint32_t *shown) {
    const uint32_t *lanes = shown + BITPROOF_PAIR_HEAD;
    uint32_t *to = shown + BITPROOF_PAIR_HEAD;
    for (; quads > 0u; quads -= 8u, lanes += LANES_OF_WORD, to += 2) {
        const uint32_t first = packed_of(lanes);
        const uint32_t second = packed_of(lanes + 1);
        to[0] = first;
        to[1] = second;
    }
}

void bitproof_multiply_pair_binary(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums,
                                   uint32_t second) {
    const bitproof_counting_masks of = bitproof_masks_of_counts();
    const uint32_t groups = (matrix->columns + BITPROOF_BINARY_COLUMNS - 1u) / BITPROOF_BINARY_COLUMNS;
    const uint32_t of_first = 0u - matrix->zero_point * shown[0];
    const uint32_t of_second = 0u - matrix->zero_point * shown[1];
    uint32_t row;
    for (row = 0; row < matrix->rows; ++row) {
        const uint32_t of_block = row / BITPROOF_BLOCK_ROWS * groups * BITPROOF_BLOCK_ROWS;
        const uint32_t *words = matrix->words + (of_block + row % BITPROOF_BLOCK_ROWS);
        const uint32_t *packed = shown + BITPROOF_PAIR_HEAD;
        uint32_t first = 0;
        uint32_t other = 0;
        uint32_t left = groups;
        while (left > 0u) {
            const uint32_t count = left < BITPROOF_BINARY_CHUNK ? left : BITPROOF_BINARY_CHUNK;
            first += bitproof_count_common(words, packed, 2u, count, &of);
            other += bitproof_count_common(words, packed + 1, 2u, count, &of);
            words += BITPROOF_BLOCK_ROWS * count;
            packed += 2u * count;
            left -= count;
        }
        bitproof_store_pair(sums + row, second, matrix->step * first + of_first, matrix->step * other + of_second);
    }
}
