/*
 * Private to the kernels: products over ternary weights, as fields 0, 1, 2, with 8 columns of two rows to a word.
 *
 * The field of the first row lies 12 bits below that of the second, so one product with a code serves both rows:
 * code * (first + 4096 * second). The two sums are told apart after `run` words, before that of the first row
 * can reach 4096. A group holds the words of rows (0, 1) and of rows (2, 3).
 *
 * In a word rotated right by r the mask 0x30033003 leaves both rows of column i in the low half and of column i + 2
 * in the high half: r = 0 for i = 0, r = 2 for i = 1, r = 8 for i = 4, r = 10 for i = 5.
 */
#ifndef BITPROOF_TERNARY_H
#define BITPROOF_TERNARY_H

#include "bitproof_blocks.h"

#define BITPROOF_ROW_BITS 12
#define BITPROOF_ROW_MASK 0xFFFu

#if BITPROOF_LANES

#define BITPROOF_TERNARY_FIELDS(word, rotation) (bitproof_rotate_right(word, rotation) & mask)

static inline uint32_t bitproof_add_group(uint32_t word, const uint32_t pairs[4], uint32_t both) {
    const uint32_t mask = bitproof_in_register(0x30033003u);
    both = bitproof_dual_multiply_add(word & mask, pairs[0], both);
    both = bitproof_dual_multiply_add(BITPROOF_TERNARY_FIELDS(word, 2), pairs[1], both);
    both = bitproof_dual_multiply_add(BITPROOF_TERNARY_FIELDS(word, 8), pairs[2], both);
    return bitproof_dual_multiply_add(BITPROOF_TERNARY_FIELDS(word, 10), pairs[3], both);
}

static inline uint32_t bitproof_one_group(uint32_t word, const uint32_t pairs[4]) {
    const uint32_t mask = bitproof_in_register(0x30033003u);
    uint32_t both = bitproof_dual_multiply(word & mask, pairs[0]);
    both = bitproof_dual_multiply_add(BITPROOF_TERNARY_FIELDS(word, 2), pairs[1], both);
    both = bitproof_dual_multiply_add(BITPROOF_TERNARY_FIELDS(word, 8), pairs[2], both);
    return bitproof_dual_multiply_add(BITPROOF_TERNARY_FIELDS(word, 10), pairs[3], both);
}

static inline void bitproof_load_group(const uint8_t *codes, uint32_t pairs[4]) {
    const uint32_t first = bitproof_load4(codes);
    const uint32_t second = bitproof_load4(codes + 4);
    pairs[0] = bitproof_even_bytes(first);
    pairs[1] = bitproof_odd_bytes(first);
    pairs[2] = bitproof_even_bytes(second);
    pairs[3] = bitproof_odd_bytes(second);
}

#define BITPROOF_LOADED 4

#else

static inline uint32_t bitproof_add_group(uint32_t word, const uint32_t code[8], uint32_t both) {
    const uint32_t mask = 0x3003u;
    both += (word & mask) * code[0];
    both += (bitproof_rotate_right(word, 2) & mask) * code[1];
    both += (bitproof_rotate_right(word, 16) & mask) * code[2];
    both += (bitproof_rotate_right(word, 18) & mask) * code[3];
    both += (bitproof_rotate_right(word, 8) & mask) * code[4];
    both += (bitproof_rotate_right(word, 10) & mask) * code[5];
    both += (bitproof_rotate_right(word, 24) & mask) * code[6];
    return both + (bitproof_rotate_right(word, 26) & mask) * code[7];
}

static inline uint32_t bitproof_one_group(uint32_t word, const uint32_t code[8]) {
    return bitproof_add_group(word, code, 0);
}

static inline void bitproof_load_group(const uint8_t *codes, uint32_t code[8]) {
    code[0] = codes[0];
    code[1] = codes[1];
    code[2] = codes[2];
    code[3] = codes[3];
    code[4] = codes[4];
    code[5] = codes[5];
    code[6] = codes[6];
    code[7] = codes[7];
}

#define BITPROOF_LOADED 8

#endif

/* Any codes of at most 8 bits: the rows are told apart after every word. */
static inline void bitproof_ternary_block_of_single_words(const bitproof_matrix *matrix, const uint32_t *words,
                                                          const uint8_t *codes, uint32_t groups,
                                                          uint32_t sums[BITPROOF_BLOCK_ROWS]) {
    const uint32_t *const end = words + 2u * groups;
    uint32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    (void)matrix;
    while (words != end) {
        uint32_t loaded[BITPROOF_LOADED];
        uint32_t both;
        bitproof_load_group(codes, loaded);
        codes += 8;
        both = bitproof_one_group(*words++, loaded);
        s0 += both & BITPROOF_ROW_MASK;
        s1 += both >> BITPROOF_ROW_BITS;
        both = bitproof_one_group(*words++, loaded);
        s2 += both & BITPROOF_ROW_MASK;
        s3 += both >> BITPROOF_ROW_BITS;
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

/* Smaller codes: the rows are told apart after `run` words. */
static inline void bitproof_ternary_block_of_runs(const bitproof_matrix *matrix, const uint32_t *words,
                                                  const uint8_t *codes, uint32_t groups,
                                                  uint32_t sums[BITPROOF_BLOCK_ROWS]) {
    while (groups > 0u) {
        const uint32_t run = groups < matrix->run ? groups : matrix->run;
        const uint32_t *const end = words + 2u * run;
        uint32_t both01 = 0;
        uint32_t both23 = 0;
        groups -= run;
        while (words != end) {
            uint32_t loaded[BITPROOF_LOADED];
            bitproof_load_group(codes, loaded);
            codes += 8;
            both01 = bitproof_add_group(*words++, loaded, both01);
            both23 = bitproof_add_group(*words++, loaded, both23);
        }
        sums[0] += both01 & BITPROOF_ROW_MASK;
        sums[1] += both01 >> BITPROOF_ROW_BITS;
        sums[2] += both23 & BITPROOF_ROW_MASK;
        sums[3] += both23 >> BITPROOF_ROW_BITS;
    }
}

#endif
