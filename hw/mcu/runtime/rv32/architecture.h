/* What of the test firmware is written in the instructions of a 32-bit RISC-V. */
#ifndef ARCHITECTURE_H
#define ARCHITECTURE_H

#include <stdint.h>

/* Hints, which change nothing, that the instruction counter knows: what is executed between them is counted. */
static inline void count_begin(void) { __asm__ volatile("slti x0, x0, 1" ::: "memory"); }
static inline void count_end(void) { __asm__ volatile("slti x0, x0, 2" ::: "memory"); }

/*
 * A request to the host that debugs (or emulates) the processor, which stops at the breakpoint until it is answered:
 *
 *   a0  number of the operation      -> its result
 *   a1  address of its arguments: words in memory, as many as the operation has (SYS_WRITE0: of the text itself)
 *
 * The two shifts are what tells such a breakpoint from all others. All three are of 32 bits each, and in one page of
 * memory, which the alignment ensures. Without a host the processor faults here.
 */
static inline uint32_t semihosting_trap(uint32_t operation, const void *arguments) {
    register uint32_t a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = arguments;
    __asm__ volatile(".option push\n\t"
                     ".option norvc\n\t"
                     ".balign 16\n\t"
                     "slli x0, x0, 0x1f\n\t"
                     "ebreak\n\t"
                     "srai x0, x0, 7\n\t"
                     ".option pop"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
    return a0;
}

#endif
