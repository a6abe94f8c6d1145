/* What of the test firmware is written in the instructions of a Cortex-M. */
#ifndef ARCHITECTURE_H
#define ARCHITECTURE_H

#include <stdint.h>

/* No-operations that the instruction counter knows: what is executed between them is counted. */
static inline void count_begin(void) { __asm__ volatile("mov r10, r10" ::: "memory"); }
static inline void count_end(void) { __asm__ volatile("mov r11, r11" ::: "memory"); }

/*
 * A request to the host that debugs (or emulates) the processor, which stops at the breakpoint until it is answered:
 *
 *   r0  number of the operation      -> its result
 *   r1  address of its arguments: words in memory, as many as the operation has (SYS_WRITE0: of the text itself)
 *
 * 0xAB is what tells such a breakpoint from all others. Without a host the processor faults here.
 */
static inline uint32_t semihosting_trap(uint32_t operation, const void *arguments) {
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

#endif
