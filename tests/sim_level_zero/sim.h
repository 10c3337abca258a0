/* SPDX-License-Identifier: Apache-2.0 */
/* sim.h - the parts of a Level Zero driver that needs no card.
 *
 * The handles of ze_api.h are these structures themselves.  What is destroyed keeps its memory and
 * is marked `gone`: a command that still names it is misuse, and misuse ends the process with a
 * sentence, for on a card it would be a fault that nobody can find again.
 *
 * Threads: one lock, sim.lock, guards all that is written here; one thread of the driver's own
 * runs the commands (queue.c) and holds no lock meanwhile.  Sizes are bytes, times nanoseconds. */
#ifndef OCTARC_SIM_LEVEL_ZERO_SIM_H
#define OCTARC_SIM_LEVEL_ZERO_SIM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <level_zero/ze_api.h>

#include "tests/sim_level_zero/control.h"
#include "tests/sim_level_zero/options.h"
#include "tests/sim_level_zero/spirv.h"

#define SIM_PAGE         (UINT64_C(64) << 10)
#define SIM_GROUP_MAX    1024
#define SIM_LOCAL_BYTES  (UINT32_C(128) << 10)
#define SIM_PATTERN_MAX  128
#define SIM_ALLOC_MAX    (UINT64_C(4) << 30) /* without the extension for relaxed limits */
#define SIM_ARGS_MAX     SPIRV_BYTES_MAX
#define SIM_CARD_ORDINAL 0 /* queue groups: computing and copying; copying */
#define SIM_COPY_ORDINAL 1
#define SIM_FIRST_BUS    3                    /* of the cards, one a bus */
#define SIM_MEMORY_NAME  "octarc-sim-ze-card" /* of a memfd; then its card's number, and -BOX */

/* Addresses of one card; none is used twice.  ThreadSanitizer has room for few. */
#ifdef __SANITIZE_THREAD__
#define SIM_WINDOW (UINT64_C(1) << 36)
#else
#define SIM_WINDOW (UINT64_C(1) << 40)
#endif

enum sim_tag {
    SIM_DRIVER = 0x5a0001,
    SIM_CARD,
    SIM_CONTEXT,
    SIM_QUEUE,
    SIM_LIST,
    SIM_POOL,
    SIM_EVENT,
    SIM_FENCE,
    SIM_MODULE,
    SIM_LOG,
    SIM_KERNEL
};

struct sim_object {
    enum sim_tag tag;
    bool gone;
    struct sim_object *older; /* all that were ever made */
};

struct _ze_driver_handle_t {
    struct sim_object object;
};

struct _ze_device_handle_t {
    struct sim_object object;
    unsigned number;
    bool lost;
    uint32_t registered, events; /* of sysman: asked for; not told yet */
    bool hung;                   /* none of its commands ends any more */
    uint8_t *window; /* SIM_WINDOW addresses, inaccessible but for what a command may touch */
    uint64_t next;   /* first address of the window that was never used */
};

struct _ze_context_handle_t {
    struct sim_object object;
    unsigned cards; /* a bit a card */
};

/* Memory of a card, or of the host when card < 0. */
struct sim_memory {
    struct sim_memory *next;
    ze_context_handle_t context;
    uint8_t *base;
    uint64_t size; /* as asked for */
    uint64_t room; /* in whole pages */
    uint64_t id;
    uint64_t inode; /* of what backs it: an import and its original are one piece of memory */
    int card;
    int fd;            /* -1 for the host's */
    int given;         /* the descriptor that it was exported by; 0: none */
    bool imported;     /* opened from a handle: closed by zeMemCloseIpcHandle */
    bool exported;     /* it was asked for as memory that can be */
    bool open;         /* accessible now */
    bool wanted;       /* by the command that is about to run */
    bool veiled;       /* something else lies over it while that command runs */
    unsigned resident; /* a bit a card, zeContextMakeMemoryResident */
};

struct _ze_event_pool_handle_t {
    struct sim_object object;
    ze_context_handle_t context;
    unsigned cards;
    bool host_visible;
    uint32_t n_events;
    uint32_t n_used;
    bool *used;
};

struct _ze_event_handle_t {
    struct sim_object object;
    ze_event_pool_handle_t pool;
    uint32_t index;
    bool signaled;
    unsigned n_pending;      /* commands submitted that will signal it */
    bool lost;               /* the card that was to signal it is lost */
    ze_device_handle_t card; /* of the last command submitted that signals it, or NULL */
};

struct _ze_fence_handle_t {
    struct sim_object object;
    ze_command_queue_handle_t queue;
    bool signaled;
    unsigned n_pending; /* lists submitted with it that have not ended */
};

struct _ze_module_handle_t {
    struct sim_object object;
    ze_context_handle_t context;
    ze_device_handle_t card;
    struct sim_program *program; /* opencl.c; shared by modules of the same bytes */
    struct spirv spirv;
    unsigned n_kernels;
};

struct _ze_module_build_log_handle_t {
    struct sim_object object;
    char *text;
};

struct _ze_kernel_handle_t {
    struct sim_object object;
    ze_module_handle_t module;
    const struct spirv_kernel *shape;
    struct _cl_kernel *kernel;
    uint32_t group[3]; /* 0 until set */
    ze_kernel_indirect_access_flags_t indirect;
    bool explicit_residency;
    uint8_t args[SIM_ARGS_MAX];
    bool set[SPIRV_ARGS_MAX];
    uint64_t local_bytes[SPIRV_ARGS_MAX];
};

enum sim_kind {
    SIM_COPY,
    SIM_FILL,
    SIM_LAUNCH,
    SIM_BARRIER,
    SIM_WAIT,
    SIM_SIGNAL,
    SIM_RESET,
    SIM_ADVISE,
    SIM_PREFETCH
};

/* What zeCommandListAppend* wrote down; arguments are copied, memory is not. */
struct sim_command {
    enum sim_kind kind;
    bool done;
    ze_event_handle_t signal; /* or NULL */
    uint32_t n_waits;
    ze_event_handle_t *waits; /* owned */
    uint8_t *to;
    const uint8_t *from;
    uint64_t size;
    uint8_t pattern[SIM_PATTERN_MAX];
    size_t pattern_size;
    struct sim_launch *launch; /* owned */
    ze_device_handle_t target;
    uint32_t advice;
};

struct sim_launch {
    ze_kernel_handle_t kernel;
    uint32_t group[3], groups[3];
    ze_kernel_indirect_access_flags_t indirect;
    uint8_t args[SIM_ARGS_MAX];
    uint64_t local_bytes[SPIRV_ARGS_MAX];
};

/* One call's worth of commands on its way through a queue. */
struct sim_submission {
    struct sim_submission *next;
    uint64_t sequence;
    struct sim_command *commands;
    size_t n, n_done;
    ze_command_list_handle_t list; /* whose commands these are; NULL: the submission's own */
    ze_fence_handle_t fence;
    bool in_order;
};

/* A queue, or the implicit one of an immediate list. */
struct _ze_command_queue_handle_t {
    struct sim_object object;
    struct _ze_command_queue_handle_t *next;
    ze_context_handle_t context;
    ze_device_handle_t card;
    uint32_t ordinal;
    bool synchronous;
    bool in_order;
    unsigned n_fences;
    struct sim_submission *first, **last;
};

struct _ze_command_list_handle_t {
    struct sim_object object;
    ze_context_handle_t context;
    ze_device_handle_t card;
    uint32_t ordinal;
    bool in_order;
    bool closed;
    bool busy;                       /* submitted and not ended */
    ze_command_queue_handle_t queue; /* of an immediate list, else NULL */
    struct sim_command *commands;
    size_t n, room;
};

/* Since the driver started; the file that SIM_ZE's word counters=PATH names holds them. */
struct sim_counters {
    uint64_t calls[SIM_CARDS_MAX];      /* that named the card, or something on it */
    uint64_t commands[SIM_CARDS_MAX];   /* that ended */
    uint64_t used_bytes[SIM_CARDS_MAX]; /* of the card's memory, by this process */
};

struct sim {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* an event, a fence, a queue, a card, something submitted */
    bool started;
    struct sim_options options;
    struct sim_control base, control; /* as SIM_ZE says; as it is now */
    struct sim_counters *counters;
    struct _ze_driver_handle_t driver;
    struct _ze_device_handle_t cards[SIM_CARDS_MAX];
    ze_device_handle_t visible[SIM_CARDS_MAX]; /* of these, as ZE_AFFINITY_MASK says */
    uint32_t n_visible;
    struct sim_memory *memory;
    struct _ze_command_queue_handle_t *queues;
    struct sim_object *objects;
    uint64_t n_memory;
    uint64_t n_submitted, n_allowed; /* submissions that may run: all, while somebody waits */
    unsigned n_waiting;
    uint64_t draw; /* state of the generator that picks what runs next */
};
extern struct sim sim;

/* driver.c */
ze_result_t sim_enter(ze_device_handle_t card); /* counts a call; DEVICE_LOST if the card is */
void sim_poll(ze_device_handle_t card);         /* counts a call that asks how far the card is */
void sim_poll_locked(ze_device_handle_t card);
/* Its memory goes with it if `emptied`.  The lock is held. */
void sim_lose(ze_device_handle_t card, const char *why, bool emptied);
void *sim_make(enum sim_tag tag, size_t bytes);       /* zeroed, or NULL */
bool sim_knows(const void *object, enum sim_tag tag); /* misuse when it is gone, or another */
_Noreturn void sim_misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
const void *sim_chained(const void *next, ze_structure_type_t stype); /* of a pNext chain */

/* elsewhere.c; the lock is held: bytes of a card's memory that other processes of its box have, and
 * this one has not */
uint64_t sim_elsewhere_bytes(unsigned card);

/* memory.c; the lock is held */
bool sim_memory_is_here(uint64_t inode);
struct sim_memory *sim_memory_find(const void *p);
bool sim_reaches(const struct _ze_device_handle_t *card, int home);
void sim_memory_want(const void *p, unsigned card); /* what the next command names */
void sim_memory_want_all(unsigned card, ze_kernel_indirect_access_flags_t which);
void sim_memory_veil(unsigned card); /* what a path that lies delivers instead, if wanted */
void sim_memory_empty(unsigned card);
void sim_memory_open(void);    /* what is wanted, and nothing else */
void sim_memory_shut(void);    /* everything */
void sim_memory_restore(void); /* the windows that a fault filled with something else */

/* fault.c: accesses of device code to what it may not touch */
void sim_faults_watch(void);
void sim_faults_begin(unsigned card);
bool sim_faults_end(uintptr_t *address); /* whether there was one, and where first */
bool sim_fault_filled(unsigned window);  /* and forgets it */
void sim_faults_here(bool device_code);  /* this thread stands in for the card, or no longer */

/* svm.c; the lock is held */
void sim_svm_run(const struct sim_command *command, unsigned card); /* advice, prefetch */
void sim_svm_touch(const void *p,
                   unsigned card); /* a kernel of the card's uses the host's memory */

/* reach.c; the lock is held but for a fault */
void sim_reach_watch(uint64_t begin, uint64_t end, int home); /* advised to be on a card */
void sim_reach_forget(uint64_t begin, uint64_t end);          /* or not any more */
void sim_reach_lost(int card);
bool sim_reach_fault(uintptr_t address, bool by_card); /* it was that, and may go on */
void sim_reach_moved(uint64_t begin, uint64_t bytes);
void sim_reach_import(const void *p, uint64_t bytes); /* for the command that is about to run */
void sim_reach_open(unsigned card);
void sim_reach_settle(int card); /* whose command ran; -1: none, what the host touched only */
void sim_reach_shut(void);

/* opencl.c; no lock */
struct sim_program *sim_program_build(const uint8_t *il, size_t size, const char *flags,
                                      char **log);
bool sim_program_needs_matrix(const uint8_t *il, size_t size); /* its functions */
const uint8_t *sim_program_il(const struct sim_program *program, size_t *size);
struct _cl_kernel *sim_program_kernel(struct sim_program *program, const char *name);
const char *sim_launch_run(const struct sim_launch *launch); /* NULL, or what is wrong */
bool sim_launches_run_here(void);                            /* on the thread that calls that */

/* queue.c; the lock is held but for sim_submit's wait */
ze_result_t sim_submit(ze_command_queue_handle_t queue, struct sim_submission *submission);
ze_command_queue_handle_t sim_queue_make(ze_context_handle_t context, ze_device_handle_t card,
                                         const ze_command_queue_desc_t *desc, ze_result_t *result);
void sim_queues_drop(ze_device_handle_t card);
/* Waits, with everything allowed to run, until done(what) or the time is over; polls the card,
 * which may be NULL. */
ze_result_t sim_wait(ze_result_t (*done)(void *what), void *what, ze_device_handle_t card,
                     uint64_t timeout_ns);
/* The same, but nothing is allowed to run for it. */
ze_result_t sim_listen(ze_result_t (*done)(void *what), void *what, uint64_t timeout_ns);
void sim_command_finish(struct sim_command *command); /* what it owns */

#define SIM_HANDLE(object, tag)                                                                    \
    do {                                                                                           \
        if (!sim_knows(object, tag))                                                               \
            return ZE_RESULT_ERROR_INVALID_NULL_HANDLE;                                            \
    } while (0)
#define SIM_POINTER(p)                                                                             \
    do {                                                                                           \
        if (!(p))                                                                                  \
            return ZE_RESULT_ERROR_INVALID_NULL_POINTER;                                           \
    } while (0)
#define SIM_ENTER(card)                                                                            \
    do {                                                                                           \
        const ze_result_t entered_ = sim_enter(card);                                              \
        if (entered_ != ZE_RESULT_SUCCESS)                                                         \
            return entered_;                                                                       \
    } while (0)

#endif
