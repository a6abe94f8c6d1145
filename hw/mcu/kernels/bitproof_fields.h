/*
 * Private to the kernels: four inputs times four rows, for fields of 2, 4 and 8 bits with one row to a word.
 *
 * The fields of inputs 0, 1, 2, 3 of quad q start at bits 2 q b, 2 q b + b, 2 q b + 16 and 2 q b + b + 16, b being the
 * width. The macro takes the words w0..w3 of four rows, their sums s0..s3, the mask of a field in both halves of a
 * word (mask) and the codes of the group.
 */
#ifndef BITPROOF_FIELDS_H
#define BITPROOF_FIELDS_H

#include "bitproof_lanes.h"

#if BITPROOF_LANES

#define BITPROOF_FIELD_MASK(mask) bitproof_in_register(mask)

#define BITPROOF_PAIR(shift, pair)                                                                                     \
    s0 = bitproof_dual_multiply_add((w0 >> (shift)) & mask, pair, s0);                                                 \
    s1 = bitproof_dual_multiply_add((w1 >> (shift)) & mask, pair, s1);                                                 \
    s2 = bitproof_dual_multiply_add((w2 >> (shift)) & mask, pair, s2);                                                 \
    s3 = bitproof_dual_multiply_add((w3 >> (shift)) & mask, pair, s3)

#define BITPROOF_QUAD(bits, quad)                                                                                      \
    do {                                                                                                               \
        const uint32_t four = bitproof_load4(codes + 4 * (quad));                                                      \
        const uint32_t even = bitproof_even_bytes(four);                                                               \
        const uint32_t odd = bitproof_odd_bytes(four);                                                                 \
        BITPROOF_PAIR(2 * (quad) * (bits), even);                                                                      \
        BITPROOF_PAIR(2 * (quad) * (bits) + (bits), odd);                                                              \
    } while (0)

#else

/* Known, so that a field is taken by one instruction. */
#define BITPROOF_FIELD_MASK(mask) (mask)

#define BITPROOF_SINGLE(shift, code)                                                                                   \
    s0 += ((w0 >> (shift)) & (mask & 0xFFFFu)) * (code);                                                               \
    s1 += ((w1 >> (shift)) & (mask & 0xFFFFu)) * (code);                                                               \
    s2 += ((w2 >> (shift)) & (mask & 0xFFFFu)) * (code);                                                               \
    s3 += ((w3 >> (shift)) & (mask & 0xFFFFu)) * (code)

#define BITPROOF_QUAD(bits, quad)                                                                                      \
    do {                                                                                                               \
        const uint32_t c0 = codes[4 * (quad)];                                                                         \
        const uint32_t c1 = codes[4 * (quad) + 1];                                                                     \
        const uint32_t c2 = codes[4 * (quad) + 2];                                                                     \
        const uint32_t c3 = codes[4 * (quad) + 3];                                                                     \
        BITPROOF_SINGLE(2 * (quad) * (bits), c0);                                                                      \
        BITPROOF_SINGLE(2 * (quad) * (bits) + (bits), c1);                                                             \
        BITPROOF_SINGLE(2 * (quad) * (bits) + 16, c2);                                                                 \
        BITPROOF_SINGLE(2 * (quad) * (bits) + (bits) + 16, c3);                                                        \
    } while (0)

#endif

/* The body of a block function: QUADS(q) for every quad of a word. */
#define BITPROOF_FIELD_BLOCK(columns_per_word, field_mask, QUADS)                                                      \
    const uint32_t mask = BITPROOF_FIELD_MASK(field_mask);                                                             \
    uint32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];                                                   \
    (void)matrix;                                                                                                      \
    for (; groups > 0u; --groups) {                                                                                    \
        uint32_t w0, w1, w2, w3;                                                                                       \
        BITPROOF_TAKE_TWO(words, 2, w0, w1);                                                                           \
        BITPROOF_TAKE_TWO(words, 2, w2, w3);                                                                           \
        QUADS;                                                                                                         \
        codes += (columns_per_word);                                                                                   \
    }                                                                                                                  \
    sums[0] = s0;                                                                                                      \
    sums[1] = s1;                                                                                                      \
    sums[2] = s2;                                                                                                      \
    sums[3] = s3

#endif
