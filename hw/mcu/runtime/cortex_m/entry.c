/* Reset and the vector table of a Cortex-M. */
#include <stdint.h>

#include "firmware.h"

extern uint32_t stack_top[];

void reset_handler(void);

void reset_handler(void) { start(); }

typedef union {
    uint32_t *stack;
    void (*handler)(void);
} vector;

/* Initial stack pointer, reset, NMI, HardFault, MemManage, BusFault, UsageFault. */
__attribute__((section(".vectors"), used)) static const vector vectors[16] = {
    {.stack = stack_top}, {.handler = reset_handler}, {.handler = fault}, {.handler = fault},
    {.handler = fault},   {.handler = fault},         {.handler = fault},
};
