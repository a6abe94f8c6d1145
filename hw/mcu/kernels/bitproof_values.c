/* Sums, joins, moves and selections of stored values. */
#include "bitproof_values.h"

static int32_t number_at(const uint8_t *value, uint32_t is_wide, uint32_t index) {
    return is_wide != 0u ? ((const int32_t *)(const void *)value)[index] : (int32_t)value[index];
}

/* Modulo 2^32; the generator has proven that the results fit int32_t. */
static void add_term(const bitproof_term *term, const uint8_t *value, uint32_t first, uint32_t channels,
                     int32_t *sums) {
    uint32_t channel;
    for (channel = 0; channel < channels; ++channel) {
        const uint32_t number = (uint32_t)number_at(value, term->is_wide, first + channel);
        sums[channel] = (int32_t)((uint32_t)sums[channel] + number * (uint32_t)term->factors[channel]);
    }
}

void bitproof_add(const bitproof_sum *sum, const uint8_t *const *values, int32_t *sums, uint8_t *target) {
    uint32_t position;
    for (position = 0; position < sum->positions; ++position, target += sum->stride) {
        uint32_t i;
        for (i = 0; i < sum->channels; ++i) {
            sums[i] = sum->offsets[i];
        }
        for (i = 0; i < sum->count; ++i) {
            add_term(&sum->terms[i], values[i], position * sum->channels, sum->channels, sums);
        }
        sum->finish(sums, target);
    }
}

void bitproof_rescale(const bitproof_rescaling *rescaling, int32_t *numbers) {
    uint32_t channel;
    for (channel = 0; channel < rescaling->channels; ++channel) {
        const uint32_t product = (uint32_t)numbers[channel] * (uint32_t)rescaling->factors[channel];
        numbers[channel] = (int32_t)(product + (uint32_t)rescaling->offsets[channel]);
    }
}

void bitproof_store(const int32_t *numbers, uint32_t count, uint8_t *target) {
    int32_t *to = (int32_t *)(void *)target;
    for (; count > 0u; --count) {
        *to++ = *numbers++;
    }
}

void bitproof_place(const uint8_t *value, uint32_t positions, uint32_t channels, uint32_t size, const uint8_t *codes,
                    uint32_t stride, uint8_t *target) {
    for (; positions > 0u; --positions, target += stride) {
        uint32_t i;
        for (i = 0; i < channels * size; ++i, ++value) {
            target[i] = codes != 0 ? codes[*value] : *value;
        }
    }
}

void bitproof_widen(const uint8_t *value, uint32_t positions, uint32_t channels, int32_t step, int32_t lowest,
                    uint32_t stride, uint8_t *target) {
    int32_t *numbers = (int32_t *)(void *)target;
    for (; positions > 0u; --positions, numbers += stride) {
        uint32_t i;
        for (i = 0; i < channels; ++i, ++value) {
            numbers[i] = step * (int32_t)*value + lowest;
        }
    }
}

void bitproof_move(const uint8_t *value, const uint32_t *from, uint32_t count, uint32_t size, uint32_t outside,
                   uint8_t *target) {
    for (; count > 0u; --count, ++from) {
        uint32_t i;
        for (i = 0; i < size; ++i, ++target) {
            *target = (uint8_t)(*from == 0xFFFFFFFFu ? outside >> (8u * i) : value[*from * size + i]);
        }
    }
}

void bitproof_select(const uint8_t *value, uint32_t is_wide, uint32_t channels, uint32_t count, int32_t *target) {
    uint32_t place;
    for (place = 0; place < count; ++place) {
        uint32_t best = channels;
        uint32_t i;
        uint32_t j;
        for (i = 0; i < channels; ++i) {
            int is_taken = 0;
            for (j = 0; j < place; ++j) {
                is_taken |= target[j] == (int32_t)i;
            }
            if (!is_taken && (best == channels || number_at(value, is_wide, i) > number_at(value, is_wide, best))) {
                best = i;
            }
        }
        target[place] = (int32_t)best;
    }
}
