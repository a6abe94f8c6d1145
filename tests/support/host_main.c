/* Runs a generated network on the host: host MODE LAYER COUNT FIRST, codes (or accumulators) from input.bin, results to output.bin. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "network_under_test.h"

static const unsigned product_inputs[] = NETWORK_PRODUCT_INPUTS;
static const unsigned product_outputs[] = NETWORK_PRODUCT_OUTPUTS;
static const unsigned channels[] = NETWORK_ACTIVATION_CHANNELS;

static const int value_offsets[] = NETWORK_VALUE_OFFSETS;
static const unsigned value_bytes[] = NETWORK_VALUE_BYTES;

/* What each step leaves, on one sample. */
static int trace_row(FILE *input, FILE *output) {
    uint8_t *const codes = malloc(NETWORK_INPUTS);
    int32_t *const outputs = malloc(NETWORK_OUTPUTS * sizeof(int32_t));
    uint8_t *const arena = malloc(NETWORK_ARENA_WORDS * 4u);
    unsigned step;
    int status = codes == NULL || outputs == NULL || arena == NULL;
    if (status == 0 && fread(codes, 1, NETWORK_INPUTS, input) != NETWORK_INPUTS) {
        status = -1;
    }
    for (step = 0; status == 0 && step < NETWORK_STEPS; ++step) {
        const void *const value = value_offsets[step] < 0 ? (const void *)outputs : arena + value_offsets[step];
        status = (int)network_run_until(step + 1u, codes, outputs, arena, NETWORK_ARENA_WORDS * 4u);
        fwrite(value, 1, value_bytes[step], output);
    }
    free(codes);
    free(outputs);
    free(arena);
    return status;
}

/* Every buffer has exactly the size that the header promises to be enough, so that a sanitizer sees one byte more. */
static int one_row(char mode, unsigned layer, unsigned row, int first, FILE *input, FILE *output) {
    const size_t codes_size = mode == 'r' ? NETWORK_INPUTS : mode == 'm' ? product_inputs[layer] : channels[layer];
    const size_t accumulators_size = mode == 'r'   ? NETWORK_OUTPUTS
                                     : mode == 'm' ? product_outputs[layer]
                                                   : channels[layer];
    uint8_t *const codes = malloc(codes_size);
    int32_t *const accumulators = malloc(accumulators_size * sizeof(int32_t));
    void *const arena = malloc(NETWORK_ARENA_WORDS * 4u);
    int status = -1;
    size_t i;
    if (codes == NULL || accumulators == NULL || arena == NULL) {
        return -1;
    }
    if ((mode == 'r' || mode == 'm') && fread(codes, 1, codes_size, input) != codes_size) {
        return -1;
    }
    if (mode == 'r') {
        status = (int)network_run(codes, accumulators, arena, NETWORK_ARENA_WORDS * 4u);
    } else if (mode == 'm') {
        status = (int)network_multiply(layer, codes, accumulators, arena, NETWORK_ARENA_WORDS * 4u);
    } else {
        if (mode == 'p' && fread(accumulators, sizeof(int32_t), accumulators_size, input) != accumulators_size) {
            return -1;
        }
        for (i = 0; mode == 'q' && i < accumulators_size; ++i) {
            accumulators[i] = (int32_t)((uint32_t)first + row);
        }
        status = (int)network_requantize(layer, accumulators, codes);
    }
    if (mode == 'q' || mode == 'p') {
        fwrite(codes, 1, codes_size, output);
    } else {
        fwrite(accumulators, sizeof(int32_t), accumulators_size, output);
    }
    free(codes);
    free(accumulators);
    free(arena);
    return status;
}

int main(int argc, char **argv) {
    FILE *const input = fopen("input.bin", "rb");
    FILE *const output = fopen("output.bin", "wb");
    unsigned row;
    int status = 0;
    if (argc != 5 || input == NULL || output == NULL) {
        return 100;
    }
    for (row = 0; row < (unsigned)strtoul(argv[3], NULL, 10) && status == 0; ++row) {
        if (argv[1][0] == 't') {
            status = trace_row(input, output);
            continue;
        }
        status = one_row(argv[1][0], (unsigned)strtoul(argv[2], NULL, 10), row, (int)strtol(argv[4], NULL, 10), input,
                         output);
    }
    fclose(input);
    fclose(output);
    return status;
}
