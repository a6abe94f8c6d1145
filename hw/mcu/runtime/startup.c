/* What runs before and beside the test firmware, on any processor; `entry.c` of its folder leads here. */
#include <stdint.h>

#include "firmware.h"
#include "semihosting.h"

extern const uint32_t data_image[];
extern uint32_t data_start[], data_end[], bss_start[], bss_end[], stack_top[];

void fault(void) {
    semihosting_print("firmware: hard fault\n");
    semihosting_exit(EXIT_HARD_FAULT);
}

void start(void) {
    const uint32_t *from = data_image;
    uint32_t *to;
    for (to = data_start; to < data_end; ++to) {
        *to = *from++;
    }
    for (to = bss_start; to < bss_end; ++to) {
        *to = 0;
    }
    semihosting_exit(firmware_main());
}

/* The compiler may call these for any copy or fill. */
void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    uint8_t *target = to;
    const uint8_t *source = from;
    while (size-- > 0u) {
        *target++ = *source++;
    }
    return to;
}

void *memset(void *to, int value, size_t size) {
    uint8_t *target = to;
    while (size-- > 0u) {
        *target++ = (uint8_t)value;
    }
    return to;
}

enum { PAINT_MARGIN_WORDS = 32 };
static const uint32_t PAINT = 0xA5A5A5A5u;

/* The margin keeps the painter's own frame out of the painted area. */
void stack_paint(void) {
    const uint32_t *const limit = (const uint32_t *)__builtin_frame_address(0) - PAINT_MARGIN_WORDS;
    uint32_t *word;
    for (word = bss_end; word < limit; ++word) {
        *(volatile uint32_t *)word = PAINT;
    }
}

uint32_t stack_lowest_used(void) {
    const volatile uint32_t *word = bss_end;
    while (word < stack_top && *word == PAINT) {
        ++word;
    }
    return (uint32_t)word;
}
