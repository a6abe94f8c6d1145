/* From products with bytes to products with the codes that the bytes stand for: code = lowest + step * byte. */
#ifndef BITPROOF_DECODE_H
#define BITPROOF_DECODE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A row of weights times the codes is step * (the row times the bytes) + lowest * (the sum of the row).
 *
 * row_offsets: lowest * (the sum of each row).
 */
typedef struct {
    const int32_t *row_offsets;
    uint32_t rows;
    uint32_t step;
} bitproof_decoding;

/* accumulators: `rows` products with bytes, replaced by those with codes; modulo 2^32, and the results fit int32_t. */
void bitproof_decode_products(const bitproof_decoding *decoding, int32_t *accumulators);

#ifdef __cplusplus
}
#endif

#endif
