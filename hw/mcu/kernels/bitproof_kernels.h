/*
 * Integer kernels: matrix-vector products over packed weights, and requantization of their accumulators.
 *
 * C99, no allocation, no floating point, no writable globals. Every function gives the same integers on every
 * processor. Accumulation is modulo 2^32; the generator has proven that the results fit int32_t.
 */
#ifndef BITPROOF_KERNELS_H
#define BITPROOF_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A matrix of packed weights: weight = step * field - zero_point, modulo 2^32.
 *
 * words: blocks of four rows; in a block, groups of columns; in a group, one word a row (ternary, u1: one word for
 *        two rows). See the layout in each kernel.
 * run:   how many words of a row may be accumulated before what shares a word is told apart: wherever such words begin,
 *        (largest code) * (their fields in all) stays below 2^12 (ternary) or 2^15 (u1) in the first row of a word, and
 *        below 2^16 in the second and in those of other layouts; of 8 bits it may be 0. Of `binary` 0.
 * step:  1, but of fields of one bit: the larger weight less the smaller.
 */
typedef struct {
    const uint32_t *words;
    uint32_t rows;
    uint32_t columns;
    uint32_t zero_point;
    uint32_t run;
    uint32_t step;
} bitproof_matrix;

/*
 * codes: `columns` codes, any alignment; 0 or 1 for `binary`. accumulators: `rows` results.
 *
 * Of u1 and binary the codes of some hundred columns at a time are prepared on the stack, 512 bytes at most.
 */
void bitproof_multiply_binary(const bitproof_matrix *matrix, const uint8_t *codes, int32_t *accumulators);
void bitproof_multiply_u1(const bitproof_matrix *matrix, const uint8_t *codes, int32_t *accumulators);
void bitproof_multiply_ternary(const bitproof_matrix *matrix, const uint8_t *codes, int32_t *accumulators);
void bitproof_multiply_u2(const bitproof_matrix *matrix, const uint8_t *codes, int32_t *accumulators);
void bitproof_multiply_u4(const bitproof_matrix *matrix, const uint8_t *codes, int32_t *accumulators);
void bitproof_multiply_u8(const bitproof_matrix *matrix, const uint8_t *codes, int32_t *accumulators);

/*
 * What two windows show, as the kernels take it: 2 + 4 * quads words.
 *
 * shown[0], shown[1]: the sums of the bytes of each. Then for each four bytes b0..b3 of the first and c0..c3 of the
 * second four words: b0 | b2 << 16, c0 | c2 << 16, b1 | b3 << 16, c1 | c3 << 16; BITPROOF_LANES being 0, with their
 * halves the other way round. Bytes are 0 where the matrix has no column: `quads` is as many fours of columns as there
 * are in whole words of weights.
 *
 * bitproof_multiply_pair_binary takes what bitproof_pack_pair has made of it, in the same memory: behind the sums a
 * word of each window for every 32 columns, packed as those of the weights are. What lies behind them stays.
 *
 * sums: the sums of the first window; from sums[second] on those of the second. If `second` is BITPROOF_LARGER, only
 * the larger of each two is stored; if it is BITPROOF_LARGEST, the largest of these and of what was stored.
 */
#define BITPROOF_LARGER 0u
#define BITPROOF_LARGEST 0xFFFFFFFFu

typedef void (*bitproof_multiplies_pair)(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums,
                                         uint32_t second);

typedef void (*bitproof_packs_pair)(uint32_t quads, uint32_t *shown);

void bitproof_pack_pair(uint32_t quads, uint32_t *shown);
void bitproof_multiply_pair_binary(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums,
                                   uint32_t second);
void bitproof_multiply_pair_u1(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums, uint32_t second);
void bitproof_multiply_pair_ternary(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums,
                                    uint32_t second);
void bitproof_multiply_pair_u2(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums, uint32_t second);
void bitproof_multiply_pair_u4(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums, uint32_t second);
void bitproof_multiply_pair_u8(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums, uint32_t second);

/* One channel of a multiply-shift requantization. */
typedef struct {
    int32_t multiplier;
    int32_t offset;
} bitproof_affine;

/* code = clamp((accumulator * multiplier + offset) >> shift, lowest, highest); rounds toward minus infinity. */
typedef struct {
    const bitproof_affine *channel;
    uint32_t channels;
    uint32_t shift;
    int32_t lowest;
    int32_t highest;
} bitproof_multiply_shift;

void bitproof_requantize_multiply_shift(const bitproof_multiply_shift *layer, const int32_t *accumulators,
                                        uint8_t *codes);

/*
 * The same in 64 bits, for codes that 32 do not tell apart:
 * code = clamp(((int64_t)accumulator * multiplier + offset) >> shift, lowest, highest).
 */
typedef struct {
    const int32_t *multiplier;
    const int64_t *offset;
    uint32_t channels;
    uint32_t shift;
    int32_t lowest;
    int32_t highest;
} bitproof_multiply_shift_64;

void bitproof_requantize_multiply_shift_64(const bitproof_multiply_shift_64 *layer, const int32_t *accumulators,
                                           uint8_t *codes);

/*
 * code = clamp((accumulator + offset) / 2^shift rounded to the nearest integer, lowest, highest); a tie goes to the
 * even integer, or to the odd one where to_odd is 1 and not 0.
 */
typedef struct {
    const int32_t *offset;
    uint32_t channels;
    uint32_t shift;
    uint32_t to_odd;
    int32_t lowest;
    int32_t highest;
} bitproof_rounding_shift;

void bitproof_requantize_rounding_shift(const bitproof_rounding_shift *layer, const int32_t *accumulators,
                                        uint8_t *codes);

/*
 * code = lowest + number of thresholds of the channel that are <= accumulator. Rows of `levels` ascend; `levels` is one
 * less than a power of two, shorter rows end in INT32_MAX, which no accumulator reaches.
 */
typedef struct {
    const int32_t *thresholds;
    uint32_t channels;
    uint32_t levels;
    uint32_t lowest;
} bitproof_thresholds;

void bitproof_requantize_thresholds(const bitproof_thresholds *layer, const int32_t *accumulators, uint8_t *codes);

#ifdef __cplusplus
}
#endif

#endif
