/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LEDGER_MAGIC   UINT64_C(0x72656764656c4b4f) /* "OKledger" */
#define LEDGER_VERSION 1u
#define LEDGER_SEALS   (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

struct head {
    uint64_t magic;
    uint32_t version, numerics, page_tokens, entry_bytes;
    struct ledger_site site;
};

struct ledger {
    int fd;
    uint32_t n_pages;
    size_t bytes;
    struct head *head; /* mapped */
    struct ledger_entry *entries;
};

_Static_assert(sizeof(struct head) % 8 == 0, "entries lie behind it");

/* Padding too, for heads are compared by their bytes. */
static void fill_head(struct head *head, const struct ledger_site *site) {
    memset(head, 0, sizeof *head);
    head->magic = LEDGER_MAGIC;
    head->version = LEDGER_VERSION;
    head->numerics = NUMERICS_VERSION;
    head->page_tokens = PAGE_TOKENS;
    head->entry_bytes = sizeof(struct ledger_entry);
    head->site.file = site->file;
    memcpy(head->site.backend, site->backend,
           strnlen(site->backend, sizeof head->site.backend - 1));
    head->site.layout = site->layout;
}

static uint64_t check_of(const struct ledger_entry *entry) {
    return device_digest(entry, offsetof(struct ledger_entry, check));
}

/* No one can make it shorter, so that whoever maps it is safe. */
static int make(struct ledger *l) {
    l->fd = memfd_create("octarc-kv-ledger", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (l->fd < 0 || ftruncate(l->fd, (off_t)l->bytes) < 0 ||
        fcntl(l->fd, F_ADD_SEALS, LEDGER_SEALS) < 0)
        return -errno;
    void *at = mmap(NULL, l->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, l->fd, 0);
    if (at == MAP_FAILED)
        return -errno;
    l->head = at;
    l->entries = (struct ledger_entry *)(l->head + 1);
    return 0;
}

int ledger_create(struct ledger **out, const struct ledger_site *site) {
    struct ledger *l = calloc(1, sizeof *l);
    if (!l)
        return -ENOMEM;
    l->n_pages = site->layout.n_pages;
    l->bytes = sizeof *l->head + l->n_pages * sizeof *l->entries;
    const int rc = make(l);
    if (rc) {
        ledger_destroy(l);
        return rc;
    }
    fill_head(l->head, site);
    *out = l;
    return 0;
}

void ledger_destroy(struct ledger *l) {
    if (!l)
        return;
    if (l->head)
        munmap(l->head, l->bytes);
    if (l->fd >= 0)
        close(l->fd);
    free(l);
}

int ledger_fd(const struct ledger *l) {
    return l->fd;
}

void ledger_enter(struct ledger *l, const struct page_content *content, uint64_t digest) {
    struct ledger_entry entry = {.content = *content, .digest = digest};
    ledger_strike(l, content->page);
    entry.check = check_of(&entry);
    l->entries[content->page] = entry;
}

/* Before whatever follows, as this thread's stores are seen in order by who comes after it. */
void ledger_strike(struct ledger *l, uint32_t page) {
    __atomic_store_n(&l->entries[page].check, 0, __ATOMIC_SEQ_CST);
}

uint64_t ledger_serial(const struct ledger *l, uint32_t page) {
    return l->entries[page].check ? l->entries[page].content.serial : 0;
}

static int read_all(int fd, void *out, size_t n, uint64_t at) {
    for (size_t done = 0; done < n;) {
        const ssize_t got = pread(fd, (char *)out + done, n - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -EIO : -EBADMSG;
        done += (size_t)got;
    }
    return 0;
}

int ledger_read(int fd, const struct ledger_site *site, struct ledger_entry *entries) {
    struct head want, head;
    const uint32_t n = site->layout.n_pages;
    int rc = read_all(fd, &head, sizeof head, 0);
    if (rc)
        return rc;
    fill_head(&want, site);
    if (head.magic != LEDGER_MAGIC)
        return -EBADMSG;
    if (memcmp(&head, &want, sizeof head) != 0)
        return -ESTALE;
    rc = read_all(fd, entries, n * sizeof *entries, sizeof head);
    for (uint32_t i = 0; i < n && !rc; i++)
        if (!entries[i].check || entries[i].check != check_of(&entries[i]) ||
            entries[i].content.page != i || !entries[i].content.serial)
            memset(&entries[i], 0, sizeof entries[i]);
    return rc;
}
