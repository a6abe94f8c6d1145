/* Depthwise products over fields of 4 bits. */
#include "bitproof_depthwise_fields.h"

void bitproof_multiply_depthwise_4(const bitproof_depthwise *weights, const uint8_t *bytes, uint32_t column_pitch,
                                   uint32_t row_pitch, int32_t *sums) {
    bitproof_depthwise_walk(weights, bytes, column_pitch, row_pitch, sums, 4u);
}
