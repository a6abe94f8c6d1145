/*
 * What the kernels and the network rely on beyond C99, checked when they are compiled.
 *
 * BITPROOF_REQUIRE is the static assertion of C11 and C++11. C99 has none: there it is a type of an array whose size is
 * negative unless the condition holds, and the compiler's message names it.
 */
#ifndef BITPROOF_PLATFORM_H
#define BITPROOF_PLATFORM_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus) && __cplusplus >= 201103L
#define BITPROOF_REQUIRE(condition, name) static_assert(condition, #name)
#elif !defined(__cplusplus) && defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define BITPROOF_REQUIRE(condition, name) _Static_assert(condition, #name)
#else
#define BITPROOF_REQUIRE(condition, name) typedef char name[(condition) ? 1 : -1]
#endif

/* Its second member lies where the compiler aligns 32-bit integers. */
typedef struct {
    char byte;
    int32_t word;
} bitproof_aligned_word;

BITPROOF_REQUIRE(CHAR_BIT == 8, bitproof_needs_bytes_of_8_bits);
BITPROOF_REQUIRE(sizeof(int32_t) == 4 && sizeof(int64_t) == 8, bitproof_needs_words_of_32_and_64_bits);
BITPROOF_REQUIRE(sizeof(int) >= 4 && sizeof(size_t) >= 4, bitproof_needs_int_and_size_t_of_32_bits);
BITPROOF_REQUIRE(offsetof(bitproof_aligned_word, word) <= 4, bitproof_needs_words_at_multiples_of_4);
BITPROOF_REQUIRE((-1 & 3) == 3, bitproof_needs_twos_complement);
BITPROOF_REQUIRE((int32_t)0xFFFFFFFEu == -2, bitproof_needs_wrapping_conversion);
BITPROOF_REQUIRE(((int32_t)-3 >> 1) == -2 && ((int64_t)-3 >> 1) == -2, bitproof_needs_arithmetic_shift);

#endif
