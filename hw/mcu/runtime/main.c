/*
 * Test firmware: reads a command and codes from files of the host, runs the network or one layer, writes the results.
 *
 * All files are little-endian. command.bin holds five 32-bit words: FIRMWARE_MAGIC, mode, layer, count, first.
 *
 *   mode  does                                  input.bin                   output.bin
 *   1     run `count` samples                   uint8 [count][inputs]       int32 [count][outputs]
 *   2     activation `layer` on accumulators    -                           uint8 [count][channels]
 *         first, first + 1, ... (`count` rows)
 *   3     product `layer`, on all positions     uint8 [count][its inputs]   int32 [count][its outputs]
 *         that it multiplies at once
 *   4     as 1, each between two markers        as 1                        as 1; then stack.bin: uint32 [1]
 *   5     activation `layer`                    int32 [count][channels]     uint8 [count][channels]
 *   6     as 1, step by step                    as 1                        for each sample what each step leaves
 *   7     as 4, up to step 0, 1, ... the last   as 1                        as 1; then stack.bin: uint32 [steps + 1]
 *
 * stack.bin holds the most bytes of stack that one call of the network used, in mode 7 the last one up to each step.
 */
#include "architecture.h"
#include "firmware.h"
#include "network_under_test.h"
#include "semihosting.h"

#define FIRMWARE_MAGIC 0x31435042u

typedef enum {
    RUN = 1,
    REQUANTIZE = 2,
    MULTIPLY = 3,
    MEASURE = 4,
    REQUANTIZE_AT = 5,
    TRACE = 6,
    MEASURE_STEPS = 7
} mode;

typedef struct {
    uint32_t magic;
    uint32_t mode;
    uint32_t layer;
    uint32_t count;
    int32_t first;
} command;

static const uint32_t product_inputs[] = NETWORK_PRODUCT_INPUTS;
static const uint32_t product_outputs[] = NETWORK_PRODUCT_OUTPUTS;
static const uint32_t activation_channels[] = NETWORK_ACTIVATION_CHANNELS;
/* Not the constant itself in a comparison: where it is 0, the compiler takes "layer < 0u" for a mistake. */
static const uint32_t activation_count = NETWORK_ACTIVATIONS;
static const uint32_t product_count = NETWORK_PRODUCTS;

static const int32_t value_offsets[] = NETWORK_VALUE_OFFSETS;
static const uint32_t value_bytes[] = NETWORK_VALUE_BYTES;

static uint8_t codes[NETWORK_MOST_CODES];
static int32_t accumulators[NETWORK_MOST_ACCUMULATORS];
static uint32_t arena[NETWORK_ARENA_WORDS];
static uint32_t most_stack_bytes;

static uint32_t run_counted(void) {
    const uint32_t before = (uint32_t)__builtin_frame_address(0);
    uint32_t status;
    uint32_t used;
    stack_paint();
    count_begin();
    status = (uint32_t)network_run(codes, accumulators, arena, sizeof arena);
    count_end();
    used = before - stack_lowest_used();
    most_stack_bytes = used > most_stack_bytes ? used : most_stack_bytes;
    return status;
}

/* Write the stack that a call up to each step uses; the last call leaves the outputs. */
static uint32_t run_steps_counted(int32_t stack) {
    const uint32_t before = (uint32_t)__builtin_frame_address(0);
    uint32_t step;
    for (step = 0; step <= NETWORK_STEPS; ++step) {
        uint32_t status;
        uint32_t used;
        stack_paint();
        count_begin();
        status = (uint32_t)network_run_until(step, codes, accumulators, arena, sizeof arena);
        count_end();
        used = before - stack_lowest_used();
        if (status != 0u) {
            return status;
        }
        if (!semihosting_write(stack, &used, sizeof used)) {
            return EXIT_FILE;
        }
    }
    return 0;
}

static uint32_t sample(const command *order, int32_t input, int32_t output) {
    const uint32_t by_layer = order->mode == MULTIPLY;
    const uint32_t inputs = by_layer ? product_inputs[order->layer] : NETWORK_INPUTS;
    const uint32_t outputs = by_layer ? product_outputs[order->layer] : NETWORK_OUTPUTS;
    uint32_t status;
    if (!semihosting_read(input, codes, inputs)) {
        return EXIT_FILE;
    }
    if (by_layer) {
        status = (uint32_t)network_multiply(order->layer, codes, accumulators, arena, sizeof arena);
    } else if (order->mode == MEASURE) {
        status = run_counted();
    } else if (order->mode == MEASURE_STEPS) {
        status = run_steps_counted(semihosting_open("stack.bin", SEMIHOSTING_WRITE));
    } else {
        status = (uint32_t)network_run(codes, accumulators, arena, sizeof arena);
    }
    if (status != 0u) {
        return EXIT_NETWORK;
    }
    return semihosting_write(output, accumulators, outputs * sizeof accumulators[0]) ? EXIT_DONE : EXIT_FILE;
}

static uint32_t trace(int32_t input, int32_t output) {
    uint32_t step;
    if (!semihosting_read(input, codes, NETWORK_INPUTS)) {
        return EXIT_FILE;
    }
    for (step = 0; step < NETWORK_STEPS; ++step) {
        const uint8_t *const value =
            value_offsets[step] < 0 ? (const uint8_t *)accumulators : (const uint8_t *)arena + value_offsets[step];
        if (network_run_until(step + 1u, codes, accumulators, arena, sizeof arena) != 0) {
            return EXIT_NETWORK;
        }
        if (!semihosting_write(output, value, value_bytes[step])) {
            return EXIT_FILE;
        }
    }
    return EXIT_DONE;
}

static uint32_t requantize(const command *order, uint32_t row, int32_t input, int32_t output) {
    const uint32_t channels = activation_channels[order->layer];
    uint32_t channel;
    if (order->mode == REQUANTIZE_AT) {
        if (!semihosting_read(input, accumulators, channels * sizeof accumulators[0])) {
            return EXIT_FILE;
        }
    } else {
        for (channel = 0; channel < channels; ++channel) {
            accumulators[channel] = (int32_t)((uint32_t)order->first + row);
        }
    }
    if (network_requantize(order->layer, accumulators, codes) != 0) {
        return EXIT_NETWORK;
    }
    return semihosting_write(output, codes, channels) ? EXIT_DONE : EXIT_FILE;
}

static uint32_t obey(const command *order, int32_t output) {
    const int32_t input = order->mode == REQUANTIZE ? 0 : semihosting_open("input.bin", SEMIHOSTING_READ);
    uint32_t row;
    if (input < 0) {
        return EXIT_FILE;
    }
    for (row = 0; row < order->count; ++row) {
        const int activation = order->mode == REQUANTIZE || order->mode == REQUANTIZE_AT;
        const uint32_t code = activation             ? requantize(order, row, input, output)
                              : order->mode == TRACE ? trace(input, output)
                                                     : sample(order, input, output);
        if (code != EXIT_DONE) {
            return code;
        }
    }
    return EXIT_DONE;
}

static int is_valid(const command *order) {
    if (order->magic != FIRMWARE_MAGIC) {
        return 0;
    }
    switch (order->mode) {
    case RUN:
    case MEASURE:
    case TRACE:
    case MEASURE_STEPS:
        return 1;
    case REQUANTIZE:
    case REQUANTIZE_AT:
        return order->layer < activation_count;
    case MULTIPLY:
        return order->layer < product_count;
    default:
        return 0;
    }
}

static uint32_t write_stack(void) {
    const int32_t file = semihosting_open("stack.bin", SEMIHOSTING_WRITE);
    const int written = file >= 0 && semihosting_write(file, &most_stack_bytes, sizeof most_stack_bytes);
    return written ? EXIT_DONE : EXIT_FILE;
}

uint32_t firmware_main(void) {
    const int32_t file = semihosting_open("command.bin", SEMIHOSTING_READ);
    const int32_t output = semihosting_open("output.bin", SEMIHOSTING_WRITE);
    command order;
    uint32_t code;
    if (file < 0 || output < 0 || !semihosting_read(file, &order, sizeof order)) {
        return EXIT_FILE;
    }
    if (!is_valid(&order)) {
        return EXIT_BAD_COMMAND;
    }
    code = obey(&order, output);
    semihosting_close(output);
    return code == EXIT_DONE && order.mode == MEASURE ? write_stack() : code;
}
