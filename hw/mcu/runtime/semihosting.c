/* Files, messages and the exit code of the host, through semihosting (ARM IHI 0103, which RISC-V took over). */
#include "semihosting.h"

#include "architecture.h"

enum {
    SYS_OPEN = 0x01,
    SYS_CLOSE = 0x02,
    SYS_WRITE0 = 0x04,
    SYS_WRITE = 0x05,
    SYS_READ = 0x06,
    SYS_EXIT_EXTENDED = 0x20,
    APPLICATION_EXIT = 0x20026
};

int32_t semihosting_open(const char *name, semihosting_mode mode) {
    uint32_t length = 0;
    uint32_t arguments[3];
    while (name[length] != '\0') {
        ++length;
    }
    arguments[0] = (uint32_t)name;
    arguments[1] = (uint32_t)mode;
    arguments[2] = length;
    return (int32_t)semihosting_trap(SYS_OPEN, arguments);
}

/* The host returns the number of bytes that it did not transfer. */
int semihosting_read(int32_t file, void *bytes, size_t size) {
    const uint32_t arguments[3] = {(uint32_t)file, (uint32_t)bytes, size};
    return semihosting_trap(SYS_READ, arguments) == 0u;
}

int semihosting_write(int32_t file, const void *bytes, size_t size) {
    const uint32_t arguments[3] = {(uint32_t)file, (uint32_t)bytes, size};
    return semihosting_trap(SYS_WRITE, arguments) == 0u;
}

void semihosting_close(int32_t file) {
    const uint32_t arguments[1] = {(uint32_t)file};
    (void)semihosting_trap(SYS_CLOSE, arguments);
}

void semihosting_print(const char *text) { (void)semihosting_trap(SYS_WRITE0, text); }

void semihosting_exit(uint32_t code) {
    const uint32_t arguments[2] = {APPLICATION_EXIT, code};
    for (;;) {
        (void)semihosting_trap(SYS_EXIT_EXTENDED, arguments);
    }
}
