/* SPDX-License-Identifier: Apache-2.0 */
/* selftest.c - who tries what: a process for each card's kernels, one that finds the cards, one
 * that measures the links, one that exchanges over them.  This process only waits for them, and
 * never calls a driver. */
#include "daemon/engine/selftest.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/engine/errand.h"
#include "daemon/engine/probe.h"
#include "daemon/engine/trial.h"
#include "octarc/error.h"

#define CHILDREN_MAX (CARDS_MAX + 1)
#define NOTHING      UINT32_MAX /* no exchange is begun yet */

/* What a child says; written at once, so that it arrives whole. */
struct word {
    enum {
        WORD_ISA,
        WORD_BUILDS,
        WORD_RUNS,
        WORD_KERNEL,
        WORD_CARD,
        WORD_STORAGE,
        WORD_FAILED,
        WORD_WHY
    } what;
    uint32_t number; /* of the kernel or the exchange; of the card */
    union {
        char isa[16];
        struct selftest_kernel kernel;
        struct device_properties card;
        char why[SELFTEST_WHY_MAX];
    };
};

struct child {
    void (*run)(const struct child *child); /* in it */
    struct selftest_report *report;
    const struct device_options *options;
    uint32_t card;
    struct selftest_kernels *kernels; /* that it fills; NULL: it does something else, */
    bool exchanges;                   /* which is to exchange */
    char *why;                        /* SELFTEST_WHY_MAX, of what goes wrong */
    pid_t pid;                        /* 0: none runs */
    int fd;
    uint64_t silent_ms, over_ms; /* when it is ended */
    uint32_t begun;              /* the kernel under way … */
    bool runs;                   /* … and whether it runs, or is built yet */
    uint32_t silent_s;
    struct word word;
    size_t n; /* of that, so far */
};

/* ---- in the processes that may be lost ------------------------------------------------------- */

static void say(const struct child *c, const struct word *word) {
    if (write(c->fd, word, sizeof *word) != (ssize_t)sizeof *word)
        _exit(2);
}

static void say_why(const struct child *c, const char *why) {
    struct word word = {.what = WORD_WHY};
    snprintf(word.why, sizeof word.why, "%.*s", SELFTEST_WHY_MAX - 1, why);
    say(c, &word);
}

static void measure_links(const struct child *c) {
    const struct device_ops *ops = device_backend("level_zero");
    struct device *d = NULL;
    struct err err = {{0}};
    if (ops->open(&d, c->options, &err)) {
        say_why(c, err.text);
        return;
    }
    for (uint32_t i = 0; i < c->options->n_cards; i++) {
        struct word word = {.what = WORD_CARD, .number = i};
        if (c->options->present[i] && !ops->properties(d, i, &word.card))
            say(c, &word);
    }
    ops->close(d);
}

/* As an engine does that may choose. */
static void try_svm(const struct child *c) {
    const struct device_ops *ops = device_backend("level_zero");
    struct device_options o = *c->options;
    struct word word = {.what = WORD_STORAGE};
    struct device *d = NULL;
    struct err err = {{0}};
    uint32_t first = 0;
    while (!o.present[first])
        first++;
    o.storage = DEVICE_AUTO;
    int rc = ops->open(&d, &o, &err);
    if (!rc)
        rc = ops->properties(d, first, &word.card);
    if (rc)
        say_why(c, err.text[0] ? err.text : strerror(-rc));
    else
        say(c, &word);
    if (d)
        ops->close(d);
}

static void begun(void *user, uint32_t i, bool built) {
    say(user, &(struct word){.what = built ? WORD_RUNS : WORD_BUILDS, .number = i});
}

static void told(void *user, uint32_t i, const struct selftest_kernel *kernel) {
    say(user, &(struct word){.what = WORD_KERNEL, .number = i, .kernel = *kernel});
}

static void knows(void *user, const struct device_properties *card) {
    say(user, &(struct word){.what = WORD_CARD, .card = *card});
}

static void try_card(const struct child *c) {
    struct device_options o = {.n_cards = 1, .present = {true}};
    struct err err = {{0}};
    const struct selftest_ears ears = {begun, told, knows, (void *)c};
    memcpy(o.slots[0], c->options->slots[c->card], sizeof o.slots[0]);
    if (selftest_run_kernels(device_backend("level_zero"), &o, ISA_AUTO, &ears, &err))
        say_why(c, err.text);
}

static void failed(void *user, uint32_t i, const char *why) {
    struct word word = {.what = WORD_FAILED, .number = i};
    snprintf(word.why, sizeof word.why, "%s", why);
    say(user, &word);
}

/* Not again what another process began with. */
static bool wanted(void *user, uint32_t reader, uint32_t owner) {
    const struct child *c = user;
    return c->report->links[reader][owner].n_exchanges == 0;
}

static void exchange(const struct child *c) {
    const struct selftest_exchange_ears ears = {{begun, told, NULL, (void *)c}, failed, wanted};
    struct err err = {{0}};
    if (selftest_run_exchanges(device_backend("level_zero"), c->options, &ears, &err) &&
        err.text[0])
        say_why(c, err.text);
}

/* The best set of instructions that it has, against the portable one. */
static void try_cpu(const struct child *c) {
    static const struct {
        enum instruction_set isa;
        const char *name;
    } sets[] = {{ISA_AVX512, "avx512"}, {ISA_AVX2, "avx2"}, {ISA_PORTABLE, "portable"}};
    const struct selftest_ears ears = {begun, told, NULL, (void *)c};
    int rc = -ENOTSUP;
    for (size_t i = 0; i < sizeof sets / sizeof *sets && rc == -ENOTSUP; i++) {
        const struct device_options o = {
            .n_cards = 1, .present = {true}, .n_threads = 1, .isa = sets[i].isa};
        struct word word = {.what = WORD_ISA};
        struct err err = {{0}};
        snprintf(word.isa, sizeof word.isa, "%s", sets[i].name);
        say(c, &word);
        rc = selftest_run_kernels(device_backend("cpu"), &o, ISA_PORTABLE, &ears, &err);
        if (rc && rc != -ENOTSUP)
            say_why(c, err.text);
    }
}

/* ---- in the process that waits --------------------------------------------------------------- */

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void be_patient(struct child *c, uint32_t seconds) {
    c->silent_s = seconds;
    c->silent_ms = now_ms() + seconds * UINT64_C(1000);
}

static void start(struct child *c) {
    int ends[2];
    c->pid = 0;
    if (pipe(ends) < 0) {
        snprintf(c->why, SELFTEST_WHY_MAX, "no process to try it in: %s", strerror(errno));
        return;
    }
    const pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        /* One that cannot even be killed must hold nobody's report open. */
        c->fd = dup2(ends[1], STDERR_FILENO + 1);
        close_range(STDERR_FILENO + 2, ~0u, 0);
        c->run(c);
        _exit(0);
    }
    close(ends[1]);
    c->pid = pid > 0 ? pid : 0;
    c->fd = ends[0];
    c->over_ms = now_ms() + SELFTEST_CARD_S * UINT64_C(1000);
    be_patient(c, SELFTEST_BUILD_S); /* the links' kernels are built, too */
    if (pid > 0)
        return;
    close(ends[0]);
    snprintf(c->why, SELFTEST_WHY_MAX, "no process to try it in");
}

static void take_kernel(struct child *c) {
    struct selftest_kernels *k = c->kernels;
    k->n = selftest_kernels_count();
    if (c->word.number >= k->n)
        return;
    c->begun = c->word.number;
    c->runs = c->word.what == WORD_RUNS;
    be_patient(c, c->runs ? SELFTEST_SILENCE_S : SELFTEST_BUILD_S);
    if (c->word.what == WORD_KERNEL)
        k->of[c->begun] = c->word.kernel;
}

static void take_exchange(struct child *c) {
    const uint32_t at = c->word.number % SELFTEST_EXCHANGES,
                   of = c->word.number / SELFTEST_EXCHANGES;
    if (of >= CARDS_MAX * CARDS_MAX)
        return;
    struct selftest_link *link = &c->report->links[of / CARDS_MAX][of % CARDS_MAX];
    c->begun = c->word.number;
    c->runs = c->word.what == WORD_RUNS;
    link->n_exchanges = SELFTEST_EXCHANGES;
    be_patient(c, c->runs ? SELFTEST_SILENCE_S : SELFTEST_BUILD_S);
    if (c->word.what == WORD_KERNEL)
        link->exchanges[at] = c->word.kernel;
    else if (c->word.what == WORD_FAILED)
        memcpy(link->exchanges_why, c->word.why, SELFTEST_WHY_MAX);
}

/* Of the card whose kernels are tried. */
static void take_own(struct child *c) {
    struct selftest_card *card = &c->report->cards[c->card];
    card->xmx = c->word.card.xmx;
    memcpy(card->xmx_why, c->word.card.xmx_why, sizeof card->xmx_why);
    card->native = c->word.card.native;
    memcpy(card->native_why, c->word.card.native_why, sizeof card->native_why);
}

static void take_card(struct child *c) {
    const struct device_properties *p = &c->word.card;
    struct selftest_report *r = c->report;
    const uint32_t reader = c->word.number;
    for (uint32_t i = 0; i < CARDS_MAX && reader < CARDS_MAX; i++) {
        struct selftest_link *link = &r->links[reader][i];
        link->tried = i != reader && c->options->present[i];
        link->direct = p->direct >> i & 1;
        link->speed = p->links[i];
        if (link->tried && p->misread >> i & 1)
            snprintf(link->why, sizeof link->why, "it read wrong bytes when it was tried");
        else if (link->tried && !link->speed.latency_ns)
            snprintf(link->why, sizeof link->why, "wrong bytes come through host memory, too");
    }
}

static void take_word(struct child *c) {
    switch (c->word.what) {
    case WORD_ISA:
        memcpy(c->report->isa, c->word.isa, sizeof c->report->isa);
        break;
    case WORD_CARD:
        if (c->kernels)
            take_own(c);
        else
            take_card(c);
        break;
    case WORD_STORAGE:
        c->report->storage = c->word.card.svm ? SELFTEST_SVM : SELFTEST_USM;
        memcpy(c->report->usm_why, c->word.card.storage_why, sizeof c->report->usm_why);
        break;
    case WORD_WHY:
        memcpy(c->why, c->word.why, SELFTEST_WHY_MAX);
        break;
    default:
        if (c->kernels)
            take_kernel(c);
        else if (c->exchanges)
            take_exchange(c);
    }
}

/* What was under way, in words. */
static const char *under_way(const struct child *c, char out[64]) {
    char name[32];
    if (c->exchanges && c->begun == NOTHING)
        return "opening the cards";
    if (!c->exchanges && (!c->kernels || c->kernels->n == 0))
        return c->kernels ? "opening it" : "it";
    if (c->exchanges)
        selftest_exchange_name(c->begun % SELFTEST_EXCHANGES, name);
    else
        selftest_kernel_name(c->begun, name);
    snprintf(out, 64, "%s%s", c->runs ? "" : "building ", name);
    return out;
}

static void take_end(struct child *c) {
    int status = 0;
    char name[64];
    close(c->fd);
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        ;
    c->pid = 0;
    if (WIFSIGNALED(status))
        snprintf(c->why, SELFTEST_WHY_MAX, "%s ended the process that tried: %s",
                 under_way(c, name), strsignal(WTERMSIG(status)));
    else if (status && !c->why[0])
        snprintf(c->why, SELFTEST_WHY_MAX, "the process that tried it failed");
}

static void end_silent(struct child *c, bool silent) {
    char name[64];
    kill(c->pid, SIGKILL);
    close(c->fd);
    waitpid(c->pid, NULL, WNOHANG); /* it may be stuck in the kernel */
    c->pid = 0;
    snprintf(c->why, SELFTEST_WHY_MAX, "%s did not end within %d s", under_way(c, name),
             silent ? (int)c->silent_s : SELFTEST_CARD_S);
}

static void hear(struct child *c) {
    const ssize_t n = read(c->fd, (char *)&c->word + c->n, sizeof c->word - c->n);
    if (n < 0 && errno == EINTR)
        return;
    if (n <= 0) {
        take_end(c);
        return;
    }
    c->n += (size_t)n;
    if (c->n < sizeof c->word)
        return;
    c->n = 0;
    take_word(c);
}

static void hear_all(struct child *children, uint32_t n) {
    for (;;) {
        struct pollfd fds[CHILDREN_MAX];
        const uint64_t now = now_ms();
        uint64_t next = UINT64_MAX;
        for (uint32_t i = 0; i < n; i++) {
            struct child *c = &children[i];
            const uint64_t until = c->silent_ms < c->over_ms ? c->silent_ms : c->over_ms;
            if (c->pid && until <= now)
                end_silent(c, c->silent_ms <= c->over_ms);
            fds[i] = (struct pollfd){.fd = c->pid ? c->fd : -1, .events = POLLIN};
            if (c->pid && until < next)
                next = until;
        }
        if (next == UINT64_MAX)
            return;
        const int ready = poll(fds, n, (int)(next - now));
        for (uint32_t i = 0; ready > 0 && i < n; i++)
            if (fds[i].revents)
                hear(&children[i]);
    }
}

static void run_one(struct child *c) {
    start(c);
    hear_all(c, 1);
}

/* Cards by themselves, then each direct link; what fails is left out from then on. */
static void try_each(struct selftest_report *r, struct device_options *o) {
    struct msg_tried *tried = calloc(1, sizeof *tried);
    const struct trial_options options = {
        .ops = device_backend("level_zero"), .device = *o, .silence_s = TRIAL_S_MAX};
    if (!tried)
        return;
    trial_run(&options, tried);
    for (uint32_t i = 0; i < o->n_cards; i++) {
        o->present[i] &= !(tried->cards >> i & 1);
        o->staged[i] |= tried->links[i];
        if (tried->cards >> i & 1)
            snprintf(r->cards[i].why, sizeof r->cards[i].why, "%s", tried->why[i]);
    }
    /* Of several bad links of one reader the last one's reason is known. */
    for (uint32_t i = 0; i < o->n_cards; i++)
        for (uint32_t k = 0; k < o->n_cards; k++)
            if (tried->links[i] >> k & 1)
                snprintf(r->links[i][k].why, sizeof r->links[i][k].why, "%s", tried->why[i]);
    free(tried);
}

static uint32_t count(const struct device_options *o) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < o->n_cards; i++)
        n += o->present[i];
    return n;
}

static void try_storage(struct selftest_report *r, const struct device_options *o) {
    struct child c = {.run = try_svm, .report = r, .options = o, .why = r->storage_why};
    if (count(o))
        run_one(&c);
}

static void try_links(struct selftest_report *r, struct device_options *o) {
    struct child c = {.run = measure_links, .report = r, .options = o, .why = r->links_why};
    o->measure_links = true;
    if (count(o) > 1)
        run_one(&c);
    o->measure_links = false;
}

static bool all_exchanged(const struct selftest_report *r, const struct device_options *o) {
    bool all = true;
    for (uint32_t i = 0; i < o->n_cards; i++)
        for (uint32_t k = 0; k < o->n_cards; k++)
            all &= i == k || !o->present[i] || !o->present[k] || r->links[i][k].n_exchanges > 0;
    return all;
}

/* Who ends the process, is silent or loses a card is the link that was under way; another process
 * goes on behind it. */
static void try_exchanges(struct selftest_report *r, const struct device_options *options) {
    struct device_options o = *options;
    bool goes_on = true;
    for (uint32_t i = 0; i < o.n_cards; i++)
        for (uint32_t k = 0; k < o.n_cards; k++)
            o.staged[i] |= r->links[i][k].tried && !r->links[i][k].direct ? 1u << k : 0;
    while (goes_on && !all_exchanged(r, &o)) {
        char why[SELFTEST_WHY_MAX] = "";
        struct child c = {.run = exchange,
                          .report = r,
                          .options = &o,
                          .exchanges = true,
                          .begun = NOTHING,
                          .why = why};
        run_one(&c);
        goes_on = c.begun != NOTHING;
        const uint32_t of = goes_on ? c.begun / SELFTEST_EXCHANGES : 0;
        struct selftest_link *link = &r->links[of / CARDS_MAX][of % CARDS_MAX];
        if (why[0])
            memcpy(goes_on ? link->exchanges_why : r->exchanges_why, why, sizeof why);
    }
    if (!all_exchanged(r, &o) && !r->exchanges_why[0])
        snprintf(r->exchanges_why, sizeof r->exchanges_why, "no process was left that could");
}

static void try_kernels(struct selftest_report *r, const struct device_options *o) {
    struct child children[CHILDREN_MAX] = {
        {.run = try_cpu, .report = r, .kernels = &r->cpu, .why = r->cpu.why}};
    uint32_t n = 1;
    for (uint32_t i = 0; i < o->n_cards; i++)
        if (o->present[i])
            children[n++] = (struct child){.run = try_card,
                                           .report = r,
                                           .options = o,
                                           .card = i,
                                           .kernels = &r->cards[i].kernels,
                                           .why = r->cards[i].kernels.why};
    for (uint32_t i = 0; i < n; i++)
        start(&children[i]);
    hear_all(children, n);
}

/* As a service does; those that cannot be used are hidden from all processes that come. */
static void find_cards(struct selftest_report *r, struct device_options *o) {
    struct drm_box *box = calloc(1, sizeof *box);
    struct probe_driver *driver = calloc(1, sizeof *driver);
    struct err ignored;
    if (box && driver) {
        drm_find(box, "", &ignored); /* else nothing is known of it: no card is compared */
        probe_driver(driver, box);
        r->found = driver->cards;
        const struct missing_libraries *l = &driver->libraries;
        if (device_usable(&r->found) == 0)
            snprintf(r->error, sizeof r->error, "%s", l->why[0] ? l->why : l->none);
    }
    free(box);
    free(driver);
    o->n_cards = r->found.n_cards;
    for (uint32_t i = 0; i < o->n_cards; i++) {
        const char *why = r->found.cards[i].why;
        o->present[i] = !why[0];
        memcpy(o->slots[i], r->found.cards[i].slot, sizeof o->slots[i]);
        snprintf(r->cards[i].why, sizeof r->cards[i].why, "%s", why);
    }
    if (count(o) < o->n_cards)
        device_backend("level_zero")->hide(o);
}

static void fill(struct selftest_report *r, bool kernels) {
    struct device_options o = {.max_rows = 1};
    find_cards(r, &o);
    /* Where only figures are asked for, an engine will find out who is to blame for there being
     * none. */
    if (o.n_cards && kernels)
        try_each(r, &o);
    if (o.n_cards)
        try_links(r, &o);
    if (kernels) {
        try_exchanges(r, &o);
        try_storage(r, &o);
        try_kernels(r, &o);
    }
}

static int answer(int fd, bool kernels) {
    struct selftest_report *report = calloc(1, sizeof *report);
    if (!report)
        return -ENOMEM;
    report->magic = SELFTEST_MAGIC;
    report->bytes = sizeof *report;
    snprintf(report->version, sizeof report->version, "%s", OCTARC_VERSION);
    fill(report, kernels);
    const int rc = errand_write(fd, report, sizeof *report);
    free(report);
    return rc;
}

int selftest_answer(int fd) {
    return answer(fd, true);
}

int selftest_answer_links(int fd) {
    return answer(fd, false);
}
