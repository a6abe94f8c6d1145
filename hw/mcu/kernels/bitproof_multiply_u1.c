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
    const uint32_t *const whole = lanes + columns / 4u * 2u;
    const uint32_t *const end = lanes + (columns + BITPROOF_BITS_COLUMNS - 1u) / BITPROOF_BITS_COLUMNS * LANES_OF_WORD;
    uint32_t rest = columns % 4u;
    uint32_t sum = 0;
    uint32_t quad = 0;
    for (; lanes != whole; lanes += 2, codes += 4) {
        quad = bitproof_load4(codes);
        sum = bitproof_add_bytes(quad, sum);
        lanes[0] = bitproof_even_lanes(quad);
        lanes[1] = bitproof_odd_lanes(quad);
    }
    for (quad = 0; rest > 0u; --rest) {
        quad = quad << 8 | codes[rest - 1u];
    }
    for (; lanes != end; lanes += 2, quad = 0) {
        sum = bitproof_add_bytes(quad, sum);
        lanes[0] = bitproof_even_lanes(quad);
        lanes[1] = bitproof_odd_lanes(quad);
    }
    return sum;
}

#if BITPROOF_LANES

#define PRODUCTS(rotation, lane)                                                                                       \
    do {                                                                                                               \
        both01 = bitproof_dual_multiply_add(bitproof_rotate_right(w01, rotation) & mask, lane, both01);                \
        both23 = bitproof_dual_multiply_add(bitproof_rotate_right(w23, rotation) & mask, lane, both23);                \
    } while (0)

#define FOUR_LANES(rotation)                                                                                           \
    do {                                                                                                               \
        BITPROOF_TAKE_FOUR(lanes, a, b, c, d);                                                                         \
        PRODUCTS(rotation, a);                                                                                         \
        PRODUCTS((rotation) + 2, b);                                                                                   \
        PRODUCTS((rotation) + 4, c);                                                                                   \
        PRODUCTS((rotation) + 6, d);                                                                                   \
    } while (0)

#define WORDS                                                                                                          \
    do {                                                                                                               \
        uint32_t w01, w23;                                                                                             \
        BITPROOF_TAKE_TWO(words, 2, w01, w23);                                                                         \
        FOUR_LANES(0);                                                                                                 \
        FOUR_LANES(8);                                                                                                 \
    } while (0)

/* Add to sums[0..3] the products of `count` words of each two rows of a block. */
static BITPROOF_IN_LINE void add_words(const uint32_t *words, const uint32_t *lanes, uint32_t count,
                                       uint32_t sums[BITPROOF_BLOCK_ROWS]) {
    const uint32_t mask = bitproof_in_register(BITPROOF_BITS_OF_BOTH);
    const uint32_t *const end = words + 2u * count;
    uint32_t both01 = 0, both23 = 0;
    uint32_t s0, s1, s2, s3;
    if (count % 2u != 0u) {
        WORDS;
    }
    while (words != end) {
        WORDS;
        WORDS;
    }
    BITPROOF_BITS_SPLIT(both01, s0, s1);
    BITPROOF_BITS_SPLIT(both23, s2, s3);
    sums[0] += s0;
    sums[1] += s1;
    sums[2] += s2;
    sums[3] += s3;
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

static BITPROOF_IN_LINE void add_words(const uint32_t *words, const uint32_t *lanes, uint32_t count,
                                       uint32_t sums[BITPROOF_BLOCK_ROWS]) {
    const uint32_t mask = bitproof_in_register(BITPROOF_BITS_OF_ONE);
    const uint32_t *const end = words + 2u * count;
    uint32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    do {
        uint32_t w01, w23;
        BITPROOF_TAKE_TWO(words, 2, w01, w23);
        BITPROOF_BITS_ALL(LANES);
    } while (words != end);
    sums[0] += s0 >> 16;
    sums[1] += s1 >> 16;
    sums[2] += s2 >> 16;
    sums[3] += s3 >> 16;
}

#endif

/* The same of all blocks. */
static void add_to_all(const uint32_t *words, uint32_t words_of_block, const uint32_t *lanes, uint32_t count,
                       uint32_t blocks, uint32_t *sums) {
    for (; blocks > 0u; --blocks, words += words_of_block, sums += BITPROOF_BLOCK_ROWS) {
        add_words(words, lanes, count, sums);
    }
}

void bitproof_multiply_u1(const bitproof_matrix *matrix, const uint8_t *codes, int32_t *accumulators) {
    const uint32_t most = (matrix->run < MOST_WORDS ? matrix->run : MOST_WORDS) * BITPROOF_BITS_COLUMNS;
    const uint32_t words_of_block = 2u * ((matrix->columns + BITPROOF_BITS_COLUMNS - 1u) / BITPROOF_BITS_COLUMNS);
    const uint32_t blocks = matrix->rows / BITPROOF_BLOCK_ROWS;
    const uint32_t whole = blocks * BITPROOF_BLOCK_ROWS;
    const uint32_t step = matrix->step;
    uint32_t *sums = (uint32_t *)accumulators;
    const uint32_t *const end = sums + whole;
    uint32_t last[BITPROOF_BLOCK_ROWS] = {0};
    uint32_t lanes[MOST_WORDS * LANES_OF_WORD];
    const uint32_t nothing = bitproof_in_register(0); /* a known 0 would become a call of memset */
    uint32_t of_codes = 0;
    uint32_t first;
    uint32_t i;
    for (i = 0; i < whole; i += BITPROOF_BLOCK_ROWS) {
        sums[i] = nothing;
        sums[i + 1u] = nothing;
        sums[i + 2u] = nothing;
        sums[i + 3u] = nothing;
    }
    for (first = 0; first < matrix->columns; first += most) {
        const uint32_t *const words = matrix->words + first / BITPROOF_BITS_COLUMNS * 2u;
        const uint32_t columns = matrix->columns - first < most ? matrix->columns - first : most;
        const uint32_t count = (columns + BITPROOF_BITS_COLUMNS - 1u) / BITPROOF_BITS_COLUMNS;
        of_codes += lay_out(codes + first, columns, lanes);
        add_to_all(words, words_of_block, lanes, count, blocks, sums);
        if (whole != matrix->rows) {
            add_to_all(words + blocks * words_of_block, 0, lanes, count, 1u, last);
        }
    }
    of_codes = 0u - matrix->zero_point * of_codes;
    for (; sums != end; sums += BITPROOF_BLOCK_ROWS) {
        sums[0] = bitproof_multiply_add(step, sums[0], of_codes);
        sums[1] = bitproof_multiply_add(step, sums[1], of_codes);
        sums[2] = bitproof_multiply_add(step, sums[2], of_codes);
        sums[3] = bitproof_multiply_add(step, sums[3], of_codes);
    }
    for (i = 0; i < matrix->rows - whole; ++i) {
        sums[i] = bitproof_multiply_add(step, last[i], of_codes);
    }
}
