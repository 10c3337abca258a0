/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/drm/missing.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SMALL_BAR    (UINT64_C(1) << 28) /* what firmware gives without resizing */
#define KERNEL(a, b) ((a) << 16 | (b))
#define KERNEL_XE    KERNEL(6u, 12u) /* the first with a driver for Battlemage that is switched on */
#define KERNEL_SVM   KERNEL(6u, 15u)
#define KERNEL_MULTI KERNEL(7u, 0u)

struct finding {
    struct missing *out;
    size_t n;
    struct missing beyond; /* what the limit leaves out is written there */
};

__attribute__((format(printf, 5, 6))) static struct missing *
add(struct finding *f, const char *code, enum missing_weight weight, int32_t card, const char *fmt,
    ...) {
    struct missing *m = f->n < MISSING_MAX ? &f->out[f->n++] : &f->beyond;
    va_list args;
    *m = (struct missing){.code = code, .weight = weight, .card = card};
    va_start(args, fmt);
    vsnprintf(m->what, sizeof m->what, fmt, args);
    va_end(args);
    return m;
}

#define RESIZE         "switch on Resizable BAR and Above 4G Decoding in the firmware's setup"
#define REMEDY(m, ...) snprintf((m)->remedy, sizeof(m)->remedy, __VA_ARGS__)

/* --- a card --- */

/* A processor's own; a known card may be there in a virtual machine. */
static bool is_integrated(const struct drm_card *card) {
    return card->vendor == DRM_VENDOR_INTEL && !card->name[0] &&
           !strcmp(card->slot, "0000:00:02.0");
}

bool missing_usable(const struct drm_card *card) {
    return card->vendor == DRM_VENDOR_INTEL && !is_integrated(card) &&
           !strcmp(card->driver, "xe") && card->survivability != DRM_YES && card->render[0] &&
           card->render_error == 0;
}

static void judge_driver(struct finding *f, int32_t i, const struct drm_box *box) {
    const struct drm_card *c = &box->cards[i];
    if (!c->driver[0] && box->has_xe) {
        struct missing *m =
            add(f, "no_driver", MISSING_BLOCKS, i, "the driver xe is loaded and did not take it");
        REMEDY(m,
               "journalctl -k -g xe has the reason: without firmware apt install "
               "firmware-intel-graphics (else linux-firmware); of a card that the kernel does not "
               "know boot with xe.force_probe=%04x, or a newer kernel",
               c->device);
        return;
    }
    if (!c->driver[0]) {
        struct missing *m = add(f, "no_driver", MISSING_BLOCKS, i, "no driver is bound to it");
        REMEDY(m,
               "modprobe xe; where the kernel does not know the card's id: boot with "
               "xe.force_probe=%04x, or a newer kernel",
               c->device);
        return;
    }
    struct missing *m =
        add(f, "driver", MISSING_BLOCKS, i, "its driver is %s; octarc needs xe", c->driver);
    if (!strcmp(c->driver, "i915"))
        REMEDY(m, "boot with i915.force_probe=!%04x xe.force_probe=%04x", c->device, c->device);
    else
        REMEDY(m,
               "echo %s > /sys/bus/pci/drivers/%s/unbind; echo %s > /sys/bus/pci/drivers/xe/bind",
               c->slot, c->driver, c->slot);
}

static void judge_node(struct finding *f, int32_t i, const struct drm_box *box) {
    const struct drm_card *c = &box->cards[i];
    if (!c->render[0]) {
        struct missing *m =
            add(f, "no_node", MISSING_BLOCKS, i,
                box->has_dri ? "it has no render node in /dev/dri" : "/dev/dri is not there");
        REMEDY(m, "in a container: pass the device on (--device /dev/dri); else: udevadm trigger "
                  "--subsystem-match=drm");
    } else if (c->render_error == -EPERM) {
        struct missing *m = add(f, "permission", MISSING_BLOCKS, i,
                                "%s is forbidden by a device control group", c->render);
        REMEDY(m, "in the unit: DeviceAllow=char-drm rw; in a container: --device %s", c->render);
    } else if (c->render_error == -EACCES) {
        struct missing *m =
            add(f, "permission", MISSING_BLOCKS, i, "no permission on %s", c->render);
        if (c->render_group[0])
            REMEDY(m,
                   "usermod -aG %s octarc, or whichever user octarcd runs as; then start it again",
                   c->render_group);
        else
            REMEDY(m,
                   "no group may: chgrp render /dev/dri/renderD*; chmod g+rw /dev/dri/renderD*; "
                   "then usermod -aG render octarc, or whichever user octarcd runs as, and start "
                   "it again");
    } else if (c->render_error < 0) {
        struct missing *m = add(f, "no_node", MISSING_BLOCKS, i, "%s cannot be opened: %s",
                                c->render, strerror(-c->render_error));
        REMEDY(m,
               "look for the reason in journalctl -k; echo 1 > /sys/bus/pci/devices/%s/reset "
               "with no driver bound may bring it back",
               c->slot);
    }
}

static bool is_small(const struct drm_card *c) {
    return c->bar_bytes > 0 && c->bar_bytes <= SMALL_BAR;
}

static void judge_window(struct finding *f, int32_t i, const struct drm_card *c) {
    if (!is_small(c))
        return;
    struct missing *m =
        add(f, "small_bar", MISSING_LIMITS, i,
            "only %llu MiB of its memory can be reached over PCIe: no shared virtual memory, no "
            "direct link to other cards; Intel's driver may leave the card out",
            (unsigned long long)c->bar_bytes >> 20);
    REMEDY(m, "%s", RESIZE);
}

static void judge_card(struct finding *f, int32_t i, const struct drm_box *box) {
    const struct drm_card *c = &box->cards[i];
    if (c->vendor != DRM_VENDOR_INTEL) {
        add(f, "not_intel", MISSING_BLOCKS, i, "not a card of Intel's");
        return;
    }
    if (is_integrated(c)) {
        add(f, "integrated", MISSING_BLOCKS, i, "integrated graphics, without memory of its own");
        return;
    }
    if (strcmp(c->driver, "xe") != 0) {
        judge_driver(f, i, box);
        return;
    }
    if (c->survivability == DRM_YES) {
        struct missing *m = add(f, "survivability", MISSING_BLOCKS, i,
                                "its firmware is broken: the card only takes new firmware");
        REMEDY(m, "write its firmware anew (fwupdmgr update, or igsc), then switch the machine off "
                  "and on");
        return;
    }
    judge_node(f, i, box);
    judge_window(f, i, c);
    if (c->name[0] && !c->xe2)
        add(f, "no_svm", MISSING_LIMITS, i,
            "of a generation without shared virtual memory: storage usm only");
}

/* --- pairs of cards --- */

/* How many bridges two cards have in common, from the root on. */
static uint32_t common_bridges(const struct drm_card *a, const struct drm_card *b) {
    uint32_t n = 0;
    while (n < a->n_bridges && n < b->n_bridges && !strcmp(a->bridges[n].slot, b->bridges[n].slot))
        n++;
    return n;
}

/* The ports of a common switch: a pair meets below its last common bridge, which is the switch's
 * upstream port where it is not the root port itself. */
static bool meets_in_switch(const struct drm_card *a, const struct drm_card *b, uint32_t *port) {
    *port = common_bridges(a, b);
    return *port >= 2 && *port < a->n_bridges && *port < b->n_bridges;
}

static void note_port(char *ports, size_t size, const struct drm_bridge *bridge) {
    const size_t n = strlen(ports);
    if (bridge->redirects != DRM_YES || strstr(ports, bridge->slot))
        return;
    snprintf(ports + n, size - n, "%s%s", n ? ";" : "", bridge->slot);
}

/* Ports known to redirect; and, where nobody but root is shown that, pairs that an IOMMU keeps
 * apart, which it does by redirection. */
static void judge_pairs(struct finding *f, const struct drm_box *box) {
    char ports[160] = "";
    uint32_t apart = 0, port;
    for (uint32_t i = 0; i < box->n_cards; i++)
        for (uint32_t k = i + 1; k < box->n_cards; k++) {
            const struct drm_card *a = &box->cards[i], *b = &box->cards[k];
            if (!missing_usable(a) || !missing_usable(b) || !meets_in_switch(a, b, &port))
                continue;
            note_port(ports, sizeof ports, &a->bridges[port]);
            note_port(ports, sizeof ports, &b->bridges[port]);
            apart += a->bridges[port].redirects == DRM_UNKNOWN && a->iommu_group >= 0 &&
                     b->iommu_group >= 0 && a->iommu_group != b->iommu_group;
        }
    if (ports[0]) {
        struct missing *m = add(f, "acs", MISSING_LIMITS, -1,
                                "ACS sends what cards below one switch tell each other up to the "
                                "host: no direct links between them");
        REMEDY(m, "boot with pci=disable_acs_redir=%s", ports);
    } else if (apart) {
        struct missing *m = add(
            f, "acs", MISSING_LIMITS, -1,
            "%u pairs of cards below one switch are in IOMMU groups of their own: ACS is likely "
            "to keep them from direct links",
            apart);
        REMEDY(m, "octarcd --probe as root names the ports for pci=disable_acs_redir=");
    }
}

/* --- the machine --- */

static void judge_kernel(struct finding *f, const struct drm_box *box) {
    const uint32_t version = KERNEL(box->kernel_major, box->kernel_minor);
    if (version == 0)
        return;
    if (version < KERNEL_SVM) {
        struct missing *m =
            add(f, "kernel", MISSING_LIMITS, -1,
                "kernel %s has no shared virtual memory for cards: storage usm only", box->release);
        REMEDY(m, "Linux 7.0 or later has it for several cards%s",
               version < KERNEL_XE ? "; Battlemage needs 6.12 at least" : "");
    } else if (version < KERNEL_MULTI) {
        struct missing *m =
            add(f, "kernel", MISSING_LIMITS, -1,
                "kernel %s has shared virtual memory for one card at a time: storage usm where "
                "there are more",
                box->release);
        REMEDY(m, "Linux 7.0 or later");
    }
}

static void judge_options(struct finding *f, const struct drm_box *box) {
    const struct {
        enum drm_answer there;
        const char *option, *what;
    } options[] = {
        {box->gpusvm, "CONFIG_DRM_XE_GPUSVM", "no shared virtual memory"},
        {box->pagemap, "CONFIG_DRM_XE_PAGEMAP", "shared memory never moves to a card"},
        {box->pci_p2pdma, "CONFIG_PCI_P2PDMA", "no direct links between cards"},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (options[i].there != DRM_NO)
            continue;
        struct missing *m =
            add(f, "kernel_option", MISSING_LIMITS, -1, "kernel %s is without %s: %s", box->release,
                options[i].option, options[i].what);
        REMEDY(m, "a kernel with %s=y", options[i].option);
    }
}

static void judge_libraries(struct finding *f, const struct missing_libraries *l) {
    if (!l->loader) {
        struct missing *m =
            add(f, "no_loader", MISSING_BLOCKS, -1, "the Level Zero loader is missing: %s", l->why);
        REMEDY(m, "apt install libze1");
    } else if (!l->driver) {
        struct missing *m = add(f, "no_ze_driver", MISSING_BLOCKS, -1,
                                "the Level Zero driver is missing: %s", l->why);
        REMEDY(m, "apt install libze-intel-gpu1 (Debian 13 and later), or Intel's packages");
    } else if (l->none[0]) {
        struct missing *m =
            add(f, "no_ze_card", MISSING_BLOCKS, -1, "Level Zero has no card to use: %s", l->none);
        REMEDY(m, "look for the reason in journalctl -k -g xe; else take another release of the "
                  "driver (libze-intel-gpu1, or Intel's packages)");
    }
}

/* By what the libraries say, of a card that the kernel has nothing against. */
static void judge_refused(struct finding *f, int32_t i, const struct drm_card *c, const char *why) {
    struct missing *m = add(f, "refused", MISSING_BLOCKS, i, "Level Zero cannot use it: %s", why);
    if (is_small(c))
        REMEDY(m, "%s", RESIZE);
    else
        REMEDY(m,
               "look for the reason in journalctl -k -g %.16s; to reset it: cd "
               "/sys/bus/pci; echo %.16s > drivers/xe/unbind; echo 1 > devices/%.16s/reset; echo "
               "%.16s > drivers/xe/bind",
               c->slot, c->slot, c->slot, c->slot);
}

size_t missing_find(const struct drm_box *box, const struct missing_libraries *libraries,
                    struct missing found[MISSING_MAX]) {
    struct finding f = {.out = found};
    uint32_t usable = 0;
    for (uint32_t i = 0; i < box->n_cards; i++) {
        judge_card(&f, (int32_t)i, box);
        usable += missing_usable(&box->cards[i]);
        if (missing_usable(&box->cards[i]) && libraries->refused[i][0])
            judge_refused(&f, (int32_t)i, &box->cards[i], libraries->refused[i]);
    }
    if (box->n_cards == 0)
        add(&f, "no_card", MISSING_BLOCKS, -1, "there is no graphics card");
    judge_libraries(&f, libraries);
    if (usable == 0)
        return f.n; /* of no use yet what limits them */
    judge_kernel(&f, box);
    judge_options(&f, box);
    if (box->la57 == DRM_YES) {
        struct missing *m = add(&f, "la57", MISSING_LIMITS, -1,
                                "the processor's addresses have 57 bits, the cards' 48: no shared "
                                "virtual memory");
        REMEDY(m, "boot with no5lvl");
    }
    judge_pairs(&f, box);
    return f.n;
}

bool missing_works(const struct drm_box *box, const struct missing_libraries *libraries,
                   uint32_t card) {
    return !libraries->refused[card][0] && missing_usable(&box->cards[card]);
}

uint32_t missing_count_usable(const struct drm_box *box,
                              const struct missing_libraries *libraries) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < box->n_cards; i++)
        n += missing_works(box, libraries, i);
    return libraries->loader && libraries->driver && !libraries->none[0] ? n : 0;
}

struct sentence {
    char *out;
    size_t size, at;
};

__attribute__((format(printf, 2, 3))) static void say(struct sentence *s, const char *fmt, ...) {
    va_list args;
    if (s->at >= s->size)
        return;
    va_start(args, fmt);
    const int n = vsnprintf(s->out + s->at, s->size - s->at, fmt, args);
    va_end(args);
    s->at += n > 0 ? (size_t)n : 0;
}

static bool same(const struct missing *a, const struct missing *b) {
    return a->weight == b->weight && a->card >= 0 && b->card >= 0 && !strcmp(a->what, b->what) &&
           !strcmp(a->remedy, b->remedy);
}

/* Of those with its remedy. */
static bool is_last(const struct missing *found, size_t n, size_t at) {
    for (size_t i = at + 1; i < n; i++)
        if (found[i].weight == MISSING_BLOCKS && !strcmp(found[i].remedy, found[at].remedy) &&
            !same(&found[i], &found[at]))
            return false;
    return true;
}

/* What keeps several cards from being used is said once, with all of them before it. */
void missing_explain(const struct drm_box *box, const struct missing_libraries *libraries,
                     char *out, size_t size) {
    struct missing found[MISSING_MAX];
    struct sentence s = {out, size, 0};
    const size_t n = missing_find(box, libraries, found);
    out[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        bool said = found[i].weight != MISSING_BLOCKS;
        for (size_t k = 0; k < i; k++)
            said |= same(&found[i], &found[k]);
        if (said)
            continue;
        if (s.at)
            say(&s, "; ");
        for (size_t k = i; k < n && found[i].card >= 0; k++)
            if (k == i || same(&found[i], &found[k]))
                say(&s, "%s%s", k == i ? "" : ", ", box->cards[found[k].card].slot);
        say(&s, "%s%s", found[i].card >= 0 ? ": " : "", found[i].what);
        if (found[i].remedy[0] && is_last(found, n, i))
            say(&s, " (%s)", found[i].remedy);
    }
}
