/* Reset and the vector table of a Cortex-M. */
#include <stdint.h>

#include "firmware.h"

extern uint32_t stack_top[];

typedef union {
    uint32_t *stack;
    void (*handler)(void);
} vector;

/* Initial stack pointer, reset, NMI, HardFault, MemManage, BusFault, UsageFault. */
__attribute__((section(".vectors"), used)) static const vector vectors[16] = {
    {.stack = stack_top}, {.handler = start}, {.handler = fault}, {.handler = fault},
    {.handler = fault},   {.handler = fault}, {.handler = fault},
};
