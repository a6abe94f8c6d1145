/* Files, messages and the exit code of the host, through semihosting (ARM IHI 0103, which RISC-V took over). */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include <stddef.h>
#include <stdint.h>

typedef enum { SEMIHOSTING_READ = 1, SEMIHOSTING_WRITE = 5 } semihosting_mode;

/* Open the file `name` in the host's working folder as binary; a negative result is a failure. */
int32_t semihosting_open(const char *name, semihosting_mode mode);

/* Read or write exactly `size` bytes; return 1, or 0 where fewer were possible. */
int semihosting_read(int32_t file, void *bytes, size_t size);
int semihosting_write(int32_t file, const void *bytes, size_t size);

void semihosting_close(int32_t file);

/* Write text to the host's console. */
void semihosting_print(const char *text);

/* End the simulation with this exit code. */
void semihosting_exit(uint32_t code) __attribute__((noreturn));

#endif
