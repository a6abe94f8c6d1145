/* One multiplication and one addition a row. */
#include "bitproof_decode.h"

void bitproof_decode_products(const bitproof_decoding *decoding, int32_t *accumulators) {
    uint32_t row;
    for (row = 0; row < decoding->rows; ++row) {
        const uint32_t product = (uint32_t)accumulators[row];
        accumulators[row] = (int32_t)(product * decoding->step + (uint32_t)decoding->row_offsets[row]);
    }
}
