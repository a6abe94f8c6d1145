/*
 * Private to the kernels: fields of one bit beside codes of one bit, 32 columns of one row to a word.
 *
 * In a word the fields of four columns lie one byte apart, those of the next four one bit below; by column:
 *
 *     bits 31..24   3  7 11 15 19 23 27 31
 *     bits 23..16   2  6 10 14 18 22 26 30
 *     bits 15..8    1  5  9 13 17 21 25 29
 *     bits  7..0    0  4  8 12 16 20 24 28
 *
 * Codes are packed alike, so that what a word of a row adds is the number of ones in both. Full adders make of seven
 * words three, of ones, twos and fours; the bits of these are counted in parts of 2, 4 and 8 bits.
 */
#ifndef BITPROOF_BINARY_H
#define BITPROOF_BINARY_H

#include "bitproof_blocks.h"

#define BITPROOF_BINARY_COLUMNS 32u
/* What is counted in a byte of so many words is 224 at most. */
#define BITPROOF_BINARY_CHUNK 28u

typedef struct {
    uint32_t odd_bits, low_pairs, low_nibbles;
} bitproof_counting_masks;

static inline bitproof_counting_masks bitproof_masks_of_counts(void) {
    const bitproof_counting_masks masks = {bitproof_in_register(0x55555555u), bitproof_in_register(0x33333333u),
                                           bitproof_in_register(0x0F0F0F0Fu)};
    return masks;
}

/* The ones of each four bits of a word: 4 at most. */
static inline uint32_t bitproof_count_in_nibbles(uint32_t word, const bitproof_counting_masks *of) {
    const uint32_t pairs = word - (of->odd_bits & (word >> 1));
    return (pairs & of->low_pairs) + (of->low_pairs & (pairs >> 2));
}

static inline uint32_t bitproof_nibbles_in_bytes(uint32_t nibbles, const bitproof_counting_masks *of) {
    return (nibbles & of->low_nibbles) + (of->low_nibbles & (nibbles >> 4));
}

/* A full adder for each bit: leave the ones of *sum + a + b in *sum, and return the twos. */
static inline uint32_t bitproof_add_bits(uint32_t *sum, uint32_t a, uint32_t b) {
    const uint32_t odd = *sum ^ a;
    const uint32_t twos = (*sum & a) | (odd & b);
    *sum = odd ^ b;
    return twos;
}

/*
 * The number of ones that `count` words of a row and of codes have in common, a chunk at most. Words of a row are four
 * apart, those of the codes `apart`, a literal.
 */
static inline uint32_t bitproof_count_common(const uint32_t *words, const uint32_t *codes, uint32_t apart,
                                             uint32_t count, const bitproof_counting_masks *of) {
    uint32_t bytes = 0;
    uint32_t ones;
    uint32_t twos;
#define BITPROOF_COMMON(i) (words[(i)*BITPROOF_BLOCK_ROWS] & codes[(i)*apart])
    for (; count >= 7u; count -= 7u, words += 7u * BITPROOF_BLOCK_ROWS, codes += 7u * apart) {
        uint32_t more;
        uint32_t fours;
        ones = BITPROOF_COMMON(0);
        twos = bitproof_add_bits(&ones, BITPROOF_COMMON(1), BITPROOF_COMMON(2));
        more = bitproof_add_bits(&ones, BITPROOF_COMMON(3), BITPROOF_COMMON(4));
        fours = bitproof_add_bits(&twos, more, bitproof_add_bits(&ones, BITPROOF_COMMON(5), BITPROOF_COMMON(6)));
        bytes += bitproof_nibbles_in_bytes(
            bitproof_count_in_nibbles(ones, of) + 2u * bitproof_count_in_nibbles(twos, of), of);
        bytes += 4u * bitproof_nibbles_in_bytes(bitproof_count_in_nibbles(fours, of), of);
    }
    for (; count >= 3u; count -= 3u, words += 3u * BITPROOF_BLOCK_ROWS, codes += 3u * apart) {
        ones = BITPROOF_COMMON(0);
        twos = bitproof_add_bits(&ones, BITPROOF_COMMON(1), BITPROOF_COMMON(2));
        bytes += bitproof_nibbles_in_bytes(
            bitproof_count_in_nibbles(ones, of) + 2u * bitproof_count_in_nibbles(twos, of), of);
    }
    for (; count > 0u; --count, words += BITPROOF_BLOCK_ROWS, codes += apart) {
        bytes += bitproof_nibbles_in_bytes(bitproof_count_in_nibbles(BITPROOF_COMMON(0), of), of);
    }
#undef BITPROOF_COMMON
    return bitproof_add_bytes(bytes, 0);
}

#endif
