/*
 * What is done to stored values as they are: sums and joins of branches, codes that move, the largest of a vector.
 *
 * A value is an array of positions with some channels each: bytes, or numbers of 32 bits in the byte order of the
 * processor.
 */
#ifndef BITPROOF_VALUES_H
#define BITPROOF_VALUES_H

#include <stdint.h>

#include "bitproof_windows.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A value that is added: factors[c] * (what is stored) in channel c.
 *
 * is_wide: numbers of 32 bits, not bytes; at a multiple of 4 bytes.
 */
typedef struct {
    const int32_t *factors;
    uint32_t is_wide;
} bitproof_term;

/*
 * The sum of offsets[c] and of one value, or two, at each position.
 *
 * values: as many as `terms`. sums: room for `channels` numbers.
 */
typedef struct {
    const bitproof_term *terms;
    uint32_t count;
    const int32_t *offsets;
    uint32_t positions;
    uint32_t channels;
    bitproof_finishes finish;
    uint32_t stride;
} bitproof_sum;

void bitproof_add(const bitproof_sum *sum, const uint8_t *const *values, int32_t *sums, uint8_t *target);

/*
 * Copy `channels` channels of each position into those of a wider value, whose positions are `stride` bytes apart.
 *
 * codes: what each byte becomes; NULL: it stays. size: bytes of one number, 1 or 4; 4 only without `codes`.
 */
void bitproof_place(const uint8_t *value, uint32_t positions, uint32_t channels, uint32_t size, const uint8_t *codes,
                    uint32_t stride, uint8_t *target);

/* The same of the numbers step * byte + lowest, into a value of `stride` numbers at a position. */
void bitproof_widen(const uint8_t *value, uint32_t positions, uint32_t channels, int32_t step, int32_t lowest,
                    uint32_t stride, uint8_t *target);

/*
 * numbers[c] = factors[c] * numbers[c] + offsets[c], modulo 2^32; the results fit int32_t.
 */
typedef struct {
    const int32_t *factors;
    const int32_t *offsets;
    uint32_t channels;
} bitproof_rescaling;

void bitproof_rescale(const bitproof_rescaling *rescaling, int32_t *numbers);

/* Store `count` numbers at target, a multiple of 4 bytes. */
void bitproof_store(const int32_t *numbers, uint32_t count, uint8_t *target);

/* target[i] = value[from[i]], or `outside` where from[i] is 0xFFFFFFFF; numbers of `size` bytes, 1 or 4. */
void bitproof_move(const uint8_t *value, const uint32_t *from, uint32_t count, uint32_t size, uint32_t outside,
                   uint8_t *target);

/*
 * Write the indices of the `count` largest of `channels` numbers, the largest first, of equal ones the lower index.
 *
 * is_wide: numbers of 32 bits, not bytes.
 */
void bitproof_select(const uint8_t *value, uint32_t is_wide, uint32_t channels, uint32_t count, int32_t *target);

#ifdef __cplusplus
}
#endif

#endif
