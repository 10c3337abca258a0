/* SPDX-License-Identifier: Apache-2.0 */
/* What a card does when its code touches memory that it cannot reach.
 *
 * Kernels run on threads of the OpenCL runtime, in pages that belong to no file; that, or a mark on
 * the thread that copies, or has PoCL run a kernel, tells device code from the host's.  Device code
 * that faults in a window goes on with zeroed pages laid over what it touched, so that it ends;
 * then its card is lost and the window gets its memory back.  A fault of the host's is passed on to
 * whoever asked for it. */
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "tests/sim_level_zero/sim.h"

#define PAGES_MAX 1000

static struct sigaction before;
static atomic_int running = -1; /* the card whose command runs */
static atomic_uintptr_t first;
static atomic_uint n_faults;
static atomic_bool filled[SIM_CARDS_MAX];
static __thread bool here __attribute__((tls_model("initial-exec")));

static bool is_device_code(const ucontext_t *context) {
    if (here)
        return true;
    Dl_info of = {0};
    const void *at = (const void *)(uintptr_t)context->uc_mcontext.gregs[REG_RIP];
    /* The runtime's own library of functions counts too. */
    return !dladdr(at, &of) || (of.dli_fname && strstr(of.dli_fname, "libocl_svml"));
}

static int window_of(uintptr_t address) {
    for (unsigned i = 0; i < sim.options.n_cards; i++)
        if (address - (uintptr_t)sim.cards[i].window < SIM_WINDOW)
            return (int)i;
    return -1;
}

static void say(const char *text) {
    if (write(2, text, strlen(text)) < 0)
        return;
}

/* A page at first, for the kernel may need what lies beside it to end; then all. */
static void cover(int window, uintptr_t address) {
    const bool all = atomic_fetch_add(&n_faults, 1) >= PAGES_MAX;
    void *at = all ? sim.cards[window].window : (void *)(address / SIM_PAGE * SIM_PAGE);
    mmap(at, all ? SIM_WINDOW : SIM_PAGE, PROT_READ | PROT_WRITE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    atomic_store(&filled[window], true);
}

static void on_fault(int number, siginfo_t *info, void *context) {
    const uintptr_t address = (uintptr_t)info->si_addr;
    const bool by_card = atomic_load(&running) >= 0 && is_device_code(context);
    if (sim_reach_fault(address, by_card))
        return;
    if (by_card) {
        const int window = window_of(address);
        if (window < 0) {
            say("sim_level_zero: a kernel or a copy touched an address that nothing has; on a card"
                " that is the loss of the card, here the end of the process\n");
            abort();
        }
        uintptr_t none = 0;
        atomic_compare_exchange_strong(&first, &none, address);
        cover(window, address);
        return;
    }
    if (before.sa_flags & SA_SIGINFO && before.sa_sigaction) {
        before.sa_sigaction(number, info, context);
        return;
    }
    if (!(before.sa_flags & SA_SIGINFO) && before.sa_handler != SIG_DFL &&
        before.sa_handler != SIG_IGN) {
        before.sa_handler(number);
        return;
    }
    signal(SIGSEGV, SIG_DFL); /* and the access, made again, ends the process */
}

void sim_faults_watch(void) {
    const struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    struct sigaction old;
    sigaction(SIGSEGV, &action, &old);
    if (!(old.sa_flags & SA_SIGINFO) || old.sa_sigaction != on_fault)
        before = old;
}

void sim_faults_begin(unsigned card) {
    sim_faults_watch(); /* the program may have put another in its place */
    atomic_store(&first, 0);
    atomic_store(&n_faults, 0);
    atomic_store(&running, (int)card);
}

bool sim_faults_end(uintptr_t *address) {
    atomic_store(&running, -1);
    *address = atomic_load(&first);
    return *address != 0;
}

bool sim_fault_filled(unsigned window) {
    return atomic_exchange(&filled[window], false);
}

void sim_faults_here(bool device_code) {
    here = device_code;
}
