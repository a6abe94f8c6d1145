/*
 * Matrix-vector product over 1-bit fields: 16 columns of two rows to a word, see bitproof_bits.h.
 *
 * The lanes of up to 256 codes at a time are laid out once for all rows.
 */
#include "bitproof_bits.h"
#include "bitproof_blocks.h"

#define MOST_WORDS 16u
#define LANES_OF_WORD (BITPROOF_BITS_COLUMNS / 2u)

/* Lay out the lanes of `columns` codes, and of codes 0 up to whole words; return the sum of the codes. */
static uint32_t lay_out(const uint8_t *codes, uint32_t columns, uint32_t *lanes) {
    const uint32_t *const end = lanes + (columns + BITPROOF_BITS_COLUMNS - 1u) / BITPROOF_BITS_COLUMNS * LANES_OF_WORD;
    uint32_t sum = 0;
    uint32_t quad = 0;
    for (; columns >= 4u; columns -= 4u, codes += 4) {
        quad = bitproof_load4(codes);
        sum = bitproof_add_bytes(quad, sum);
        *lanes++ = bitproof_even_lanes(quad);
        *lanes++ = bitproof_odd_lanes(quad);
    }
    for (quad = 0; columns > 0u; --columns) {
        quad = quad << 8 | codes[columns - 1u];
    }
    for (; lanes != end; quad = 0) {
        sum = bitproof_add_bytes(quad, sum);
        *lanes++ = bitproof_even_lanes(quad);
        *lanes++ = bitproof_odd_lanes(quad);
    }
    return sum;
}

#if BITPROOF_LANES

#define PRODUCTS(rotation, lane)                                                                                       \
    do {                                                                                                               \
        both01 = bitproof_dual_multiply_add(bitproof_rotate_right(w01, rotation) & mask, lane, both01);                \
        both23 = bitproof_dual_multiply_add(bitproof_rotate_right(w23, rotation) & mask, lane, both23);                \
    } while (0)

#define TWO_LANES(rotation)                                                                                            \
    do {                                                                                                               \
        uint32_t even, odd;                                                                                            \
        BITPROOF_TAKE_TWO(lanes, 2, even, odd);                                                                        \
        PRODUCTS(rotation, even);                                                                                      \
        PRODUCTS((rotation) + 2, odd);                                                                                 \
    } while (0)

/* Leave in sums[0..3] the products of `count` words of each two rows of a block. */
static inline void multiply_words(const uint32_t *words, const uint32_t *lanes, uint32_t count,
                                  uint32_t sums[BITPROOF_BLOCK_ROWS]) {
    const uint32_t mask = bitproof_in_register(BITPROOF_BITS_OF_BOTH);
    const uint32_t *const end = words + 2u * count;
    uint32_t both01 = 0, both23 = 0;
    do {
        uint32_t w01, w23;
        BITPROOF_TAKE_TWO(words, 2, w01, w23);
        TWO_LANES(0);
        TWO_LANES(4);
        TWO_LANES(8);
        TWO_LANES(12);
    } while (words != end);
    BITPROOF_BITS_SPLIT(both01, sums[0], sums[1]);
    BITPROOF_BITS_SPLIT(both23, sums[2], sums[3]);
}

#else

#define FIELDS(word, rotation) (bitproof_rotate_right(word, rotation) & mask)

#define LANES(rotation)                                                                                                \
    do {                                                                                                               \
        const uint32_t lane = *lanes++;                                                                                \
        s0 = bitproof_add_products(FIELDS(w01, rotation), lane, s0);                                                   \
        s1 = bitproof_add_products(FIELDS(w01, ((rotation) + BITPROOF_BITS_DISTANCE) % 32), lane, s1);                 \
        s2 = bitproof_add_products(FIELDS(w23, rotation), lane, s2);                                                   \
        s3 = bitproof_add_products(FIELDS(w23, ((rotation) + BITPROOF_BITS_DISTANCE) % 32), lane, s3);                 \
    } while (0)

static inline void multiply_words(const uint32_t *words, const uint32_t *lanes, uint32_t count,
                                  uint32_t sums[BITPROOF_BLOCK_ROWS]) {
    const uint32_t mask = bitproof_in_register(BITPROOF_BITS_OF_ONE);
    const uint32_t *const end = words + 2u * count;
    uint32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    do {
        uint32_t w01, w23;
        BITPROOF_TAKE_TWO(words, 2, w01, w23);
        BITPROOF_BITS_ALL(LANES);
    } while (words != end);
    sums[0] = s0 >> 16;
    sums[1] = s1 >> 16;
    sums[2] = s2 >> 16;
    sums[3] = s3 >> 16;
}

#endif

static inline int32_t more(int32_t accumulator, uint32_t step, uint32_t sum, uint32_t correction) {
    return (int32_t)((uint32_t)accumulator + (step * sum - correction));
}

void bitproof_multiply_u1(const bitproof_matrix *matrix, const uint8_t *codes, int32_t *accumulators) {
    const uint32_t most = (matrix->run < MOST_WORDS ? matrix->run : MOST_WORDS) * BITPROOF_BITS_COLUMNS;
    const uint32_t words_of_block = 2u * ((matrix->columns + BITPROOF_BITS_COLUMNS - 1u) / BITPROOF_BITS_COLUMNS);
    const uint32_t step = matrix->step;
    uint32_t lanes[MOST_WORDS * LANES_OF_WORD];
    uint32_t first;
    uint32_t i;
    for (i = 0; i < matrix->rows; ++i) {
        accumulators[i] = 0;
    }
    for (first = 0; first < matrix->columns; first += most) {
        const uint32_t *words = matrix->words + first / BITPROOF_BITS_COLUMNS * 2u;
        const uint32_t columns = matrix->columns - first < most ? matrix->columns - first : most;
        const uint32_t count = (columns + BITPROOF_BITS_COLUMNS - 1u) / BITPROOF_BITS_COLUMNS;
        const uint32_t correction = matrix->zero_point * lay_out(codes + first, columns, lanes);
        int32_t *to = accumulators;
        uint32_t left = matrix->rows;
        uint32_t sums[BITPROOF_BLOCK_ROWS];
        for (; left >= BITPROOF_BLOCK_ROWS; left -= BITPROOF_BLOCK_ROWS, words += words_of_block, to += 4) {
            multiply_words(words, lanes, count, sums);
            to[0] = more(to[0], step, sums[0], correction);
            to[1] = more(to[1], step, sums[1], correction);
            to[2] = more(to[2], step, sums[2], correction);
            to[3] = more(to[3], step, sums[3], correction);
        }
        if (left > 0u) {
            multiply_words(words, lanes, count, sums);
            for (i = 0; i < left; ++i) {
                to[i] = more(to[i], step, sums[i], correction);
            }
        }
    }
}
