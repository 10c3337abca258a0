/* SPDX-License-Identifier: Apache-2.0 */
/* What is said to systemd, and what is taken from it.  What comes of it: tests/e2e/quick_warm.py.
 */
#include "daemon/service/store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "daemon/service/memory.h"
#include "tests/check.h"

#define BYTES 4096

/* --- systemd's side --- */

static struct sockaddr_un where = {.sun_family = AF_UNIX};
static int systemd_fd;

static void listen_as_systemd(void) {
    snprintf(where.sun_path, sizeof where.sun_path, "/tmp/octarc-store-%d", (int)getpid());
    systemd_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK_EQ(bind(systemd_fd, (struct sockaddr *)&where, sizeof where), 0);
    setenv("NOTIFY_SOCKET", where.sun_path, 1);
}

static void stop_listening(void) {
    close(systemd_fd);
    unlink(where.sun_path);
}

/* The next thing that was said; the descriptor that came with it, or -1. */
static int heard(const char *want) {
    char text[256] = "";
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {text, sizeof text - 1};
    struct msghdr hdr = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    const ssize_t n = recvmsg(systemd_fd, &hdr, MSG_CMSG_CLOEXEC);
    if (strcmp(text, want) != 0)
        printf("# '%s' (%zd), want '%s'\n", text, n, want);
    CHECK(!strcmp(text, want));
    int fd = -1;
    const struct cmsghdr *cmsg = n >= 0 ? CMSG_FIRSTHDR(&hdr) : NULL;
    if (cmsg && cmsg->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(cmsg), sizeof fd);
    return fd;
}

static void heard_without(const char *want) {
    CHECK_EQ(heard(want), -1);
}

static int make_memory(uint64_t bytes, int seals) {
    const int fd = memfd_create("octarc-weights", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    CHECK_EQ(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static ino_t inode(int fd) {
    struct stat st;
    CHECK_EQ(fstat(fd, &st), 0);
    return st.st_ino;
}

static bool is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

/* --- tests --- */

static void a_descriptor_is_kept_once_and_removed_by_its_name(void) {
    struct store s;
    const int fd = make_memory(BYTES, MEMORY_SEALS);
    listen_as_systemd();
    store_init(&s);
    store_keep(&s, 3, "", fd); /* off: nothing is said */
    store_start(&s, true, false);
    store_keep(&s, 3, "", fd);
    const int copy = heard("FDSTORE=1\nFDNAME=octarc-weights-3\nFDPOLL=0");
    CHECK_EQ(inode(copy), inode(fd));
    store_keep(&s, 3, "", fd);
    heard_without(""); /* nothing */
    store_remove(&s, 3);
    heard_without("FDSTOREREMOVE=1\nFDNAME=octarc-weights-3");
    store_remove(&s, 3);
    heard_without("");
    store_keep(&s, STORE_SUMS, "", fd);
    close(heard("FDSTORE=1\nFDNAME=octarc-sums\nFDPOLL=0"));
    CHECK(is_open(fd)); /* it is the caller's */
    store_finish(&s);   /* what was kept stays for the next service */
    heard_without("");
    stop_listening();
}

static void what_was_left_is_taken_by_card_and_size(void) {
    struct store s;
    listen_as_systemd();
    store_init(&s);
    const int a = make_memory(BYTES, MEMORY_SEALS), b = make_memory(2 * BYTES, MEMORY_SEALS);
    CHECK_EQ(ftruncate(a, BYTES), 0);
    CHECK_EQ(pwrite(a, "x", 1, 0), 1);
    CHECK(store_offer(&s, "octarc-weights-0", a) && store_offer(&s, "octarc-weights-7", b));
    CHECK_EQ(store_bytes(&s), BYTES); /* b has not a page yet */
    store_start(&s, true, false);
    CHECK_EQ(store_take(&s, 1, "", BYTES, UINT64_MAX), -1); /* none was left */
    CHECK_EQ(store_take(&s, 0, "", BYTES, UINT64_MAX), a);
    CHECK_EQ(store_take(&s, 0, "", BYTES, UINT64_MAX), -1); /* once */
    store_keep(&s, 0, "", a);                               /* systemd has it */
    heard_without("");
    CHECK_EQ(store_take(&s, 7, "", 3 * BYTES, UINT64_MAX), -1); /* it is too small */
    CHECK(!is_open(b));
    heard_without("FDSTOREREMOVE=1\nFDNAME=octarc-weights-7");
    close(a);
    stop_listening();
}

/* Offered in the place of card 2's memory; it must be gone, here and there. */
static void is_refused(struct store *s, int fd) {
    CHECK(store_offer(s, "octarc-weights-2", fd));
    CHECK(!is_open(fd));
    heard_without("FDSTOREREMOVE=1\nFDNAME=octarc-weights-2");
    CHECK_EQ(store_take(s, 2, "", BYTES, UINT64_MAX), -1);
}

static void what_is_not_such_memory_is_closed(void) {
    struct store s;
    char path[] = "/dev/shm/octarc-store-XXXXXX";
    int ends[2];
    listen_as_systemd();
    store_init(&s);
    is_refused(&s, open("/dev/null", O_RDWR | O_CLOEXEC));
    CHECK_EQ(pipe(ends), 0);
    is_refused(&s, ends[0]);
    is_refused(&s, socket(AF_UNIX, SOCK_STREAM, 0));
    is_refused(&s, mkstemp(path)); /* memory too, but somebody has a name for it */
    unlink(path);
    is_refused(&s, make_memory(BYTES, 0));
    is_refused(&s, make_memory(BYTES, F_SEAL_GROW | F_SEAL_SEAL));
    is_refused(&s, make_memory(BYTES, MEMORY_SEALS | F_SEAL_WRITE));
    const int good = make_memory(BYTES, MEMORY_SEALS);
    snprintf(path, sizeof path, "/proc/self/fd/%d", good);
    is_refused(&s, open(path, O_RDONLY | O_CLOEXEC));
    CHECK(store_offer(&s, "octarc-weights-4", good));
    is_refused(&s, dup(good));
    CHECK(!store_offer(&s, "octarc-weights-8", good) && !store_offer(&s, "octarcd.socket", good));
    CHECK(!store_offer(&s, "octarc-weights-", good) && !store_offer(&s, "", good));
    CHECK_EQ(store_take(&s, 4, "", BYTES, UINT64_MAX), good);
    store_finish(&s);
    stop_listening();
}

static void two_of_one_name_are_none(void) {
    struct store s;
    listen_as_systemd();
    store_init(&s);
    const int a = make_memory(BYTES, MEMORY_SEALS);
    CHECK(store_offer(&s, "octarc-weights-2", a));
    is_refused(&s, make_memory(BYTES, MEMORY_SEALS));
    CHECK(!is_open(a));
    stop_listening();
}

static void without_checksums_of_the_file_nothing_is_used(void) {
    struct store s;
    const struct model model = {.n_tensors = 0};
    const struct file_identity file = {.bytes = 9};
    listen_as_systemd();
    for (int with = 0; with < 2; with++) {
        store_init(&s);
        const int fd = make_memory(BYTES, MEMORY_SEALS);
        const int sums = memfd_create("octarc-sums", MFD_CLOEXEC);
        CHECK(store_offer(&s, "octarc-weights-2", fd));
        CHECK(!with || store_offer(&s, "octarc-sums", sums));
        store_start(&s, true, false);
        CHECK_EQ(store_take_sums(&s, &model, &file), -1); /* they are empty */
        heard_without("FDSTOREREMOVE=1\nFDNAME=octarc-weights-2");
        heard_without(with ? "FDSTOREREMOVE=1\nFDNAME=octarc-sums" : "");
        CHECK_EQ(store_take(&s, 2, "", BYTES, UINT64_MAX), -1);
        CHECK(!is_open(fd));
        store_finish(&s);
    }
    stop_listening();
}

static void off_drops_all(void) {
    struct store s;
    listen_as_systemd();
    store_init(&s);
    CHECK(store_offer(&s, "octarc-weights-6", make_memory(BYTES, MEMORY_SEALS)));
    store_start(&s, false, false);
    heard_without("FDSTOREREMOVE=1\nFDNAME=octarc-weights-6");
    CHECK_EQ(store_take(&s, 6, "", BYTES, UINT64_MAX), -1);
    stop_listening();
}

#define CARD "octarc-card-2-uuid-0123"

/* What it is its driver looks at: here only that no other card's is meant. */
static void a_real_cards_memory_is_of_that_card(void) {
    struct store s;
    listen_as_systemd();
    for (int wrong = 0; wrong < 4; wrong++) {
        const int fd = make_memory(BYTES, 0);
        store_init(&s);
        CHECK(store_offer(&s, CARD, fd));
        CHECK_EQ(store_bytes(&s), 0); /* of the host's memory */
        store_start(&s, true, true);
        heard_without("");
        CHECK_EQ(store_take(&s, 2, wrong == 1 ? "uuid:0124" : "uuid:0123",
                            BYTES + (wrong == 2 ? 1 : 0), BYTES - (wrong == 3 ? 1 : 0)),
                 wrong ? -1 : fd);
        heard_without(wrong ? "FDSTOREREMOVE=1\nFDNAME=" CARD : "");
        CHECK_EQ(is_open(fd), !wrong);
        CHECK_EQ(s.unsettled, wrong != 0);
        if (!wrong)
            close(fd);
    }
    stop_listening();
}

static void and_is_kept_under_its_name(void) {
    struct store s;
    const int fd = make_memory(BYTES, 0);
    listen_as_systemd();
    store_init(&s);
    store_start(&s, true, true);
    store_keep(&s, 2, "uuid:0123", fd);
    close(heard("FDSTORE=1\nFDNAME=" CARD "\nFDPOLL=0"));
    store_keep(&s, STORE_SUMS, "", fd);
    close(heard("FDSTORE=1\nFDNAME=octarc-sums\nFDPOLL=0"));
    store_remove(&s, 2);
    heard_without("FDSTOREREMOVE=1\nFDNAME=" CARD);
    close(fd);
    stop_listening();
}

/* A service goes from simulated cards to real ones, or back. */
static void memory_of_the_other_kind_is_dropped(void) {
    static const char *const names[] = {"octarc-weights-2", CARD};
    struct store s;
    listen_as_systemd();
    for (int i = 0; i < 2; i++) {
        store_init(&s);
        CHECK(store_offer(&s, names[i], make_memory(BYTES, MEMORY_SEALS)));
        store_start(&s, true, i == 0);
        char want[64];
        snprintf(want, sizeof want, "FDSTOREREMOVE=1\nFDNAME=%s", names[i]);
        heard_without(want);
        CHECK_EQ(store_take(&s, 2, "uuid:0123", 1, UINT64_MAX), -1);
        store_init(&s); /* of one card, both */
        CHECK(store_offer(&s, names[i], make_memory(BYTES, MEMORY_SEALS)));
        CHECK(store_offer(&s, names[1 - i], make_memory(BYTES, MEMORY_SEALS)));
        heard_without(i ? "FDSTOREREMOVE=1\nFDNAME=octarc-weights-2"
                        : "FDSTOREREMOVE=1\nFDNAME=" CARD);
        heard_without(want);
    }
    stop_listening();
}

CHECK_MAIN(T(a_descriptor_is_kept_once_and_removed_by_its_name),
           T(what_was_left_is_taken_by_card_and_size), T(what_is_not_such_memory_is_closed),
           T(two_of_one_name_are_none), T(without_checksums_of_the_file_nothing_is_used),
           T(off_drops_all), T(a_real_cards_memory_is_of_that_card), T(and_is_kept_under_its_name),
           T(memory_of_the_other_kind_is_dropped))
