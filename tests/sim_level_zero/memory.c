/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of cards and of the host.
 *
 * A card's memory is one memfd an allocation, mapped in the card's window of addresses and
 * inaccessible but while a command that names it runs: a host that reads it crashes.  An address
 * is never used twice, and pages between two allocations belong to none, so what outlives its
 * memory or runs over its end is found too. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/sim_level_zero/sim.h"
#include "tests/sim_level_zero/xe_model.h"

#define ROUND(n, a)  (((n) + (a)-1) / (a) * (a))
#define HANDLE_MAGIC UINT32_C(0x5a1c0de5)

/* What an IPC handle's bytes are.  As with Intel's driver on Linux the first four are a descriptor;
 * whoever sends the handle to another process sends the descriptor beside it and puts the number
 * it has there into the handle. */
struct handle {
    int32_t fd;
    uint32_t magic;
    uint64_t size;
};

struct sim_memory *sim_memory_find(const void *p) {
    for (struct sim_memory *m = sim.memory; m; m = m->next)
        if ((const uint8_t *)p >= m->base && (const uint8_t *)p < m->base + m->size)
            return m;
    return NULL;
}

bool sim_reaches(const struct _ze_device_handle_t *card, int home) {
    return home < 0 || sim.options.reaches[card->number][home];
}

static void set_open(struct sim_memory *m, bool open) {
    if (m->card < 0 || m->open == open)
        return;
    mprotect(m->base, m->room, open ? PROT_READ | PROT_WRITE : PROT_NONE);
    m->open = open;
}

void sim_memory_want(const void *p, unsigned card) {
    struct sim_memory *m = sim_memory_find(p);
    if (m && m->card >= 0 && sim_reaches(&sim.cards[card], m->card))
        m->wanted = true;
}

void sim_memory_want_all(unsigned card, ze_kernel_indirect_access_flags_t which) {
    for (struct sim_memory *m = sim.memory; m; m = m->next) {
        const bool asked = which & ZE_KERNEL_INDIRECT_ACCESS_FLAG_DEVICE;
        if (m->card >= 0 && (asked || m->resident >> card & 1) &&
            sim_reaches(&sim.cards[card], m->card))
            m->wanted = true;
    }
}

void sim_memory_open(void) {
    for (struct sim_memory *m = sim.memory; m; m = m->next) {
        set_open(m, m->wanted);
        m->wanted = false;
    }
}

void sim_memory_shut(void) {
    for (struct sim_memory *m = sim.memory; m; m = m->next)
        set_open(m, false);
}

static bool map(struct sim_memory *m) {
    m->open = false;
    return mmap(m->base, m->room, PROT_NONE, MAP_SHARED | MAP_FIXED, m->fd, 0) != MAP_FAILED;
}

/* What `card` gets of memory of `home`, and what becomes of what it writes there. */
static enum sim_lie lie_of(unsigned card, unsigned home) {
    if (card == home)
        return SIM_HONEST;
    if (sim.cards[home].lost)
        return SIM_ONES; /* as reads of what is not there end on PCI Express */
    const enum sim_lie reads = sim.control.lies[home][card];
    return reads ? reads : sim.control.lies[card][home];
}

/* Of a path that lies one way only, what was there is seen and what is written is lost. */
static void veil(struct sim_memory *m, unsigned card, enum sim_lie lie) {
    if (mmap(m->base, m->room, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        sim_misuse("no memory to lie with");
    m->veiled = true;
    m->open = false; /* what lies over it is not to be shut */
    if (!sim.cards[m->card].lost && !sim.control.lies[m->card][card]) {
        if (pread(m->fd, m->base, m->room, 0) < 0)
            sim_misuse("memory of card %d cannot be read", m->card);
    } else if (lie == SIM_ONES) {
        memset(m->base, 0xff, m->room);
    }
}

void sim_memory_veil(unsigned card) {
    for (struct sim_memory *m = sim.memory; m; m = m->next) {
        const enum sim_lie lie =
            m->wanted && m->card >= 0 ? lie_of(card, (unsigned)m->card) : SIM_HONEST;
        if (!lie)
            continue;
        veil(m, card, lie);
        m->wanted = false;
    }
}

void sim_memory_empty(unsigned card) {
    for (struct sim_memory *m = sim.memory; m; m = m->next)
        if (m->card == (int)card)
            fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)m->room);
}

void sim_memory_restore(void) {
    for (struct sim_memory *m = sim.memory; m; m = m->next) {
        if (m->veiled && !map(m))
            sim_misuse("no address space to put a card's memory back");
        m->veiled = false;
    }
    for (unsigned i = 0; i < sim.options.n_cards; i++) {
        if (!sim_fault_filled(i))
            continue;
        mmap(sim.cards[i].window, SIM_WINDOW, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
        for (struct sim_memory *m = sim.memory; m; m = m->next)
            if (m->card == (int)i && !map(m))
                sim_misuse("no address space to put a card's memory back");
    }
}

/* Takes a piece of the card's window that was never used, a page away from the last. */
static uint8_t *take_addresses(ze_device_handle_t card, uint64_t room, uint64_t alignment) {
    const uint64_t begin = ROUND((uint64_t)(uintptr_t)card->window + card->next, alignment) -
                           (uint64_t)(uintptr_t)card->window;
    if (begin + room + SIM_PAGE > SIM_WINDOW)
        return NULL;
    card->next = begin + room + SIM_PAGE;
    return card->window + begin;
}

/* Memory that another process keeps alive is one piece with what this one maps of it. */
bool sim_memory_is_here(uint64_t inode) {
    for (const struct sim_memory *m = sim.memory; m; m = m->next)
        if (m->card >= 0 && m->inode == inode)
            return true;
    return false;
}

static ze_result_t link_memory(struct sim_memory *m) {
    struct stat st = {0};
    if (fstat(m->fd, &st) || !map(m))
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    m->inode = st.st_ino;
    if (!sim_memory_is_here(m->inode))
        sim.counters->used_bytes[m->card] += m->room;
    m->id = ++sim.n_memory;
    m->next = sim.memory;
    sim.memory = m;
    return ZE_RESULT_SUCCESS;
}

/* Takes the descriptor over, also when it fails. */
static ze_result_t take_memory(ze_context_handle_t context, ze_device_handle_t card, int fd,
                               uint64_t size, uint64_t alignment, bool imported, void **out) {
    struct sim_memory *m = calloc(1, sizeof *m);
    const uint64_t room = ROUND(size, SIM_PAGE);
    uint8_t *base = m ? take_addresses(card, room, alignment) : NULL;
    if (base) {
        *m = (struct sim_memory){.context = context,
                                 .base = base,
                                 .size = size,
                                 .room = room,
                                 .card = (int)card->number,
                                 .fd = fd,
                                 .imported = imported};
        if (link_memory(m) == ZE_RESULT_SUCCESS) {
            *out = m->base;
            return ZE_RESULT_SUCCESS;
        }
    }
    free(m);
    close(fd);
    return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
}

/* The card a descriptor's memory is on; -1 when it is none of this driver's. */
static int card_of(int fd) {
    char link[64], name[128];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, name, sizeof name - 1);
    if (n <= 0)
        return -1;
    name[n] = '\0';
    const char *at = strstr(name, SIM_MEMORY_NAME);
    const unsigned number = at ? (unsigned)(at[strlen(SIM_MEMORY_NAME)] - '0') : SIM_CARDS_MAX;
    return number < sim.options.n_cards ? (int)number : -1;
}

/* A copy of `fd` becomes memory of the card that it came from, as `card` sees it. */
static ze_result_t import_memory(ze_context_handle_t context, ze_device_handle_t card, int fd,
                                 bool imported, void **out) {
    const int home = card_of(fd);
    struct stat st = {0};
    if (home < 0 || fstat(fd, &st) || st.st_size <= 0 || !sim_reaches(card, home))
        return ZE_RESULT_ERROR_INVALID_ARGUMENT;
    const int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own < 0)
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    return take_memory(context, &sim.cards[home], own, (uint64_t)st.st_size, SIM_PAGE, imported,
                       out);
}

/* What a lie makes of memory that comes from elsewhere: none of it, or a page of it is as it was
 * before it was written. */
static void spoil(const struct sim_memory *m, enum sim_lie lie) {
    uint8_t page[4096];
    const uint64_t at = m->room / 2 / sizeof page * sizeof page;
    memset(page, lie == SIM_ONES ? 0xff : 0, sizeof page);
    for (uint64_t i = lie == SIM_ONES ? 0 : at; i < m->room; i += sizeof page) {
        if (pwrite(m->fd, page, sizeof page, (off_t)i) < 0)
            sim_misuse("memory of card %d cannot be written", m->card);
        if (lie == SIM_STALE)
            return;
    }
}

/* By a descriptor of another driver's, or the card's own of another process. */
static ze_result_t import_fd(ze_context_handle_t context, ze_device_handle_t card, int fd,
                             void **out) {
    if (sim.control.keeps_out[card->number])
        return ZE_RESULT_ERROR_INVALID_ARGUMENT;
    const ze_result_t result = import_memory(context, card, fd, false, out);
    if (result == ZE_RESULT_SUCCESS && !sim.control.leaves[card->number])
        close(fd); /* as Intel's driver does */
    if (result == ZE_RESULT_SUCCESS && sim.control.imports[card->number])
        spoil(sim_memory_find(*out), sim.control.imports[card->number]);
    return result;
}

static ze_result_t new_memory(ze_context_handle_t context, ze_device_handle_t card, uint64_t size,
                              uint64_t alignment, void **out) {
    const uint64_t room = ROUND(size, SIM_PAGE);
    const uint64_t limit = sim.control.memory_bytes[card->number];
    const uint64_t total = limit ? limit : sim.options.memory_bytes[card->number];
    xe_forget_unmapped();
    const uint64_t used =
        sim.counters->used_bytes[card->number] + sim_elsewhere_bytes(card->number);
    if (room > total || used > total - room)
        return ZE_RESULT_ERROR_OUT_OF_DEVICE_MEMORY;
    char name[64 + sizeof sim.options.box];
    snprintf(name, sizeof name, SIM_MEMORY_NAME "%u%s%s", card->number, *sim.options.box ? "-" : "",
             sim.options.box);
    const int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0)
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    if (ftruncate(fd, (off_t)room)) {
        close(fd);
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    }
    return take_memory(context, card, fd, size, alignment > SIM_PAGE ? alignment : SIM_PAGE, false,
                       out);
}

ze_result_t ZE_APICALL zeMemAllocDevice(ze_context_handle_t context,
                                        const ze_device_mem_alloc_desc_t *desc, size_t size,
                                        size_t alignment, ze_device_handle_t card, void **out) {
    SIM_HANDLE(context, SIM_CONTEXT);
    SIM_HANDLE(card, SIM_CARD);
    SIM_POINTER(desc);
    SIM_POINTER(out);
    SIM_ENTER(card);
    if (desc->flags > 7)
        return ZE_RESULT_ERROR_INVALID_ENUMERATION;
    if (desc->ordinal)
        return ZE_RESULT_ERROR_INVALID_ARGUMENT;
    if (alignment & (alignment - 1))
        return ZE_RESULT_ERROR_UNSUPPORTED_ALIGNMENT;
    const ze_relaxed_allocation_limits_exp_desc_t *relaxed =
        sim_chained(desc->pNext, ZE_STRUCTURE_TYPE_RELAXED_ALLOCATION_LIMITS_EXP_DESC);
    const bool any = relaxed && relaxed->flags & ZE_RELAXED_ALLOCATION_LIMITS_EXP_FLAG_MAX_SIZE;
    if (!size || (size > SIM_ALLOC_MAX && !any) || size > SIM_WINDOW)
        return ZE_RESULT_ERROR_UNSUPPORTED_SIZE;
    if (!(context->cards >> card->number & 1))
        return ZE_RESULT_ERROR_DEVICE_LOST; /* so does Intel's driver */
    const ze_external_memory_import_fd_t *import =
        sim_chained(desc->pNext, ZE_STRUCTURE_TYPE_EXTERNAL_MEMORY_IMPORT_FD);
    const ze_external_memory_export_desc_t *export =
        sim_chained(desc->pNext, ZE_STRUCTURE_TYPE_EXTERNAL_MEMORY_EXPORT_DESC);
    if ((import && import->flags != ZE_EXTERNAL_MEMORY_TYPE_FLAG_DMA_BUF) ||
        (export && export->flags && export->flags != ZE_EXTERNAL_MEMORY_TYPE_FLAG_DMA_BUF) ||
        (export && export->flags && sim.control.keeps_in[card->number]))
        return ZE_RESULT_ERROR_UNSUPPORTED_ENUMERATION;
    pthread_mutex_lock(&sim.lock);
    const ze_result_t result = import ? import_fd(context, card, import->fd, out)
                                      : new_memory(context, card, size, alignment, out);
    if (result == ZE_RESULT_SUCCESS)
        sim_memory_find(*out)->exported = export && export->flags;
    pthread_mutex_unlock(&sim.lock);
    return result;
}

ze_result_t ZE_APICALL zeMemAllocHost(ze_context_handle_t context,
                                      const ze_host_mem_alloc_desc_t *desc, size_t size,
                                      size_t alignment, void **out) {
    SIM_HANDLE(context, SIM_CONTEXT);
    SIM_POINTER(desc);
    SIM_POINTER(out);
    if (desc->flags > 0xf)
        return ZE_RESULT_ERROR_INVALID_ENUMERATION;
    if (alignment & (alignment - 1) || alignment > SIM_PAGE)
        return ZE_RESULT_ERROR_UNSUPPORTED_ALIGNMENT;
    if (!size)
        return ZE_RESULT_ERROR_UNSUPPORTED_SIZE;
    struct sim_memory *m = calloc(1, sizeof *m);
    const uint64_t room = ROUND(size, SIM_PAGE);
    /* A page more, for what mmap gives is aligned to less. */
    uint8_t *base =
        m ? mmap(NULL, room + SIM_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
          : MAP_FAILED;
    if (base == MAP_FAILED) {
        free(m);
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    }
    uint8_t *aligned = (uint8_t *)ROUND((uintptr_t)base, SIM_PAGE);
    if (aligned > base)
        munmap(base, (size_t)(aligned - base));
    if (base + SIM_PAGE > aligned)
        munmap(aligned + room, (size_t)(base + SIM_PAGE - aligned));
    *m = (struct sim_memory){
        .context = context, .base = aligned, .size = size, .room = room, .card = -1, .fd = -1};
    pthread_mutex_lock(&sim.lock);
    m->id = ++sim.n_memory;
    m->next = sim.memory;
    sim.memory = m;
    pthread_mutex_unlock(&sim.lock);
    *out = aligned;
    return ZE_RESULT_SUCCESS;
}

/* Both kinds are announced as not there (zeDeviceGetMemoryAccessProperties). */
ze_result_t ZE_APICALL zeMemAllocShared(ze_context_handle_t context,
                                        const ze_device_mem_alloc_desc_t *device_desc,
                                        const ze_host_mem_alloc_desc_t *host_desc, size_t size,
                                        size_t alignment, ze_device_handle_t card, void **out) {
    (void)size, (void)alignment, (void)card;
    SIM_HANDLE(context, SIM_CONTEXT);
    SIM_POINTER(device_desc);
    SIM_POINTER(host_desc);
    SIM_POINTER(out);
    return ZE_RESULT_ERROR_UNSUPPORTED_FEATURE;
}

static bool is_open(const struct sim_memory *m, int fd) {
    struct stat st;
    return !fstat(fd, &st) && st.st_ino == m->inode;
}

/* What it was exported by is the driver's, which closes it with the memory.  A caller who has
 * closed it has left the driver a number that may be anything's by then. */
static void close_given(struct sim_memory *m) {
    if (!m->given)
        return;
    if (!is_open(m, m->given))
        sim_misuse("the descriptor %d of exported memory was closed by who asked for it", m->given);
    close(m->given);
}

/* The same one each time, as Intel's driver has it. */
static int give(struct sim_memory *m) {
    if (!m->given)
        m->given = fcntl(m->fd, F_DUPFD_CLOEXEC, 3);
    if (!is_open(m, m->given))
        sim_misuse("the descriptor %d of exported memory was closed by who asked for it", m->given);
    return m->given;
}

static void drop(struct sim_memory *m) {
    struct sim_memory **at = &sim.memory;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    if (m->card < 0) {
        munmap(m->base, m->room);
    } else {
        /* The addresses stay taken, so that a late access is found. */
        mmap(m->base, m->room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
             -1, 0);
        close_given(m);
        close(m->fd);
        if (!sim_memory_is_here(m->inode))
            sim.counters->used_bytes[m->card] -= m->room;
    }
    free(m);
}

static ze_result_t give_back(ze_context_handle_t context, const void *p, bool imported) {
    SIM_HANDLE(context, SIM_CONTEXT);
    SIM_POINTER(p);
    pthread_mutex_lock(&sim.lock);
    struct sim_memory *m = sim_memory_find(p);
    if (!m || m->base != p || m->context != context || m->imported != imported)
        sim_misuse("%p is no memory that this call can give back", p);
    drop(m);
    pthread_mutex_unlock(&sim.lock);
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeMemFree(ze_context_handle_t context, void *p) {
    return give_back(context, p, false);
}

ze_result_t ZE_APICALL zeMemCloseIpcHandle(ze_context_handle_t context, const void *p) {
    return give_back(context, p, true);
}

ze_result_t ZE_APICALL zeMemGetAllocProperties(ze_context_handle_t context, const void *p,
                                               ze_memory_allocation_properties_t *properties,
                                               ze_device_handle_t *card) {
    SIM_HANDLE(context, SIM_CONTEXT);
    SIM_POINTER(p);
    SIM_POINTER(properties);
    pthread_mutex_lock(&sim.lock);
    struct sim_memory *m = sim_memory_find(p);
    const bool known = m && m->context == context;
    properties->type = !known         ? ZE_MEMORY_TYPE_UNKNOWN
                       : m->card >= 0 ? ZE_MEMORY_TYPE_DEVICE
                                      : ZE_MEMORY_TYPE_HOST;
    properties->id = known ? m->id : 0;
    properties->pageSize = known ? SIM_PAGE : 0;
    if (card)
        *card = known && m->card >= 0 ? &sim.cards[m->card] : NULL;
    ze_result_t result = ZE_RESULT_SUCCESS;
    ze_external_memory_export_fd_t *export =
        (void *)sim_chained(properties->pNext, ZE_STRUCTURE_TYPE_EXTERNAL_MEMORY_EXPORT_FD);
    if (export) {
        if (export->flags != ZE_EXTERNAL_MEMORY_TYPE_FLAG_DMA_BUF)
            result = ZE_RESULT_ERROR_UNSUPPORTED_ENUMERATION;
        else if (known && m->card >= 0 && m->exported && !sim.control.keeps_in[m->card])
            export->fd = give(m);
        else
            result = ZE_RESULT_ERROR_INVALID_ARGUMENT;
    }
    pthread_mutex_unlock(&sim.lock);
    return result;
}

ze_result_t ZE_APICALL zeMemGetAddressRange(ze_context_handle_t context, const void *p, void **base,
                                            size_t *size) {
    SIM_HANDLE(context, SIM_CONTEXT);
    SIM_POINTER(p);
    pthread_mutex_lock(&sim.lock);
    const struct sim_memory *m = sim_memory_find(p);
    if (m && base)
        *base = m->base;
    if (m && size)
        *size = m->size;
    pthread_mutex_unlock(&sim.lock);
    return m ? ZE_RESULT_SUCCESS : ZE_RESULT_ERROR_UNKNOWN;
}

ze_result_t ZE_APICALL zeMemGetIpcHandle(ze_context_handle_t context, const void *p,
                                         ze_ipc_mem_handle_t *ipc) {
    SIM_HANDLE(context, SIM_CONTEXT);
    SIM_POINTER(p);
    SIM_POINTER(ipc);
    pthread_mutex_lock(&sim.lock);
    const struct sim_memory *m = sim_memory_find(p);
    const bool fit = m && m->card >= 0 && m->base == p;
    if (fit) {
        *ipc = (ze_ipc_mem_handle_t){{0}};
        const struct handle made = {m->fd, HANDLE_MAGIC, m->size};
        memcpy(ipc->data, &made, sizeof made);
    }
    pthread_mutex_unlock(&sim.lock);
    return fit ? ZE_RESULT_SUCCESS : ZE_RESULT_ERROR_INVALID_ARGUMENT;
}

ze_result_t ZE_APICALL zeMemOpenIpcHandle(ze_context_handle_t context, ze_device_handle_t card,
                                          ze_ipc_mem_handle_t ipc, ze_ipc_memory_flags_t flags,
                                          void **out) {
    SIM_HANDLE(context, SIM_CONTEXT);
    SIM_HANDLE(card, SIM_CARD);
    SIM_POINTER(out);
    SIM_ENTER(card);
    if (flags > 3)
        return ZE_RESULT_ERROR_INVALID_ENUMERATION;
    struct handle given;
    memcpy(&given, ipc.data, sizeof given);
    if (given.magic != HANDLE_MAGIC)
        return ZE_RESULT_ERROR_INVALID_ARGUMENT;
    pthread_mutex_lock(&sim.lock);
    const ze_result_t result = import_memory(context, card, given.fd, true, out);
    if (result == ZE_RESULT_SUCCESS) {
        struct sim_memory *m = sim_memory_find(*out);
        if (given.size && given.size <= m->size)
            m->size = given.size;
    }
    pthread_mutex_unlock(&sim.lock);
    return result;
}

static ze_result_t set_resident(ze_context_handle_t context, ze_device_handle_t card, void *p,
                                bool resident) {
    SIM_HANDLE(context, SIM_CONTEXT);
    SIM_HANDLE(card, SIM_CARD);
    SIM_POINTER(p);
    SIM_ENTER(card);
    pthread_mutex_lock(&sim.lock);
    struct sim_memory *m = sim_memory_find(p);
    if (m && resident)
        m->resident |= 1u << card->number;
    else if (m)
        m->resident &= ~(1u << card->number);
    pthread_mutex_unlock(&sim.lock);
    return m ? ZE_RESULT_SUCCESS : ZE_RESULT_ERROR_INVALID_ARGUMENT;
}

ze_result_t ZE_APICALL zeContextMakeMemoryResident(ze_context_handle_t context,
                                                   ze_device_handle_t card, void *p, size_t size) {
    (void)size; /* whole allocations, as with Intel's driver */
    return set_resident(context, card, p, true);
}

ze_result_t ZE_APICALL zeContextEvictMemory(ze_context_handle_t context, ze_device_handle_t card,
                                            void *p, size_t size) {
    (void)size;
    return set_resident(context, card, p, false);
}
