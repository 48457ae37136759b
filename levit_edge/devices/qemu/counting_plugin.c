/*
 * A plugin for QEMU's user-mode emulation: how many guest instructions run between two marks, and in which blocks.
 *
 * The guest sets a mark with prctl(MARK, 1) and prctl(MARK, 0), which no kernel knows, so it changes nothing. Only the
 * thread that set the mark is counted. At exit one text file is written: a line "phase TOTAL" for each pair of marks and
 * a line "block ADDRESS INSTRUCTIONS TIMES" for each translated block that ran inside any of them.
 *
 * The prototypes are those of QEMU's plugin interface (docs/devel/tcg-plugins.rst in QEMU), declared here because
 * distributions ship the emulator without its header. What is used has not changed since version 1 of the interface;
 * -DPLUGIN_VERSION=N says which one the emulator at hand wants.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define MARK 0x4c564954u /* also in guest.py */
#define PRCTL 167        /* its number on every 64-bit Linux of the generic table, aarch64 among them */
#define MAX_PHASES 4096

typedef uint64_t plugin_id;
typedef struct qemu_plugin_tb translation;
typedef uint64_t arg;

EXPORT int qemu_plugin_version = PLUGIN_VERSION;

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, translation *));
void qemu_plugin_register_vcpu_tb_exec_cb(translation *, void (*)(unsigned, void *), int flags, void *);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, void (*)(plugin_id, unsigned, int64_t, arg, arg, arg, arg, arg, arg,
                                                              arg, arg));
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
size_t qemu_plugin_tb_n_insns(const translation *);
uint64_t qemu_plugin_tb_vaddr(const translation *);

struct block {
    uint64_t address, instructions, times;
    struct block *next;
};

static struct block *blocks;
static uint64_t phases[MAX_PHASES];
static int phase_count;
static volatile int counting;
static unsigned counted_thread;
static char *output;

static void on_run(unsigned thread, void *data) {
    struct block *block = data;
    if (counting && thread == counted_thread) {
        block->times++;
        phases[phase_count - 1] += block->instructions;
    }
}

static void on_translation(plugin_id id, translation *tb) {
    struct block *block = calloc(1, sizeof *block);
    if (!block)
        abort();
    block->address = qemu_plugin_tb_vaddr(tb);
    block->instructions = qemu_plugin_tb_n_insns(tb);
    do {
        block->next = __atomic_load_n(&blocks, __ATOMIC_ACQUIRE);
    } while (!__sync_bool_compare_and_swap(&blocks, block->next, block));
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_run, 0, block);
}

static void on_syscall(plugin_id id, unsigned thread, int64_t number, arg option, arg start, arg c, arg d, arg e, arg f,
                       arg g, arg h) {
    if (number != PRCTL || (uint32_t)option != MARK)
        return;
    if (!start) {
        counting = 0;
    } else if (phase_count < MAX_PHASES) {
        counted_thread = thread;
        phase_count++;
        counting = 1;
    }
}

static void on_exit_of_guest(plugin_id id, void *data) {
    FILE *file = fopen(output, "w");
    if (!file) {
        perror(output);
        return;
    }
    for (int i = 0; i < phase_count; i++)
        fprintf(file, "phase %" PRIu64 "\n", phases[i]);
    for (struct block *block = blocks; block; block = block->next)
        if (block->times)
            fprintf(file, "block %" PRIx64 " %" PRIu64 " %" PRIu64 "\n", block->address, block->instructions,
                    block->times);
    fclose(file);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4))
            output = strdup(argv[i] + 4);
    if (!output)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    qemu_plugin_register_atexit_cb(id, on_exit_of_guest, NULL);
    return 0;
}
