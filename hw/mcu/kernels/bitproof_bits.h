/*
 * Private to the kernels: fields of one bit, with 16 columns of two rows to a word.
 *
 * The field of the second row lies 15 bits above that of the first. In a half of a word that is 1 for the first and,
 * halves being signed, -32768 for the second, so one dual product with two codes serves both rows:
 *
 *     both = (sum of the first row) - 32768 * (sum of the second)   modulo 2^32
 *
 * The two sums are told apart after `run` words, before that of the first row can reach 32768. A group holds the words
 * of rows (0, 1) and of rows (2, 3).
 *
 * In a word rotated right by 2 j the mask 0x80018001 leaves both rows of the columns that meet lanes j: of quad j / 2,
 * the even ones or the odd ones.
 */
#ifndef BITPROOF_BITS_H
#define BITPROOF_BITS_H

#define BITPROOF_BITS_COLUMNS 16u
#define BITPROOF_BITS_DISTANCE 15
#define BITPROOF_BITS_OF_BOTH 0x80018001u
#define BITPROOF_BITS_OF_ONE 0x00010001u

#define BITPROOF_BITS_SPLIT(both, first, second)                                                                       \
    do {                                                                                                               \
        const uint32_t of_first = (both)&0x7FFFu;                                                                      \
        (first) = of_first;                                                                                            \
        (second) = (of_first - (both)) >> BITPROOF_BITS_DISTANCE;                                                      \
    } while (0)

#define BITPROOF_BITS_ALL(LANES)                                                                                       \
    LANES(0);                                                                                                          \
    LANES(2);                                                                                                          \
    LANES(4);                                                                                                          \
    LANES(6);                                                                                                          \
    LANES(8);                                                                                                          \
    LANES(10);                                                                                                         \
    LANES(12);                                                                                                         \
    LANES(14)

#endif
