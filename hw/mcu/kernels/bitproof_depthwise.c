/* Depthwise products: one multiplication for each field. */
#include "bitproof_depthwise.h"

void bitproof_multiply_depthwise(const bitproof_depthwise *weights, const uint8_t *bytes, int32_t *sums) {
    const uint32_t *words = weights->words;
    const uint32_t bits = weights->bits;
    const uint32_t mask = (1u << bits) - 1u;
    const uint32_t zero_point = weights->zero_point;
    uint32_t channel;
    uint32_t tap;
    for (channel = 0; channel < weights->channels; ++channel) {
        sums[channel] = 0;
    }
    for (tap = 0; tap < weights->taps; ++tap) {
        uint32_t fields = 0;
        uint32_t left = 0;
        for (channel = 0; channel < weights->channels; ++channel, fields >>= bits, left -= bits) {
            if (left == 0u) {
                fields = *words++;
                left = 32u;
            }
            sums[channel] = (int32_t)((uint32_t)sums[channel] + ((fields & mask) - zero_point) * *bytes++);
        }
    }
}
