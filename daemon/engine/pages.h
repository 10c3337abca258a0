/* SPDX-License-Identifier: Apache-2.0 */
/* pages.h - KV pages: who uses which, and which may be shared.
 *
 * A page has PAGE_TOKENS positions and exists on every card that keeps KV.  A full page whose
 * tokens, and all tokens before them, are the same for the same user may be shared: it is found by
 * a chained hash and proven by its tokens and its parent.  Shared pages are never written again.
 * Pages that nobody uses stay findable until they are needed, oldest use first. */
#ifndef OCTARC_ENGINE_PAGES_H
#define OCTARC_ENGINE_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/device/program.h"

struct pages;

#define NO_PAGE UINT32_MAX

int pages_create(struct pages **pages, uint32_t n);
void pages_destroy(struct pages *pages);

/* Pages that pages_take() can hand out now. */
uint32_t pages_free(const struct pages *pages);
/* A page for one user, or NO_PAGE. */
uint32_t pages_take(struct pages *pages);
void pages_put(struct pages *pages, uint32_t page);

/* The shared page that holds these tokens behind `parent` (NO_PAGE: at the beginning), with one
 * more user; NO_PAGE when there is none. */
uint32_t pages_find(struct pages *pages, uint32_t uid, uint32_t parent,
                    const int32_t tokens[PAGE_TOKENS]);
/* Make a full page findable.  The parent is the caller's page before it.  Returns the page to use
 * from now on: where another with the same content is there already, the caller becomes one of its
 * users and its own is put back (the bits are the same). */
uint32_t pages_share(struct pages *pages, uint32_t page, uint32_t uid, uint32_t parent,
                     const int32_t tokens[PAGE_TOKENS]);

/* Pages that nobody uses are not findable any more.  idle[n]: which they are. */
void pages_forget_idle(struct pages *pages, bool *idle);

/* Of a page: its content's number, which no other content ever has; and whether it is shared, which
 * a page whose content will not change any more may be. */
uint64_t pages_serial(const struct pages *pages, uint32_t page);
bool pages_shared(const struct pages *pages, uint32_t page);

/* What a shared page holds, so that another process can find it.  False: it is not shared. */
struct page_content {
    uint64_t serial, parent_serial; /* 0: at the beginning */
    uint32_t page, uid;
    int32_t tokens[PAGE_TOKENS];
};
bool pages_content(const struct pages *pages, uint32_t page, struct page_content *content);
/* A page that nobody has used holds this, which another process left there, and may be found; its
 * parent may be from then on, too, or has been.  -EEXIST: another page holds the same, or this one
 * something. */
int pages_restore(struct pages *pages, const struct page_content *content);

#endif
