/*
 * Private to the kernels: two rows of weights to a word, times what two windows show (bitproof_pairs.h).
 *
 * In a word rotated right by `rotation` the mask leaves the fields of two columns of the first row and, `distance` bits
 * above them, of the second: dual products add both at once. Without them the rows are taken one after the other. A
 * kernel gives LANES(rotation), which takes the lanes of both windows, for each rotation.
 */
#ifndef BITPROOF_ROWS_H
#define BITPROOF_ROWS_H

#include "bitproof_pairs.h"

/* The sums of two rows for the first window, and for the second. */
typedef struct {
    uint32_t a0, a1, b0, b1;
} bitproof_two_rows;

/*
 * Where the sums of the next block go, see bitproof_multiplies_pair, `left` rows of the matrix from it on; and what makes
 * products with weights of products with fields: a factor, and what is added for each window.
 */
typedef struct {
    uint32_t step, of_first, of_second;
    int32_t *sums;
    uint32_t second;
    uint32_t left;
} bitproof_rows_target;

/* Store the sums of a block of fewer than four rows. */
static BITPROOF_OUT_OF_LINE void bitproof_store_rest(bitproof_rows_target *at, bitproof_two_rows rows01,
                                                     bitproof_two_rows rows23) {
    const uint32_t of_first[4] = {rows01.a0, rows01.a1, rows23.a0, rows23.a1};
    const uint32_t of_second[4] = {rows01.b0, rows01.b1, rows23.b0, rows23.b1};
    uint32_t i;
    for (i = 0; i < at->left; ++i) {
        bitproof_store_pair(at->sums + i, at->second, bitproof_multiply_add(at->step, of_first[i], at->of_first),
                            bitproof_multiply_add(at->step, of_second[i], at->of_second));
    }
    at->left = 0;
}

/* Weigh and store the sums of two rows. */
static BITPROOF_IN_LINE void bitproof_store_rows(int32_t *sums, uint32_t second, const bitproof_rows_target *by,
                                                 bitproof_two_rows of) {
    of.a0 = bitproof_multiply_add(by->step, of.a0, by->of_first);
    of.a1 = bitproof_multiply_add(by->step, of.a1, by->of_first);
    of.b0 = bitproof_multiply_add(by->step, of.b0, by->of_second);
    of.b1 = bitproof_multiply_add(by->step, of.b1, by->of_second);
    if (second == BITPROOF_LARGER || second == BITPROOF_LARGEST) {
        int32_t s0 = bitproof_larger((int32_t)of.a0, (int32_t)of.b0);
        int32_t s1 = bitproof_larger((int32_t)of.a1, (int32_t)of.b1);
        if (second == BITPROOF_LARGEST) {
            s0 = bitproof_larger(s0, sums[0]);
            s1 = bitproof_larger(s1, sums[1]);
        }
        sums[0] = s0;
        sums[1] = s1;
    } else {
        bitproof_store_pair(sums, second, of.a0, of.b0);
        bitproof_store_pair(sums + 1, second, of.a1, of.b1);
    }
}

/* Leave in `first` and `second` the sums of two rows that were accumulated together. */
typedef void (*bitproof_splits)(uint32_t both, uint32_t *first, uint32_t *second);

#if BITPROOF_LANES

#define BITPROOF_ROWS_LANES(rotation, distance)                                                                        \
    do {                                                                                                               \
        uint32_t a, b, fields;                                                                                         \
        BITPROOF_TAKE_TWO(shown, 2, a, b);                                                                             \
        fields = bitproof_rotate_right(w01, rotation) & mask;                                                          \
        a01 = bitproof_dual_multiply_add(fields, a, a01);                                                              \
        b01 = bitproof_dual_multiply_add(fields, b, b01);                                                              \
        fields = bitproof_rotate_right(w23, rotation) & mask;                                                          \
        a23 = bitproof_dual_multiply_add(fields, a, a23);                                                              \
        b23 = bitproof_dual_multiply_add(fields, b, b23);                                                              \
    } while (0)

/* What the words of a block give, the sums of two rows together. */
typedef struct {
    uint32_t a01, a23, b01, b23;
} bitproof_taken;

/* The body of take_run: ALL lanes of a word, HALF of them of the last one if `half` is 1. */
#define BITPROOF_ROWS_RUN(both_mask, one_mask, ALL, HALF)                                                              \
    const uint32_t mask = bitproof_in_register(both_mask);                                                             \
    const uint32_t *const end = words + 2u * (run - half);                                                             \
    uint32_t a01 = 0, a23 = 0, b01 = 0, b23 = 0;                                                                       \
    bitproof_taken taken;                                                                                              \
    uint32_t w01, w23;                                                                                                 \
    while (words != end) {                                                                                             \
        BITPROOF_TAKE_TWO(words, 2, w01, w23);                                                                         \
        ALL;                                                                                                           \
    }                                                                                                                  \
    if (half != 0u) {                                                                                                  \
        BITPROOF_TAKE_TWO(words, 2, w01, w23);                                                                         \
        HALF;                                                                                                          \
    }                                                                                                                  \
    taken.a01 = a01;                                                                                                   \
    taken.a23 = a23;                                                                                                   \
    taken.b01 = b01;                                                                                                   \
    taken.b23 = b23;                                                                                                   \
    return taken

#define BITPROOF_ROWS_0_1(taken, split) bitproof_told_apart((taken).a01, (taken).b01, split)
#define BITPROOF_ROWS_2_3(taken, split) bitproof_told_apart((taken).a23, (taken).b23, split)

static BITPROOF_IN_LINE bitproof_two_rows bitproof_told_apart(uint32_t a, uint32_t b, bitproof_splits split) {
    bitproof_two_rows rows;
    split(a, &rows.a0, &rows.a1);
    split(b, &rows.b0, &rows.b1);
    return rows;
}

#else

#define BITPROOF_ROWS_LANES(rotation, distance)                                                                        \
    do {                                                                                                               \
        uint32_t a, b, fields;                                                                                         \
        BITPROOF_TAKE_TWO(lanes, 2, a, b);                                                                             \
        fields = bitproof_rotate_right(word, rotation) & mask;                                                         \
        a0 = bitproof_add_products(fields, a, a0);                                                                     \
        b0 = bitproof_add_products(fields, b, b0);                                                                     \
        fields = bitproof_rotate_right(word, ((rotation) + (distance)) % 32) & mask;                                   \
        a1 = bitproof_add_products(fields, a, a1);                                                                     \
        b1 = bitproof_add_products(fields, b, b1);                                                                     \
    } while (0)

/* Two rows, whose words begin at `first`. */
#define BITPROOF_ROWS_OF_WORD(first, sum_a0, sum_a1, sum_b0, sum_b1, ...)                                              \
    do {                                                                                                               \
        const uint32_t *from = (first);                                                                                \
        const uint32_t *const end = from + 2u * run;                                                                   \
        const uint32_t *lanes = shown;                                                                                 \
        uint32_t a0 = 0, a1 = 0, b0 = 0, b1 = 0;                                                                       \
        do {                                                                                                           \
            const uint32_t word = *from;                                                                               \
            from += 2;                                                                                                 \
            __VA_ARGS__;                                                                                               \
        } while (from != end);                                                                                         \
        sum_a0 = a0 >> 16;                                                                                             \
        sum_a1 = a1 >> 16;                                                                                             \
        sum_b0 = b0 >> 16;                                                                                             \
        sum_b1 = b1 >> 16;                                                                                             \
    } while (0)

/* What the words of a block give. */
typedef struct {
    bitproof_two_rows rows01, rows23;
} bitproof_taken;

/* The lanes that no column meets are 0: a whole word gives what half of it does. */
#define BITPROOF_ROWS_RUN(both_mask, one_mask, ALL, HALF)                                                              \
    const uint32_t mask = bitproof_in_register(one_mask);                                                              \
    bitproof_taken taken;                                                                                              \
    (void)half;                                                                                                        \
    BITPROOF_ROWS_OF_WORD(words, taken.rows01.a0, taken.rows01.a1, taken.rows01.b0, taken.rows01.b1, ALL);             \
    BITPROOF_ROWS_OF_WORD(words + 1, taken.rows23.a0, taken.rows23.a1, taken.rows23.b0, taken.rows23.b1, ALL);         \
    return taken

#define BITPROOF_ROWS_0_1(taken, split) ((void)(split), (taken).rows01)
#define BITPROOF_ROWS_2_3(taken, split) ((void)(split), (taken).rows23)

#endif

/* What `run` words of each two rows give; of the last of them only the first half of the columns if `half` is 1. */
typedef bitproof_taken (*bitproof_takes_run)(const uint32_t *words, const uint32_t *shown, uint32_t run, uint32_t half);

static inline void bitproof_add_rows(bitproof_two_rows *sums, bitproof_two_rows more) {
    sums->a0 += more.a0;
    sums->a1 += more.a1;
    sums->b0 += more.b0;
    sums->b1 += more.b1;
}

/*
 * Weigh and store what the words of a block give, and go on to the next. Two rows after two: all sums at once would not
 * stay in registers.
 */
static BITPROOF_IN_LINE void bitproof_store_block(bitproof_rows_target *at, bitproof_taken taken,
                                                  bitproof_splits split) {
    int32_t *const sums = at->sums;
    const uint32_t second = at->second;
    if (at->left < BITPROOF_BLOCK_ROWS) {
        bitproof_store_rest(at, BITPROOF_ROWS_0_1(taken, split), BITPROOF_ROWS_2_3(taken, split));
        return;
    }
    at->sums = sums + BITPROOF_BLOCK_ROWS;
    at->left -= BITPROOF_BLOCK_ROWS;
    if (second == BITPROOF_LARGER) {
        bitproof_store_rows(sums, BITPROOF_LARGER, at, BITPROOF_ROWS_0_1(taken, split));
        bitproof_store_rows(sums + 2, BITPROOF_LARGER, at, BITPROOF_ROWS_2_3(taken, split));
    } else if (second == BITPROOF_LARGEST) {
        bitproof_store_rows(sums, BITPROOF_LARGEST, at, BITPROOF_ROWS_0_1(taken, split));
        bitproof_store_rows(sums + 2, BITPROOF_LARGEST, at, BITPROOF_ROWS_2_3(taken, split));
    } else {
        bitproof_store_rows(sums, second, at, BITPROOF_ROWS_0_1(taken, split));
        bitproof_store_rows(sums + 2, second, at, BITPROOF_ROWS_2_3(taken, split));
    }
}

/*
 * BITPROOF_DEFINE_STORE gives a kernel its bitproof_store_block, which is called, not inlined: the loop over the words
 * needs all registers. Numbers are handed over in registers, a structure would not be.
 */
#if BITPROOF_LANES

typedef void (*bitproof_stores_taken)(bitproof_rows_target *at, uint32_t a01, uint32_t a23, uint32_t b01, uint32_t b23);

#define BITPROOF_DEFINE_STORE(name, split)                                                                             \
    static BITPROOF_OUT_OF_LINE void name(bitproof_rows_target *at, uint32_t a01, uint32_t a23, uint32_t b01,          \
                                          uint32_t b23) {                                                              \
        const bitproof_taken taken = {a01, a23, b01, b23};                                                             \
        bitproof_store_block(at, taken, split);                                                                        \
    }

#define BITPROOF_STORE(name, at, taken) name(at, (taken).a01, (taken).a23, (taken).b01, (taken).b23)

#else

typedef void (*bitproof_stores_taken)(bitproof_rows_target *at, bitproof_taken taken);

#define BITPROOF_DEFINE_STORE(name, split)                                                                             \
    static BITPROOF_OUT_OF_LINE void name(bitproof_rows_target *at, bitproof_taken taken) {                            \
        bitproof_store_block(at, taken, split);                                                                        \
    }

#define BITPROOF_STORE(name, at, taken) name(at, taken)

#endif

/* What a kernel of two rows to a word is made of. */
typedef struct {
    uint32_t columns_per_word;
    uint32_t half;
    bitproof_takes_run take_run;
    bitproof_splits split;
    bitproof_stores_taken store;
} bitproof_row_kernel;

/* What all words of a block give, which are too many for one run. */
static BITPROOF_IN_LINE void bitproof_take_runs(const uint32_t *words, const uint32_t *shown, uint32_t most,
                                                uint32_t groups, bitproof_row_kernel kernel, bitproof_rows_target *at) {
    bitproof_two_rows rows01 = {0, 0, 0, 0};
    bitproof_two_rows rows23 = {0, 0, 0, 0};
    while (groups > 0u) {
        const uint32_t run = groups < most ? groups : most;
        const bitproof_taken taken = kernel.take_run(words, shown, run, run == groups ? kernel.half : 0u);
        bitproof_add_rows(&rows01, BITPROOF_ROWS_0_1(taken, kernel.split));
        bitproof_add_rows(&rows23, BITPROOF_ROWS_2_3(taken, kernel.split));
        groups -= run;
        words += 2u * run;
        shown += kernel.columns_per_word * run;
    }
    if (at->left < BITPROOF_BLOCK_ROWS) {
        bitproof_store_rest(at, rows01, rows23);
        return;
    }
    bitproof_store_rows(at->sums, at->second, at, rows01);
    bitproof_store_rows(at->sums + 2, at->second, at, rows23);
    at->sums += BITPROOF_BLOCK_ROWS;
    at->left -= BITPROOF_BLOCK_ROWS;
}

/* The kernel. If one run holds all words of a row, nothing is added. */
static BITPROOF_IN_LINE void bitproof_walk_rows(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums,
                                                uint32_t second, bitproof_row_kernel kernel) {
    const uint32_t groups = (matrix->columns + kernel.columns_per_word - 1u) / kernel.columns_per_word;
    const uint32_t *const lanes = shown + BITPROOF_PAIR_HEAD;
    const uint32_t *words = matrix->words;
    bitproof_rows_target at;
    at.step = matrix->step;
    at.of_first = 0u - matrix->zero_point * shown[0];
    at.of_second = 0u - matrix->zero_point * shown[1];
    at.sums = sums;
    at.second = second;
    at.left = matrix->rows;
    if (groups <= matrix->run) {
        for (; at.left > 0u; words += 2u * groups) {
            const bitproof_taken taken = kernel.take_run(words, lanes, groups, kernel.half);
            BITPROOF_STORE(kernel.store, &at, taken);
        }
    } else {
        for (; at.left > 0u; words += 2u * groups) {
            bitproof_take_runs(words, lanes, matrix->run, groups, kernel, &at);
        }
    }
}

#endif
