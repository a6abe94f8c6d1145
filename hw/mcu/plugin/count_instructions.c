/*
 * QEMU TCG plugin (API version 1, QEMU 4.2 to 8.x): how many instructions are executed between two markers.
 *
 * The markers are no-operations of the guest: `mov r10, r10` begins, `mov r11, r11` ends; neither is counted. For every
 * pair the file given as `out=FILE` gets one line with the count. The prototypes are declared here because
 * distributions do not ship qemu-plugin.h with QEMU.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS = 0 };

typedef void (*translated_block)(qemu_plugin_id_t id, struct qemu_plugin_tb *block);
typedef void (*executed_instruction)(unsigned int vcpu, void *user);
typedef void (*ended)(qemu_plugin_id_t id, void *user);

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, translated_block callback);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, ended callback, void *user);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *instruction);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *instruction);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *instruction, executed_instruction callback,
                                                   enum qemu_plugin_cb_flags flags, void *user);

#define EXPORTED __attribute__((visibility("default")))

EXPORTED int qemu_plugin_version = 1;
EXPORTED int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv);

static const uint8_t BEGIN[2] = {0xD2, 0x46}; /* mov r10, r10 */
static const uint8_t END[2] = {0xDB, 0x46};   /* mov r11, r11 */

static uint64_t executed;
static uint64_t at_begin;
static FILE *report;

static void count(unsigned int vcpu, void *user) {
    (void)vcpu;
    (void)user;
    ++executed;
}

static void begin(unsigned int vcpu, void *user) {
    (void)vcpu;
    (void)user;
    at_begin = executed;
}

static void end(unsigned int vcpu, void *user) {
    (void)vcpu;
    (void)user;
    fprintf(report, "%llu\n", (unsigned long long)(executed - at_begin));
}

static int is_marker(const struct qemu_plugin_insn *instruction, const uint8_t marker[2]) {
    return qemu_plugin_insn_size(instruction) == 2 && memcmp(qemu_plugin_insn_data(instruction), marker, 2) == 0;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    const size_t instructions = qemu_plugin_tb_n_insns(block);
    size_t index;
    (void)id;
    for (index = 0; index < instructions; ++index) {
        struct qemu_plugin_insn *const instruction = qemu_plugin_tb_get_insn(block, index);
        const executed_instruction callback = is_marker(instruction, BEGIN) ? begin
                                              : is_marker(instruction, END) ? end
                                                                            : count;
        qemu_plugin_register_vcpu_insn_exec_cb(instruction, callback, QEMU_PLUGIN_CB_NO_REGS, NULL);
    }
}

static void close_report(qemu_plugin_id_t id, void *user) {
    (void)id;
    (void)user;
    fclose(report);
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) != 0) {
        return -1;
    }
    report = fopen(argv[0] + 4, "w");
    if (report == NULL) {
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, close_report, NULL);
    return 0;
}
