/*
 * Private to the kernels: words of packed codes, and the dual 16-bit multiply-accumulate.
 *
 * BITPROOF_LANES selects the formulation of the products, never their result. Two columns of a row are multiplied at
 * once in either: their fields f0, f1 stand in the halves of a word, their codes c0, c1 in those of another, the lanes.
 *
 *   1  (the default where the processor has SMLAD) c0 | c1 << 16: the dual product f0 c0 + f1 c1.
 *   0  c1 | c0 << 16: the product of the words, modulo 2^32, is f0 c1 + (f0 c0 + f1 c1) * 2^16. Its upper half is the
 *      sum as long as none of the two sums reaches 2^16, which `run` of the matrix tells.
 *
 * Both run anywhere.
 */
#ifndef BITPROOF_LANES_H
#define BITPROOF_LANES_H

#include <stdint.h>

#include "bitproof_platform.h"

#ifndef BITPROOF_LANES
#ifdef __ARM_FEATURE_DSP
#define BITPROOF_LANES 1
#else
#define BITPROOF_LANES 0
#endif
#endif

/* Four codes, the first one in the lowest byte. */
static inline uint32_t bitproof_load4(const uint8_t *codes) {
    return (uint32_t)codes[0] | ((uint32_t)codes[1] << 8) | ((uint32_t)codes[2] << 16) | ((uint32_t)codes[3] << 24);
}

/* Not above 2^bits - 1 and not below 0; `bits` is a literal. */
#if defined(__ARM_FEATURE_SAT)
#define BITPROOF_SATURATE(code, bits) __asm__("usat %0, %1, %0" : "+r"(code) : "i"(bits))
#else
#define BITPROOF_SATURATE(code, bits)                                                                                  \
    do {                                                                                                               \
        (code) = (code) < 0 ? 0 : (code);                                                                              \
        (code) = (code) > (1 << (bits)) - 1 ? (1 << (bits)) - 1 : (code);                                              \
    } while (0)
#endif

static inline uint32_t bitproof_rotate_right(uint32_t word, unsigned count) {
    return (word >> count) | (word << ((32u - count) & 31u));
}

/* What is seldom needed is kept out of loops, whose registers it would take. */
#if defined(__GNUC__)
#define BITPROOF_OUT_OF_LINE __attribute__((noinline))
#define BITPROOF_IN_LINE inline __attribute__((always_inline))
#else
#define BITPROOF_OUT_OF_LINE
#define BITPROOF_IN_LINE inline
#endif

/*
 * GCC's first scheduling pass moves all masked fields of a word ahead of the products and spills them; without it the
 * inner loops of the kernels keep everything in registers.
 */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-schedule-insns")
#endif

#if defined(__thumb2__)

/* The mask, in a register: as a known constant it would keep the compiler from merging AND with the shift. */
static inline uint32_t bitproof_in_register(uint32_t mask) {
    __asm__("" : "+r"(mask));
    return mask;
}

/* The two words at `*from`, which is moved on by `step` words of at most 63. */
#define BITPROOF_TAKE_TWO(from, step, first, second)                                                                   \
    __asm__("ldrd %0, %1, [%2], %3"                                                                                    \
            : "=&r"(first), "=&r"(second), "+r"(from)                                                                  \
            : "i"(4 * (step)), "m"(*(const uint32_t(*)[2])(from)))

/* Store two words at `*to`, which is moved on by two. */
#define BITPROOF_PUT_TWO(to, first, second)                                                                            \
    __asm__("strd %2, %3, [%1], #8" : "=m"(*(uint32_t(*)[2])(to)), "+r"(to) : "r"(first), "r"(second))

/*
 * a * b + sum, modulo 2^32, one after the other: a compiler that adds products to each other first unpacks all fields
 * before, and spills them.
 */
static inline uint32_t bitproof_multiply_add(uint32_t a, uint32_t b, uint32_t sum) {
    uint32_t result;
    __asm__("mla %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

#else

static inline uint32_t bitproof_in_register(uint32_t mask) { return mask; }

static inline uint32_t bitproof_multiply_add(uint32_t a, uint32_t b, uint32_t sum) {
    sum += a * b;
#if defined(__GNUC__)
    __asm__("" : "+r"(sum));
#endif
    return sum;
}

#define BITPROOF_TAKE_TWO(from, step, first, second)                                                                   \
    do {                                                                                                               \
        (first) = (from)[0];                                                                                           \
        (second) = (from)[1];                                                                                          \
        (from) += (step);                                                                                              \
    } while (0)

#define BITPROOF_PUT_TWO(to, first, second)                                                                            \
    do {                                                                                                               \
        (to)[0] = (first);                                                                                             \
        (to)[1] = (second);                                                                                            \
        (to) += 2;                                                                                                     \
    } while (0)

#endif

#if defined(__ARM_FEATURE_DSP)

/* Bytes 0 and 2 in the two halves of a word. */
static inline uint32_t bitproof_even_bytes(uint32_t quad) {
    uint32_t lanes;
    __asm__("uxtb16 %0, %1" : "=r"(lanes) : "r"(quad));
    return lanes;
}

/* Bytes 1 and 3 in the two halves of a word. */
static inline uint32_t bitproof_odd_bytes(uint32_t quad) {
    uint32_t lanes;
    __asm__("uxtb16 %0, %1, ror #8" : "=r"(lanes) : "r"(quad));
    return lanes;
}

/* a.low * b.low + a.high * b.high; halves are signed. */
static inline uint32_t bitproof_dual_multiply(uint32_t a, uint32_t b) {
    uint32_t result;
    __asm__("smuad %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

/* sum + a.low * b.low + a.high * b.high, modulo 2^32; halves are signed. */
static inline uint32_t bitproof_dual_multiply_add(uint32_t a, uint32_t b, uint32_t sum) {
    uint32_t result;
    __asm__("smlad %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

/* sum + a.low * b.low, modulo 2^32; halves are signed. */
static inline uint32_t bitproof_low_low_add(uint32_t a, uint32_t b, uint32_t sum) {
    uint32_t result;
    __asm__("smlabb %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

/* sum + a.low * b.high. */
static inline uint32_t bitproof_low_high_add(uint32_t a, uint32_t b, uint32_t sum) {
    uint32_t result;
    __asm__("smlabt %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

/* sum + a.high * b.high. */
static inline uint32_t bitproof_high_high_add(uint32_t a, uint32_t b, uint32_t sum) {
    uint32_t result;
    __asm__("smlatt %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

/* Four words at `*from`, which is moved on; they are declared here, in registers that one load can fill. */
#define BITPROOF_TAKE_FOUR(from, a, b, c, d)                                                                           \
    register uint32_t a __asm__("r4");                                                                                 \
    register uint32_t b __asm__("r5");                                                                                 \
    register uint32_t c __asm__("r6");                                                                                 \
    register uint32_t d __asm__("r8");                                                                                 \
    __asm__("ldmia %4!, {%0, %1, %2, %3}"                                                                              \
            : "=r"(a), "=r"(b), "=r"(c), "=r"(d), "+r"(from)                                                           \
            : "m"(*(const uint32_t(*)[4])(from)))

/* sum + the four bytes of a word. */
static inline uint32_t bitproof_add_bytes(uint32_t quad, uint32_t sum) {
    uint32_t result;
    __asm__("usada8 %0, %1, %2, %3" : "=r"(result) : "r"(quad), "r"(0u), "r"(sum));
    return result;
}

#else

#define BITPROOF_TAKE_FOUR(from, a, b, c, d)                                                                           \
    const uint32_t a = (from)[0];                                                                                      \
    const uint32_t b = (from)[1];                                                                                      \
    const uint32_t c = (from)[2];                                                                                      \
    const uint32_t d = (from)[3];                                                                                      \
    (from) += 4

/* The low half of a word, its sign extended, modulo 2^32. */
static inline uint32_t bitproof_low(uint32_t word) { return (uint32_t)(int32_t)(int16_t)(uint16_t)word; }

static inline uint32_t bitproof_low_low_add(uint32_t a, uint32_t b, uint32_t sum) {
    return sum + bitproof_low(a) * bitproof_low(b);
}

static inline uint32_t bitproof_low_high_add(uint32_t a, uint32_t b, uint32_t sum) {
    return sum + bitproof_low(a) * bitproof_low(b >> 16);
}

static inline uint32_t bitproof_high_high_add(uint32_t a, uint32_t b, uint32_t sum) {
    return sum + bitproof_low(a >> 16) * bitproof_low(b >> 16);
}

static inline uint32_t bitproof_add_bytes(uint32_t quad, uint32_t sum) {
    return sum + (quad & 0xFFu) + ((quad >> 8) & 0xFFu) + ((quad >> 16) & 0xFFu) + (quad >> 24);
}

static inline uint32_t bitproof_even_bytes(uint32_t quad) { return quad & 0x00FF00FFu; }

static inline uint32_t bitproof_odd_bytes(uint32_t quad) { return (quad >> 8) & 0x00FF00FFu; }

static inline uint32_t bitproof_dual_multiply(uint32_t a, uint32_t b) {
    return bitproof_low(a) * bitproof_low(b) + bitproof_low(a >> 16) * bitproof_low(b >> 16);
}

static inline uint32_t bitproof_dual_multiply_add(uint32_t a, uint32_t b, uint32_t sum) {
    return sum + bitproof_dual_multiply(a, b);
}

#endif

/*
 * The lanes of four codes: of columns 0 and 2, and of columns 1 and 3; and what they add to a sum.
 */
#if BITPROOF_LANES

static inline uint32_t bitproof_even_lanes(uint32_t quad) { return bitproof_even_bytes(quad); }

static inline uint32_t bitproof_odd_lanes(uint32_t quad) { return bitproof_odd_bytes(quad); }

static inline uint32_t bitproof_add_products(uint32_t fields, uint32_t lanes, uint32_t sum) {
    return bitproof_dual_multiply_add(fields, lanes, sum);
}

#else

static inline uint32_t bitproof_even_lanes(uint32_t quad) { return bitproof_rotate_right(quad, 16) & 0x00FF00FFu; }

static inline uint32_t bitproof_odd_lanes(uint32_t quad) { return bitproof_rotate_right(quad, 24) & 0x00FF00FFu; }

static inline uint32_t bitproof_add_products(uint32_t fields, uint32_t lanes, uint32_t sum) {
    return bitproof_multiply_add(fields, lanes, sum);
}

#endif

#endif
