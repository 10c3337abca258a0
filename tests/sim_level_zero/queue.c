/* SPDX-License-Identifier: Apache-2.0 */
/* Queues, and the thread that runs what is in them.
 *
 * Commands begin in the order in which they were appended, and end in any, unless a barrier, an
 * event or an in-order list says otherwise: that is all the specification promises.  So of the
 * commands that may have begun the thread runs any one, whole; and, as nothing says how soon, it
 * runs them only while the host waits or after it has asked (SIM_ZE start=wait).  What relies on
 * more than was promised fails here each time, not one time in a thousand. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/sim_level_zero/sim.h"

#define FLAG_IN_ORDER_QUEUE 2u /* since 1.7 */
#define LOOK_NS             UINT64_C(5000000)
#define SLOW_NS             UINT64_C(20000000) /* of a launch over a slow path */
#define SLOW_ITEM_NS        400

static bool thread_started;
static struct sim_submission *running; /* whose command the thread runs */
static bool running_dropped;           /* its card was lost meanwhile */

/* What may run next, and where it stands. */
struct choice {
    ze_command_queue_handle_t queue;
    struct sim_submission *submission;
    struct sim_command *command;
};

void sim_command_finish(struct sim_command *command) {
    free(command->waits);
    free(command->launch);
    command->waits = NULL;
    command->launch = NULL;
}

static void submission_end(struct sim_submission *s) {
    if (s->list)
        s->list->busy = false;
    for (size_t i = 0; !s->list && i < s->n; i++)
        sim_command_finish(&s->commands[i]);
    if (!s->list)
        free(s->commands);
    free(s);
}

/* splitmix64 */
static uint64_t draw(void) {
    uint64_t z = sim.draw += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static bool waits_over(const struct sim_command *command) {
    for (uint32_t i = 0; i < command->n_waits; i++) {
        if (command->waits[i]->object.gone)
            sim_misuse("a command waits for an event that was destroyed");
        if (!command->waits[i]->signaled)
            return false;
    }
    return true;
}

/* Of the commands of one queue that may have begun, one; n counts those of all queues so far.  True
 * when that is the one to run now. */
static bool scan(ze_command_queue_handle_t queue, struct choice *choice, unsigned *n) {
    bool pending = false;
    for (struct sim_submission *s = queue->first; s; s = s->next) {
        if (!sim.n_waiting && s->sequence > sim.n_allowed)
            return false;
        for (size_t i = 0; i < s->n; i++) {
            struct sim_command *c = &s->commands[i];
            if (c->done)
                continue;
            const bool all_before = c->kind == SIM_BARRIER && !c->n_waits;
            if ((pending && (all_before || s->in_order)) || !waits_over(c))
                return false;
            pending = true;
            if (c->kind == SIM_ADVISE) { /* before anything else of its flush */
                *choice = (struct choice){queue, s, c};
                *n = 1;
                return true;
            }
            if (!(*n)++ || (sim.options.shuffled && draw() % *n == 0))
                *choice = (struct choice){queue, s, c};
            if (c->kind == SIM_BARRIER || c->kind == SIM_WAIT)
                return false;
        }
    }
    return false;
}

static bool choose(struct choice *choice) {
    unsigned n = 0;
    for (ze_command_queue_handle_t q = sim.queues; q; q = q->next)
        if (!q->object.gone && !q->card->hung && !q->card->lost &&
            !sim.control.polled_aborts[q->card->number])
            if (scan(q, choice, &n))
                break;
    return n;
}

/* Marks what the launch may reach; a sentence when it names what no card has. */
static const char *want_launch(const struct sim_launch *launch, unsigned card) {
    const struct spirv_kernel *shape = launch->kernel->shape;
    if (launch->kernel->object.gone)
        sim_misuse("kernel %s runs after it was destroyed", shape->name);
    for (uint32_t i = 0; i < shape->n_args; i++) {
        const uint8_t *p = NULL;
        if (shape->args[i].kind != SPIRV_POINTER)
            continue;
        memcpy(&p, launch->args + shape->args[i].at, sizeof p);
        bool known = !p || sim_memory_find(p) || sim_memory_find(p - 1);
        for (unsigned k = 0; k < sim.options.n_cards && !known; k++)
            known = (uint64_t)(p - sim.cards[k].window) < SIM_WINDOW;
        if (!known && !sim.options.system)
            return "a kernel was given an address of the host's own memory";
        if (!known)
            sim_svm_touch(p, card);
        sim_memory_want(p, card);
    }
    sim_memory_want_all(card, launch->indirect);
    return NULL;
}

static const char *want(const struct sim_command *c, unsigned card) {
    if (c->kind == SIM_LAUNCH)
        return want_launch(c->launch, card);
    if (c->kind == SIM_COPY) {
        sim_memory_want(c->from, card);
        sim_reach_import(c->from, c->size);
    }
    if (c->kind == SIM_COPY || c->kind == SIM_FILL) {
        sim_memory_want(c->to, card);
        sim_reach_import(c->to, c->size);
    }
    return NULL;
}

static void fill(const struct sim_command *c) {
    for (uint64_t i = 0; i < c->size; i += c->pattern_size)
        memcpy(c->to + i, c->pattern,
               c->size - i < c->pattern_size ? c->size - i : c->pattern_size);
}

static void copy(const struct sim_command *c, enum sim_lie lie) {
    if (lie == SIM_HONEST)
        memmove(c->to, c->from, c->size);
    if (lie == SIM_ONES)
        memset(c->to, 0xff, c->size);
}

static const char *work(const struct sim_command *c, enum sim_lie lie) {
    const char *wrong = NULL;
    sim_faults_here(c->kind != SIM_LAUNCH || sim_launches_run_here());
    if (c->kind == SIM_COPY)
        copy(c, lie);
    if (c->kind == SIM_FILL)
        fill(c);
    if (c->kind == SIM_LAUNCH)
        wrong = sim_launch_run(c->launch);
    sim_faults_here(false);
    return wrong;
}

static enum sim_lie path_of(const struct sim_command *c) {
    if (c->kind != SIM_COPY)
        return SIM_HONEST;
    const struct sim_memory *from = sim_memory_find(c->from), *to = sim_memory_find(c->to);
    const int a = from ? from->card : -1, b = to ? to->card : -1;
    if (a != b && a >= 0 && sim.cards[a].lost)
        return SIM_ONES;
    return sim.control.lies[a < 0 ? SIM_HOST : a][b < 0 ? SIM_HOST : b];
}

/* An argument names memory beyond a slow path. */
static bool names_slow(const struct sim_launch *launch, unsigned card) {
    const struct spirv_kernel *shape = launch->kernel->shape;
    for (uint32_t i = 0; i < shape->n_args; i++) {
        const uint8_t *p = NULL;
        if (shape->args[i].kind != SPIRV_POINTER)
            continue;
        memcpy(&p, launch->args + shape->args[i].at, sizeof p);
        const struct sim_memory *m = sim_memory_find(p);
        if (m && m->card >= 0 && sim.control.slow[m->card][card])
            return true;
    }
    return false;
}

/* How much longer it takes for what a kernel reads over slow paths. */
static uint64_t slowness_of(const struct sim_command *c, unsigned card) {
    uint64_t items = 1;
    if (c->kind != SIM_LAUNCH || !names_slow(c->launch, card))
        return 0;
    for (unsigned i = 0; i < 3; i++)
        items *= (uint64_t)c->launch->group[i] * c->launch->groups[i];
    return SLOW_NS + items * SLOW_ITEM_NS;
}

static void idle(uint64_t ns) {
    const struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    if (ns)
        nanosleep(&t, NULL);
}

/* Runs a command that touches memory; the lock is let go meanwhile. */
static void run(const struct choice *choice) {
    ze_device_handle_t card = choice->queue->card;
    uintptr_t address = 0;
    const char *wrong = want(choice->command, card->number);
    const enum sim_lie lie = path_of(choice->command);
    const uint64_t slow_ns = slowness_of(choice->command, card->number);
    if (choice->command->kind == SIM_LAUNCH)
        sim_memory_veil(card->number);
    sim_memory_open();
    sim_reach_open(card->number);
    if (!wrong) {
        running = choice->submission;
        sim_faults_begin(card->number);
        pthread_mutex_unlock(&sim.lock);
        idle(slow_ns);
        wrong = work(choice->command, lie);
        pthread_mutex_lock(&sim.lock);
        if (sim_faults_end(&address))
            wrong = "its code touched memory that it cannot reach";
    }
    sim_reach_settle((int)card->number);
    sim_memory_restore();
    if (wrong) {
        sim_memory_shut();
        sim_reach_shut();
        sim_lose(card, wrong, false);
    }
    running = NULL;
}

static void fence_end(ze_fence_handle_t fence) {
    if (fence && !--fence->n_pending)
        fence->signaled = true;
}

/* What the host may look at from now on is shut before it is told. */
static void end(struct choice *choice) {
    struct sim_command *c = choice->command;
    struct sim_submission *s = choice->submission;
    const bool last = s->n_done + 1 == s->n;
    if (c->signal || last) {
        sim_memory_shut();
        sim_reach_shut();
    }
    c->done = true;
    s->n_done++;
    sim.counters->commands[choice->queue->card->number]++;
    if (c->kind == SIM_RESET)
        ((ze_event_handle_t)(void *)c->to)->signaled = false;
    if (c->signal) {
        c->signal->signaled = true;
        c->signal->n_pending--;
    }
    if (last) {
        struct sim_submission **at = &choice->queue->first;
        while (*at != s)
            at = &(*at)->next;
        *at = s->next;
        if (choice->queue->last == &s->next)
            choice->queue->last = at;
        fence_end(s->fence);
        submission_end(s);
    }
    pthread_cond_broadcast(&sim.changed);
}

static void *thread_main(void *unused) {
    (void)unused;
    pthread_mutex_lock(&sim.lock);
    for (;;) {
        struct choice choice = {0};
        if (!choose(&choice)) {
            pthread_cond_wait(&sim.changed, &sim.lock);
            continue;
        }
        if (sim_control_count(&sim.control.hang_in[choice.queue->card->number])) {
            choice.queue->card->hung = true;
            continue;
        }
        const enum sim_kind kind = choice.command->kind;
        running_dropped = false;
        if (kind == SIM_COPY || kind == SIM_FILL || kind == SIM_LAUNCH)
            run(&choice);
        if (kind == SIM_ADVISE || kind == SIM_PREFETCH)
            sim_svm_run(choice.command, choice.queue->card->number);
        if (running_dropped)
            submission_end(choice.submission);
        else if (!choice.queue->card->lost)
            end(&choice);
    }
    return NULL;
}

/* Its own thread takes none of the program's signals. */
static bool start_thread(void) {
    pthread_t thread;
    sigset_t all, before;
    if (thread_started)
        return true;
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_started = pthread_create(&thread, NULL, thread_main, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (thread_started)
        pthread_detach(thread);
    return thread_started;
}

static void drop(ze_command_queue_handle_t queue) {
    while (queue->first) {
        struct sim_submission *s = queue->first;
        queue->first = s->next;
        for (size_t i = 0; i < s->n; i++) {
            ze_event_handle_t event = s->commands[i].signal;
            if (s->commands[i].done || !event)
                continue;
            event->lost = true;
            event->n_pending--;
        }
        if (s == running)
            running_dropped = true;
        else
            submission_end(s);
    }
    queue->last = &queue->first;
}

void sim_queues_drop(ze_device_handle_t card) {
    for (ze_command_queue_handle_t q = sim.queues; q; q = q->next)
        if (q->card == card && !q->object.gone)
            drop(q);
}

static struct timespec after(uint64_t ns) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    const uint64_t most = UINT64_C(1000000000) * 86400 * 365;
    ns = (ns < most ? ns : most) + (uint64_t)t.tv_nsec;
    t.tv_sec += (time_t)(ns / 1000000000);
    t.tv_nsec = (long)(ns % 1000000000);
    return t;
}

/* With a file of faults it is looked at now and then. */
static bool wait_on(const struct timespec *until) {
    const struct timespec look = after(LOOK_NS);
    const bool sooner =
        *sim.options.faults && (look.tv_sec < until->tv_sec ||
                                (look.tv_sec == until->tv_sec && look.tv_nsec < until->tv_nsec));
    return pthread_cond_timedwait(&sim.changed, &sim.lock, sooner ? &look : until) == ETIMEDOUT &&
           !sooner;
}

/* The lock is held. */
static ze_result_t wait_until(ze_result_t (*done)(void *what), void *what, ze_device_handle_t card,
                              uint64_t timeout_ns) {
    const struct timespec until = after(timeout_ns);
    ze_result_t result = done(what);
    while (result == ZE_RESULT_NOT_READY && timeout_ns) {
        const bool over = wait_on(&until);
        if (card)
            sim_poll_locked(card);
        result = done(what);
        if (over && timeout_ns != UINT64_MAX)
            break;
    }
    return result;
}

ze_result_t sim_wait(ze_result_t (*done)(void *what), void *what, ze_device_handle_t card,
                     uint64_t timeout_ns) {
    if (card)
        sim_poll(card);
    pthread_mutex_lock(&sim.lock);
    sim.n_waiting++;
    sim.n_allowed = sim.n_submitted;
    pthread_cond_broadcast(&sim.changed);
    const ze_result_t result = wait_until(done, what, card, timeout_ns);
    sim.n_waiting--;
    pthread_mutex_unlock(&sim.lock);
    return result;
}

ze_result_t sim_listen(ze_result_t (*done)(void *what), void *what, uint64_t timeout_ns) {
    pthread_mutex_lock(&sim.lock);
    const ze_result_t result = wait_until(done, what, NULL, timeout_ns);
    pthread_mutex_unlock(&sim.lock);
    return result;
}

static ze_result_t queue_state(void *what) {
    const struct _ze_command_queue_handle_t *queue = what;
    return queue->card->lost ? ZE_RESULT_ERROR_DEVICE_LOST
           : queue->first    ? ZE_RESULT_NOT_READY
                             : ZE_RESULT_SUCCESS;
}

ze_result_t sim_submit(ze_command_queue_handle_t queue, struct sim_submission *submission) {
    pthread_mutex_lock(&sim.lock);
    if (!start_thread() || queue->card->lost) {
        submission_end(submission);
        pthread_mutex_unlock(&sim.lock);
        return thread_started ? ZE_RESULT_ERROR_DEVICE_LOST : ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    }
    for (size_t i = 0; i < submission->n; i++) {
        submission->commands[i].done = false;
        if (submission->commands[i].signal) {
            submission->commands[i].signal->n_pending++;
            submission->commands[i].signal->card = queue->card;
        }
    }
    if (!submission->n) {
        fence_end(submission->fence);
        submission_end(submission);
        pthread_mutex_unlock(&sim.lock);
        return ZE_RESULT_SUCCESS;
    }
    submission->sequence = ++sim.n_submitted;
    if (!sim.options.lazy)
        sim.n_allowed = sim.n_submitted;
    *queue->last = submission;
    queue->last = &submission->next;
    pthread_cond_broadcast(&sim.changed);
    pthread_mutex_unlock(&sim.lock);
    return queue->synchronous ? sim_wait(queue_state, queue, queue->card, UINT64_MAX)
                              : ZE_RESULT_SUCCESS;
}

ze_command_queue_handle_t sim_queue_make(ze_context_handle_t context, ze_device_handle_t card,
                                         const ze_command_queue_desc_t *desc, ze_result_t *result) {
    *result = ZE_RESULT_ERROR_INVALID_ENUMERATION;
    if (desc->flags > (sim.options.minor >= 7 ? 3u : 1u) ||
        desc->mode > ZE_COMMAND_QUEUE_MODE_ASYNCHRONOUS ||
        desc->priority > ZE_COMMAND_QUEUE_PRIORITY_PRIORITY_HIGH)
        return NULL;
    *result = ZE_RESULT_ERROR_INVALID_ARGUMENT;
    if (desc->ordinal > SIM_COPY_ORDINAL || desc->index)
        return NULL;
    ze_command_queue_handle_t made = sim_make(SIM_QUEUE, sizeof *made);
    *result = made ? ZE_RESULT_SUCCESS : ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    if (!made)
        return NULL;
    made->context = context;
    made->card = card;
    made->ordinal = desc->ordinal;
    made->synchronous = desc->mode == ZE_COMMAND_QUEUE_MODE_SYNCHRONOUS;
    made->in_order = desc->flags & FLAG_IN_ORDER_QUEUE;
    made->last = &made->first;
    pthread_mutex_lock(&sim.lock);
    made->next = sim.queues;
    sim.queues = made;
    pthread_mutex_unlock(&sim.lock);
    return made;
}

ze_result_t ZE_APICALL zeCommandQueueCreate(ze_context_handle_t context, ze_device_handle_t card,
                                            const ze_command_queue_desc_t *desc,
                                            ze_command_queue_handle_t *out) {
    SIM_HANDLE(context, SIM_CONTEXT);
    SIM_HANDLE(card, SIM_CARD);
    SIM_POINTER(desc);
    SIM_POINTER(out);
    SIM_ENTER(card);
    ze_result_t result = ZE_RESULT_SUCCESS;
    ze_command_queue_handle_t made = sim_queue_make(context, card, desc, &result);
    if (made)
        *out = made;
    return result;
}

ze_result_t ZE_APICALL zeCommandQueueDestroy(ze_command_queue_handle_t queue) {
    SIM_HANDLE(queue, SIM_QUEUE);
    if (queue->n_fences)
        sim_misuse("a queue is destroyed before its fences");
    pthread_mutex_lock(&sim.lock);
    const bool busy = queue->first;
    queue->object.gone = !busy;
    pthread_mutex_unlock(&sim.lock);
    return busy ? ZE_RESULT_ERROR_HANDLE_OBJECT_IN_USE : ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeCommandQueueSynchronize(ze_command_queue_handle_t queue,
                                                 uint64_t timeout) {
    SIM_HANDLE(queue, SIM_QUEUE);
    return sim_wait(queue_state, queue, queue->card, timeout);
}

/* Lists of one call are submissions of their own; the fence waits for each. */
static ze_result_t submit_list(ze_command_queue_handle_t queue, ze_command_list_handle_t list,
                               ze_fence_handle_t fence) {
    struct sim_submission *s = calloc(1, sizeof *s);
    if (!s)
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    *s = (struct sim_submission){.commands = list->commands,
                                 .n = list->n,
                                 .list = list,
                                 .fence = fence,
                                 .in_order = list->in_order};
    pthread_mutex_lock(&sim.lock);
    if (list->busy)
        sim_misuse("a command list is executed while it runs");
    list->busy = true;
    if (fence)
        fence->n_pending++;
    pthread_mutex_unlock(&sim.lock);
    return sim_submit(queue, s);
}

ze_result_t ZE_APICALL zeCommandQueueExecuteCommandLists(ze_command_queue_handle_t queue,
                                                         uint32_t n,
                                                         ze_command_list_handle_t *lists,
                                                         ze_fence_handle_t fence) {
    SIM_HANDLE(queue, SIM_QUEUE);
    SIM_POINTER(lists);
    SIM_ENTER(queue->card);
    if (!n)
        return ZE_RESULT_ERROR_INVALID_SIZE;
    if (fence && (!sim_knows(fence, SIM_FENCE) || fence->queue != queue))
        return ZE_RESULT_ERROR_INVALID_SYNCHRONIZATION_OBJECT;
    for (uint32_t i = 0; i < n; i++) {
        SIM_HANDLE(lists[i], SIM_LIST);
        if (lists[i]->queue || lists[i]->ordinal != queue->ordinal || lists[i]->card != queue->card)
            return ZE_RESULT_ERROR_INVALID_COMMAND_LIST_TYPE;
        if (!lists[i]->closed)
            sim_misuse("a command list is executed before it is closed");
    }
    ze_result_t result = ZE_RESULT_SUCCESS;
    for (uint32_t i = 0; i < n && result == ZE_RESULT_SUCCESS; i++)
        result = submit_list(queue, lists[i], fence);
    return result;
}
