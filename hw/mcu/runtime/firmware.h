/* The parts of the test firmware. */
#ifndef FIRMWARE_H
#define FIRMWARE_H

#include <stddef.h>
#include <stdint.h>

/* Exit codes of the simulation. */
enum { EXIT_DONE = 0, EXIT_HARD_FAULT = 101, EXIT_BAD_COMMAND = 102, EXIT_FILE = 103, EXIT_NETWORK = 104 };

/* Initialize the memory, run firmware_main and end the simulation; there is a stack, and nothing else yet. */
void start(void) __attribute__((noreturn));

/* End the simulation after what the processor cannot go on from. */
void fault(void) __attribute__((noreturn));

uint32_t firmware_main(void);

/* Fill the free stack with a pattern; later the lowest address that no longer holds it. */
void stack_paint(void);
uint32_t stack_lowest_used(void);

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memset(void *to, int value, size_t size);

#endif
