/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/pages.h"

#include <errno.h>
#include <string.h>

#include "tests/check.h"

static struct pages *p;

static void fill(int32_t tokens[PAGE_TOKENS], int32_t first) {
    for (int i = 0; i < PAGE_TOKENS; i++)
        tokens[i] = first + i;
}

static void a_page_is_found_behind_its_own_parent_only(void) {
    int32_t a[PAGE_TOKENS], b[PAGE_TOKENS], c[PAGE_TOKENS];
    fill(a, 0), fill(b, 100), fill(c, 200);
    CHECK_EQ(pages_create(&p, 8), 0);
    const uint32_t first = pages_take(p), other = pages_take(p), second = pages_take(p);
    CHECK_EQ(pages_share(p, first, 1, NO_PAGE, a), first);
    CHECK_EQ(pages_share(p, other, 1, NO_PAGE, c), other);
    CHECK_EQ(pages_share(p, second, 1, first, b), second);
    CHECK_EQ(pages_find(p, 1, NO_PAGE, a), first);
    CHECK_EQ(pages_find(p, 1, first, b), second);
    CHECK_EQ(pages_find(p, 1, other, b), NO_PAGE);
    CHECK_EQ(pages_find(p, 1, NO_PAGE, b), NO_PAGE);
    CHECK_EQ(pages_find(p, 2, NO_PAGE, a), NO_PAGE);
    pages_destroy(p);
}

static void the_same_content_is_kept_once(void) {
    int32_t a[PAGE_TOKENS];
    fill(a, 0);
    CHECK_EQ(pages_create(&p, 4), 0);
    const uint32_t first = pages_take(p), twin = pages_take(p);
    CHECK_EQ(pages_free(p), 2);
    CHECK_EQ(pages_share(p, first, 1, NO_PAGE, a), first);
    CHECK_EQ(pages_share(p, twin, 1, NO_PAGE, a), first);
    CHECK_EQ(pages_free(p), 3);
    pages_put(p, first);
    CHECK_EQ(pages_free(p), 3); /* its second user is still there */
    pages_put(p, first);
    CHECK_EQ(pages_free(p), 4);
    pages_destroy(p);
}

static void unused_pages_are_found_until_they_are_needed(void) {
    int32_t a[PAGE_TOKENS], b[PAGE_TOKENS];
    fill(a, 0), fill(b, 100);
    CHECK_EQ(pages_create(&p, 3), 0);
    const uint32_t first = pages_take(p), second = pages_take(p);
    CHECK_EQ(pages_share(p, first, 1, NO_PAGE, a), first);
    CHECK_EQ(pages_share(p, second, 1, NO_PAGE, b), second);
    pages_put(p, first);
    pages_put(p, second);
    CHECK_EQ(pages_free(p), 3);
    CHECK(pages_take(p) != first); /* the third one, never shared, goes first */
    CHECK_EQ(pages_find(p, 1, NO_PAGE, b), second);
    pages_put(p, second);
    CHECK_EQ(pages_take(p), first); /* then the one that was used longest ago */
    CHECK_EQ(pages_find(p, 1, NO_PAGE, a), NO_PAGE);
    CHECK_EQ(pages_find(p, 1, NO_PAGE, b), second);
    CHECK_EQ(pages_free(p), 0);
    CHECK_EQ(pages_take(p), NO_PAGE);
    pages_destroy(p);
}

/* A page that was emptied and filled again is another page: its old children do not follow. */
static void children_of_a_page_that_is_gone_are_not_found(void) {
    int32_t a[PAGE_TOKENS], b[PAGE_TOKENS];
    fill(a, 0), fill(b, 100);
    CHECK_EQ(pages_create(&p, 2), 0);
    const uint32_t parent = pages_take(p), child = pages_take(p);
    pages_share(p, parent, 1, NO_PAGE, a);
    pages_share(p, child, 1, parent, b);
    pages_put(p, parent);
    const uint32_t again = pages_take(p);
    CHECK_EQ(again, parent);
    pages_share(p, again, 1, NO_PAGE, a);
    CHECK_EQ(pages_find(p, 1, again, b), NO_PAGE);
    pages_destroy(p);
}

static void idle_pages_are_found_no_more(void) {
    int32_t a[PAGE_TOKENS], b[PAGE_TOKENS];
    bool idle[4];
    fill(a, 0), fill(b, 100);
    CHECK_EQ(pages_create(&p, 4), 0);
    const uint32_t first = pages_take(p), second = pages_take(p), open_one = pages_take(p);
    CHECK_EQ(pages_share(p, first, 1, NO_PAGE, a), first);
    CHECK_EQ(pages_share(p, second, 1, NO_PAGE, b), second);
    pages_put(p, second);
    pages_forget_idle(p, idle);
    for (uint32_t i = 0; i < 4; i++)
        CHECK_EQ(idle[i], i != first && i != open_one);
    CHECK_EQ(pages_find(p, 1, NO_PAGE, b), NO_PAGE);
    CHECK_EQ(pages_find(p, 1, NO_PAGE, a), first); /* somebody uses it */
    CHECK(!pages_shared(p, second));
    CHECK_EQ(pages_free(p), 2);
    for (int i = 0; i < 2; i++)
        CHECK(pages_take(p) != NO_PAGE);
    CHECK_EQ(pages_take(p), NO_PAGE);
    pages_destroy(p);
}

/* What another process left: found, and given away last, with serials that stay its own. */
static void a_page_that_was_left_is_found(void) {
    int32_t a[PAGE_TOKENS], b[PAGE_TOKENS];
    struct page_content parent = {.serial = 40, .page = 2, .uid = 1};
    struct page_content child = {.serial = 30, .parent_serial = 40, .page = 0, .uid = 1}, seen;
    fill(a, 0), fill(b, 100);
    memcpy(parent.tokens, a, sizeof a);
    memcpy(child.tokens, b, sizeof b);
    CHECK_EQ(pages_create(&p, 4), 0);
    CHECK(!pages_content(p, 2, &seen));
    CHECK_EQ(pages_restore(p, &child), 0);
    CHECK_EQ(pages_restore(p, &parent), 0);
    CHECK_EQ(pages_restore(p, &parent), -EEXIST);
    parent.page = 3;
    CHECK_EQ(pages_restore(p, &parent), -EEXIST); /* another has that content */
    CHECK_EQ(pages_free(p), 4);
    CHECK(pages_content(p, 0, &seen));
    CHECK(!memcmp(&seen, &child, sizeof seen));
    CHECK_EQ(pages_find(p, 2, NO_PAGE, a), NO_PAGE);
    CHECK_EQ(pages_find(p, 1, NO_PAGE, a), 2);
    CHECK_EQ(pages_find(p, 1, 2, b), 0);
    CHECK_EQ(pages_restore(p, &child), -EEXIST);
    pages_put(p, 0), pages_put(p, 2);
    CHECK_EQ(pages_take(p), 1);
    CHECK(pages_serial(p, 1) > 40);
    CHECK_EQ(pages_take(p), 3);
    CHECK_EQ(pages_take(p), 0);
    CHECK_EQ(pages_find(p, 1, NO_PAGE, a), 2);
    pages_destroy(p);
}

CHECK_MAIN(T(idle_pages_are_found_no_more), T(a_page_is_found_behind_its_own_parent_only),
           T(the_same_content_is_kept_once), T(unused_pages_are_found_until_they_are_needed),
           T(children_of_a_page_that_is_gone_are_not_found), T(a_page_that_was_left_is_found))
