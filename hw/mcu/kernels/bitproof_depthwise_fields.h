/* Private to the kernels: depthwise products over fields of `bits` bits, a literal. */
#ifndef BITPROOF_DEPTHWISE_FIELDS_H
#define BITPROOF_DEPTHWISE_FIELDS_H

#include "bitproof_depthwise.h"
#include "bitproof_lanes.h"

#define BITPROOF_BLOCK_CHANNELS 4u

/* Each field of one channel alone: channel `lane` of a block whose words begin at `words`. */
static inline int32_t bitproof_depthwise_single(const bitproof_depthwise *weights, const uint32_t *words, uint32_t lane,
                                                const uint8_t *byte, uint32_t column_pitch, uint32_t row_pitch,
                                                uint32_t bits) {
    const uint32_t to_top = (lane & 1u) * bits + (lane < 2u ? 16u : 0u);
    uint32_t sum = 0;
    uint32_t i;
    uint32_t j;
    for (i = weights->height; i > 0u; --i, byte += row_pitch) {
        const uint8_t *tap = byte;
        uint32_t moved = 16u;
        uint32_t fields = 0;
        for (j = weights->width; j > 0u; --j, tap += column_pitch, moved += 2u * bits) {
            if (moved == 16u) {
                fields = *words++ << to_top;
                moved = 0;
            }
            sum += (uint32_t)((int32_t)(fields << moved) >> (32u - bits)) * *tap;
        }
    }
    return (int32_t)sum;
}

#if BITPROOF_LANES

/* The products of one tap of a word with four channels. */
#define BITPROOF_DEPTHWISE_TAP(word, tap_of_word)                                                                      \
    do {                                                                                                               \
        const uint32_t four = bitproof_load4(tap);                                                                     \
        const uint32_t even = bitproof_even_bytes(four);                                                               \
        const uint32_t odd = bitproof_odd_bytes(four);                                                                 \
        uint32_t fields = ((word) << (2u * (tap_of_word)*bits)) & mask;                                                \
        s0 = bitproof_low_low_add(fields, even, s0);                                                                   \
        s2 = bitproof_high_high_add(fields, even, s2);                                                                 \
        fields = ((word) << (2u * (tap_of_word)*bits + bits)) & mask;                                                  \
        s1 = bitproof_low_low_add(fields, odd, s1);                                                                    \
        s3 = bitproof_high_high_add(fields, odd, s3);                                                                  \
        tap += column_pitch;                                                                                           \
    } while (0)

/* Four channels; returns the words behind theirs. */
static inline const uint32_t *bitproof_depthwise_block(const bitproof_depthwise *weights, const uint32_t *words,
                                                       const uint8_t *row, uint32_t column_pitch, uint32_t row_pitch,
                                                       int32_t *sums, uint32_t bits) {
    const uint32_t top = (1u << 16) - (1u << (16u - bits));
    const uint32_t mask = bitproof_in_register(top << 16 | top);
    const uint32_t width = weights->width;
    const uint32_t taps_of_word = 8u / bits;
    uint32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    uint32_t i;
    for (i = weights->height; i > 0u; --i, row += row_pitch) {
        const uint8_t *tap = row;
        if (width == 3u) {
            BITPROOF_DEPTHWISE_TAP(words[0], 0u);
            BITPROOF_DEPTHWISE_TAP(words[1u / taps_of_word], 1u % taps_of_word);
            BITPROOF_DEPTHWISE_TAP(words[2u / taps_of_word], 2u % taps_of_word);
            words += 2u / taps_of_word + 1u;
        } else {
            uint32_t word = 0;
            uint32_t held = 0;
            uint32_t j;
            for (j = width; j > 0u; --j, --held) {
                if (held == 0u) {
                    word = *words++;
                    held = taps_of_word;
                }
                BITPROOF_DEPTHWISE_TAP(word, 0u);
                word <<= 2u * bits;
            }
        }
    }
    sums[0] = (int32_t)s0 >> (16u - bits);
    sums[1] = (int32_t)s1 >> (16u - bits);
    sums[2] = (int32_t)s2 >> (16u - bits);
    sums[3] = (int32_t)s3 >> (16u - bits);
    return words;
}

#endif

static inline void bitproof_depthwise_walk(const bitproof_depthwise *weights, const uint8_t *bytes,
                                           uint32_t column_pitch, uint32_t row_pitch, int32_t *sums, uint32_t bits) {
    const uint32_t taps_of_word = 8u / bits;
    const uint32_t words_of_block = weights->height * ((weights->width + taps_of_word - 1u) / taps_of_word);
    const uint32_t *words = weights->words;
    uint32_t left = weights->channels;
    uint32_t lane;
#if BITPROOF_LANES
    for (; left >= BITPROOF_BLOCK_CHANNELS; left -= BITPROOF_BLOCK_CHANNELS, bytes += 4, sums += 4) {
        words = bitproof_depthwise_block(weights, words, bytes, column_pitch, row_pitch, sums, bits);
    }
#endif
    for (; left > 0u; left -= lane, words += words_of_block) {
        for (lane = 0; lane < BITPROOF_BLOCK_CHANNELS && lane < left; ++lane) {
            *sums++ = bitproof_depthwise_single(weights, words, lane, bytes++, column_pitch, row_pitch, bits);
        }
    }
}

#endif
