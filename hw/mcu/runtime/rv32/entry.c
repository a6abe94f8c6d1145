/* Reset and the traps of a 32-bit RISC-V in machine mode. */
#include "firmware.h"

void entry(void);
void trap_handler(void);

/* Direct mode: all traps come here, and the two lowest bits of the address are 0. */
__attribute__((aligned(4))) void trap_handler(void) { fault(); }

/*
 * The first instructions. The ABI wants a stack at a multiple of 16. gp stays unset: where a linker script has no
 * __global_pointer$, the linker addresses nothing by it.
 */
__attribute__((naked, used, section(".vectors"))) void entry(void) {
    __asm__ volatile("la sp, stack_top\n\t"
                     "andi sp, sp, -16\n\t"
                     "la t0, trap_handler\n\t"
                     ".option push\n\t"
                     ".option arch, +zicsr\n\t"
                     "csrw mtvec, t0\n\t"
                     ".option pop\n\t"
                     "j start");
}
