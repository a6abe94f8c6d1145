/*
 * Private to the kernels: the walk over the rows of a matrix that is multiplied by what two windows show at once,
 * common to all packings of the weights. A weight is loaded and unpacked once for both.
 */
#ifndef BITPROOF_PAIRS_H
#define BITPROOF_PAIRS_H

#include "bitproof_blocks.h"

#define BITPROOF_PAIR_HEAD 2u

static inline int32_t bitproof_larger(int32_t one, int32_t other) { return one > other ? one : other; }

/* Store the sums of one row for both windows, or the larger, see bitproof_multiplies_pair. */
static inline void bitproof_store_pair(int32_t *sums, uint32_t second, uint32_t of_first, uint32_t of_second) {
    if (second == BITPROOF_LARGER || second == BITPROOF_LARGEST) {
        const int32_t larger = bitproof_larger((int32_t)of_first, (int32_t)of_second);
        sums[0] = second == BITPROOF_LARGEST ? bitproof_larger(sums[0], larger) : larger;
    } else {
        sums[0] = (int32_t)of_first;
        sums[second] = (int32_t)of_second;
    }
}

/*
 * Two rows of fields of 2, 4 or 8 bits (bitproof_fields.h) times four columns of two windows. The macros take the words
 * w0, w1 of the rows, their sums a0, a1 of the first window and b0, b1 of the second, the mask of a field in both
 * halves of a word, and `shown`.
 */
#define BITPROOF_PAIR_LANES(shift)                                                                                     \
    do {                                                                                                               \
        uint32_t a, b, field;                                                                                          \
        BITPROOF_TAKE_TWO(shown, 2, a, b);                                                                             \
        field = (w0 >> (shift)) & mask;                                                                                \
        a0 = bitproof_add_products(field, a, a0);                                                                      \
        b0 = bitproof_add_products(field, b, b0);                                                                      \
        field = (w1 >> (shift)) & mask;                                                                                \
        a1 = bitproof_add_products(field, a, a1);                                                                      \
        b1 = bitproof_add_products(field, b, b1);                                                                      \
    } while (0)

#define BITPROOF_PAIR_QUAD(bits, quad)                                                                                 \
    BITPROOF_PAIR_LANES(2 * (quad) * (bits));                                                                          \
    BITPROOF_PAIR_LANES(2 * (quad) * (bits) + (bits))

/* A word of each of the two rows; QUADS: for every quad of a word. */
#define BITPROOF_PAIR_STEP(QUADS)                                                                                      \
    do {                                                                                                               \
        uint32_t w0, w1;                                                                                               \
        BITPROOF_TAKE_TWO(words, 4, w0, w1);                                                                           \
        QUADS;                                                                                                         \
    } while (0)

#if BITPROOF_LANES

/* The body of a kernel; STEPS: from `words` to `end`. */
#define BITPROOF_PAIR_KERNEL(columns_per_word, field_mask, STEPS)                                                      \
    const uint32_t mask = bitproof_in_register(field_mask);                                                            \
    const uint32_t of_block = 4u * ((matrix->columns + (columns_per_word)-1u) / (columns_per_word));                   \
    const uint32_t of_first = 0u - matrix->zero_point * shown[0];                                                      \
    const uint32_t of_second = 0u - matrix->zero_point * shown[1];                                                     \
    const uint32_t *const lanes = shown + BITPROOF_PAIR_HEAD;                                                          \
    const uint32_t *words = matrix->words;                                                                             \
    uint32_t back = of_block - 2u; /* from behind rows 0 and 1 of a block to rows 2 and 3; 2: to the next block */     \
    uint32_t left = matrix->rows;                                                                                      \
    for (;;) {                                                                                                         \
        const uint32_t *const end = words + of_block;                                                                  \
        uint32_t a0 = of_first, a1 = of_first, b0 = of_second, b1 = of_second;                                         \
        shown = lanes;                                                                                                 \
        STEPS;                                                                                                         \
        words -= back;                                                                                                 \
        back = of_block - back;                                                                                        \
        bitproof_store_pair(sums, second, a0, b0);                                                                     \
        if (left < 2u) {                                                                                               \
            return;                                                                                                    \
        }                                                                                                              \
        bitproof_store_pair(sums + 1, second, a1, b1);                                                                 \
        sums += 2;                                                                                                     \
        left -= 2u;                                                                                                    \
        if (left == 0u) {                                                                                              \
            return;                                                                                                    \
        }                                                                                                              \
    }

#else

/* The same; after `run` words of each row the sums are taken from the upper halves. */
#define BITPROOF_PAIR_KERNEL(columns_per_word, field_mask, STEPS)                                                      \
    const uint32_t mask = bitproof_in_register(field_mask);                                                            \
    const uint32_t groups = (matrix->columns + (columns_per_word)-1u) / (columns_per_word);                            \
    const uint32_t of_first = 0u - matrix->zero_point * shown[0];                                                      \
    const uint32_t of_second = 0u - matrix->zero_point * shown[1];                                                     \
    const uint32_t *const lanes = shown + BITPROOF_PAIR_HEAD;                                                          \
    const uint32_t *words = matrix->words;                                                                             \
    uint32_t back = 4u * groups - 2u; /* from behind rows 0 and 1 of a block to rows 2 and 3; 2: to the next block */  \
    uint32_t left = matrix->rows;                                                                                      \
    for (;;) {                                                                                                         \
        uint32_t of_rows[4] = {of_first, of_first, of_second, of_second};                                              \
        uint32_t todo = groups;                                                                                        \
        shown = lanes;                                                                                                 \
        while (todo > 0u) {                                                                                            \
            const uint32_t run = todo < matrix->run ? todo : matrix->run;                                              \
            const uint32_t *const end = words + 4u * run;                                                              \
            uint32_t a0 = 0, a1 = 0, b0 = 0, b1 = 0;                                                                   \
            todo -= run;                                                                                               \
            STEPS;                                                                                                     \
            of_rows[0] += a0 >> 16;                                                                                    \
            of_rows[1] += a1 >> 16;                                                                                    \
            of_rows[2] += b0 >> 16;                                                                                    \
            of_rows[3] += b1 >> 16;                                                                                    \
        }                                                                                                              \
        words -= back;                                                                                                 \
        back = 4u * groups - back;                                                                                     \
        bitproof_store_pair(sums, second, of_rows[0], of_rows[2]);                                                     \
        if (left < 2u) {                                                                                               \
            return;                                                                                                    \
        }                                                                                                              \
        bitproof_store_pair(sums + 1, second, of_rows[1], of_rows[3]);                                                 \
        sums += 2;                                                                                                     \
        left -= 2u;                                                                                                    \
        if (left == 0u) {                                                                                              \
            return;                                                                                                    \
        }                                                                                                              \
    }

#endif

/*
 * Two rows to a word. In a word rotated right by `rotation` the mask leaves the fields of two columns of the first row
 * and, `distance` bits above them, of the second: dual products add both at once. Without them the rows are taken one
 * after the other. A kernel gives LANES(rotation), which takes the lanes of both windows, for each rotation.
 */
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

/* The body of take_run; SPLIT(both, first, second) leaves the sums of two rows of what was accumulated of both. */
#define BITPROOF_ROWS_RUN(both_mask, one_mask, SPLIT, ALL)                                                             \
    const uint32_t mask = bitproof_in_register(both_mask);                                                             \
    const uint32_t *const end = words + 2u * run;                                                                      \
    uint32_t a01 = 0, a23 = 0, b01 = 0, b23 = 0;                                                                       \
    do {                                                                                                               \
        uint32_t w01, w23;                                                                                             \
        BITPROOF_TAKE_TWO(words, 2, w01, w23);                                                                         \
        ALL;                                                                                                           \
    } while (words != end);                                                                                            \
    SPLIT(a01, sums.a0, sums.a1);                                                                                      \
    SPLIT(a23, sums.a2, sums.a3);                                                                                      \
    SPLIT(b01, sums.b0, sums.b1);                                                                                      \
    SPLIT(b23, sums.b2, sums.b3)

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

#define BITPROOF_ROWS_RUN(both_mask, one_mask, SPLIT, ALL)                                                             \
    const uint32_t mask = bitproof_in_register(one_mask);                                                              \
    BITPROOF_ROWS_OF_WORD(words, sums.a0, sums.a1, sums.b0, sums.b1, ALL);                                             \
    BITPROOF_ROWS_OF_WORD(words + 1, sums.a2, sums.a3, sums.b2, sums.b3, ALL)

#endif

/* The sums of the four rows of a block: those of the first window, those of the second. */
typedef struct {
    uint32_t a0, a1, a2, a3, b0, b1, b2, b3;
} bitproof_sums_of_block;

/* What `run` words of each two rows give. */
typedef bitproof_sums_of_block (*bitproof_takes_run)(const uint32_t *words, const uint32_t *shown, uint32_t run);

static BITPROOF_IN_LINE void bitproof_store_block(int32_t *sums, uint32_t second, bitproof_sums_of_block of) {
    if (second == BITPROOF_LARGER || second == BITPROOF_LARGEST) {
        int32_t s0 = bitproof_larger((int32_t)of.a0, (int32_t)of.b0);
        int32_t s1 = bitproof_larger((int32_t)of.a1, (int32_t)of.b1);
        int32_t s2 = bitproof_larger((int32_t)of.a2, (int32_t)of.b2);
        int32_t s3 = bitproof_larger((int32_t)of.a3, (int32_t)of.b3);
        if (second == BITPROOF_LARGEST) {
            s0 = bitproof_larger(s0, sums[0]);
            s1 = bitproof_larger(s1, sums[1]);
            s2 = bitproof_larger(s2, sums[2]);
            s3 = bitproof_larger(s3, sums[3]);
        }
        sums[0] = s0;
        sums[1] = s1;
        sums[2] = s2;
        sums[3] = s3;
    } else {
        bitproof_store_pair(sums, second, of.a0, of.b0);
        bitproof_store_pair(sums + 1, second, of.a1, of.b1);
        bitproof_store_pair(sums + 2, second, of.a2, of.b2);
        bitproof_store_pair(sums + 3, second, of.a3, of.b3);
    }
}

/* The same of `rows` rows, fewer than four. */
static inline void bitproof_store_rest(int32_t *sums, uint32_t second, uint32_t rows, bitproof_sums_of_block of) {
    bitproof_store_pair(sums, second, of.a0, of.b0);
    if (rows > 1u) {
        bitproof_store_pair(sums + 1, second, of.a1, of.b1);
    }
    if (rows > 2u) {
        bitproof_store_pair(sums + 2, second, of.a2, of.b2);
    }
}

/* What all words of a block give, which may be too many for one run. */
static BITPROOF_IN_LINE bitproof_sums_of_block bitproof_take_runs(const uint32_t *words, const uint32_t *shown,
                                                                  uint32_t most, uint32_t groups,
                                                                  uint32_t columns_per_word,
                                                                  bitproof_takes_run take_run) {
    bitproof_sums_of_block sums = {0, 0, 0, 0, 0, 0, 0, 0};
    while (groups > 0u) {
        const uint32_t run = groups < most ? groups : most;
        const bitproof_sums_of_block more = take_run(words, shown, run);
        sums.a0 += more.a0;
        sums.a1 += more.a1;
        sums.a2 += more.a2;
        sums.a3 += more.a3;
        sums.b0 += more.b0;
        sums.b1 += more.b1;
        sums.b2 += more.b2;
        sums.b3 += more.b3;
        groups -= run;
        words += 2u * run;
        shown += columns_per_word * run;
    }
    return sums;
}

/* From products with fields to products with weights. */
static BITPROOF_IN_LINE bitproof_sums_of_block bitproof_weigh(bitproof_sums_of_block of, uint32_t step,
                                                              uint32_t of_first, uint32_t of_second) {
    of.a0 = bitproof_multiply_add(step, of.a0, of_first);
    of.a1 = bitproof_multiply_add(step, of.a1, of_first);
    of.a2 = bitproof_multiply_add(step, of.a2, of_first);
    of.a3 = bitproof_multiply_add(step, of.a3, of_first);
    of.b0 = bitproof_multiply_add(step, of.b0, of_second);
    of.b1 = bitproof_multiply_add(step, of.b1, of_second);
    of.b2 = bitproof_multiply_add(step, of.b2, of_second);
    of.b3 = bitproof_multiply_add(step, of.b3, of_second);
    return of;
}

/* The kernel. Where one run holds all words of a row, which is decided here for all of them, nothing is added. */
static BITPROOF_IN_LINE void bitproof_walk_rows(const bitproof_matrix *matrix, const uint32_t *shown, int32_t *sums,
                                                uint32_t second, uint32_t columns_per_word,
                                                bitproof_takes_run take_run) {
    const uint32_t groups = (matrix->columns + columns_per_word - 1u) / columns_per_word;
    const uint32_t of_first = 0u - matrix->zero_point * shown[0];
    const uint32_t of_second = 0u - matrix->zero_point * shown[1];
    const uint32_t run = matrix->run;
    const uint32_t step = matrix->step;
    const uint32_t *const lanes = shown + BITPROOF_PAIR_HEAD;
    const uint32_t *words = matrix->words;
    uint32_t left = matrix->rows;
    for (; left > 0u; words += 2u * groups, sums += BITPROOF_BLOCK_ROWS) {
        bitproof_sums_of_block of = groups <= run
                                        ? take_run(words, lanes, groups)
                                        : bitproof_take_runs(words, lanes, run, groups, columns_per_word, take_run);
        of = bitproof_weigh(of, step, of_first, of_second);
        if (left < BITPROOF_BLOCK_ROWS) {
            bitproof_store_rest(sums, second, left, of);
            return;
        }
        bitproof_store_block(sums, second, of);
        left -= BITPROOF_BLOCK_ROWS;
    }
}

#endif
