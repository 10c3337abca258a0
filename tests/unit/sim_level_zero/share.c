/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of simulated cards that passes between processes. */
#include <fcntl.h>
#include <sys/socket.h>

#include "tests/sim_level_zero/box.h"

static void send_fd(int socket, int fd) {
    char byte = 0, room[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec io = {&byte, 1};
    struct msghdr m = {
        .msg_iov = &io, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    CHECK_EQ(sendmsg(socket, &m, 0), 1);
}

static int receive_fd(int socket) {
    int fd = -1;
    char byte = 0, room[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec io = {&byte, 1};
    struct msghdr m = {
        .msg_iov = &io, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    CHECK_EQ(recvmsg(socket, &m, 0), 1);
    CHECK(CMSG_FIRSTHDR(&m));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

static const char text[] = "held by nobody but the descriptor";

/* Another process fills memory of card 1, sends the handle and is gone. */
static void first_generation(int socket) {
    const struct box box = box_open("cards=2");
    void *p = box_memory(&box, 1, 100000);
    ZE(box_copy(&box, 1, p, text, sizeof text));
    ze_ipc_mem_handle_t handle;
    ZE(zeMemGetIpcHandle(box.context, p, &handle));
    int fd = -1;
    memcpy(&fd, handle.data, sizeof fd);
    CHECK_EQ(send(socket, &handle, sizeof handle, 0), sizeof handle);
    send_fd(socket, fd);
}

static void memory_outlives_the_process_that_filled_it(void) {
    int pair[2], status = 0;
    char out[sizeof text] = "";
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        first_generation(pair[1]);
        exit(0);
    }
    ze_ipc_mem_handle_t handle;
    close(pair[1]);
    CHECK_EQ(recv(pair[0], &handle, sizeof handle, 0), sizeof handle);
    const int fd = receive_fd(pair[0]);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);

    const struct box box = box_open("cards=2");
    memcpy(handle.data, &fd, sizeof fd);
    void *p = NULL, *again = NULL;
    ZE(zeMemOpenIpcHandle(box.context, box.cards[1], handle, 0, &p));
    ZE(zeMemOpenIpcHandle(box.context, box.cards[1], handle, 0, &again));
    CHECK(p != again);
    ZE(box_copy(&box, 1, out, p, sizeof out));
    CHECK(!strcmp(out, text));
    ze_device_handle_t card = NULL;
    ze_memory_allocation_properties_t properties = {
        .stype = ZE_STRUCTURE_TYPE_MEMORY_ALLOCATION_PROPERTIES};
    ZE(zeMemGetAllocProperties(box.context, p, &properties, &card));
    CHECK(card == box.cards[1]);
    ZE(zeMemCloseIpcHandle(box.context, again));
    ZE(zeMemCloseIpcHandle(box.context, p));
}

static ze_result_t alloc(const struct box *box, unsigned card, const void *more, size_t size,
                         void **out) {
    const ze_device_mem_alloc_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_DEVICE_MEM_ALLOC_DESC,
                                             .pNext = more};
    return zeMemAllocDevice(box->context, &desc, size, 0, box->cards[card], out);
}

static ze_result_t alloc_exportable(const struct box *box, unsigned card, size_t size, void **out) {
    const ze_external_memory_export_desc_t more = {
        .stype = ZE_STRUCTURE_TYPE_EXTERNAL_MEMORY_EXPORT_DESC,
        .flags = ZE_EXTERNAL_MEMORY_TYPE_FLAG_DMA_BUF};
    return alloc(box, card, &more, size, out);
}

static ze_result_t import(const struct box *box, unsigned card, int fd, size_t size, void **out) {
    const ze_external_memory_import_fd_t more = {.stype =
                                                     ZE_STRUCTURE_TYPE_EXTERNAL_MEMORY_IMPORT_FD,
                                                 .flags = ZE_EXTERNAL_MEMORY_TYPE_FLAG_DMA_BUF,
                                                 .fd = fd};
    return alloc(box, card, &more, size, out);
}

static ze_result_t export(const struct box *box, const void *p, int *fd) {
    ze_external_memory_export_fd_t more = {.stype = ZE_STRUCTURE_TYPE_EXTERNAL_MEMORY_EXPORT_FD,
                                           .flags = ZE_EXTERNAL_MEMORY_TYPE_FLAG_DMA_BUF,
                                           .fd = -1};
    ze_memory_allocation_properties_t properties = {
        .stype = ZE_STRUCTURE_TYPE_MEMORY_ALLOCATION_PROPERTIES, .pNext = &more};
    const ze_result_t result = zeMemGetAllocProperties(box->context, p, &properties, NULL);
    *fd = more.fd;
    return result;
}

static void memory_goes_through_a_descriptor(void) {
    const struct box box = box_open("cards=2 p2p=none memory=1M");
    void *p = NULL, *same = NULL;
    char out[sizeof text] = "";
    int fd = -1, again = -1;
    ZE(alloc_exportable(&box, 0, 600000, &p));
    ZE(box_copy(&box, 0, p, text, sizeof text));
    ZE(export(&box, p, &fd));
    ZE(export(&box, p, &again));
    CHECK_EQ(again, fd); /* it is the driver's */
    fd = dup(fd);
    /* Not where the other card cannot reach it; at home it is the same bytes, counted once. */
    CHECK_EQ(import(&box, 1, fd, 600000, &same), ZE_RESULT_ERROR_INVALID_ARGUMENT);
    ZE(import(&box, 0, fd, 600000, &same));
    CHECK(same != p);
    ZE(zeMemFree(box.context, p));
    ZE(box_copy(&box, 0, out, same, sizeof out));
    CHECK(!strcmp(out, text));
    CHECK(fcntl(again, F_GETFD) < 0); /* and closed with the memory, */
    CHECK(fcntl(fd, F_GETFD) < 0);    /* as is what was imported … */
}

static void drivers_differ_in_whose_an_imported_descriptor_is(void) {
    const struct box box = box_open("cards=1 leaves=0");
    void *p = NULL, *same = NULL;
    int fd = -1;
    ZE(alloc_exportable(&box, 0, 4096, &p));
    ZE(export(&box, p, &fd));
    fd = dup(fd);
    ZE(import(&box, 0, fd, 4096, &same));
    CHECK(fcntl(fd, F_GETFD) >= 0); /* … or is not */
    close(fd);
}

static void an_exported_descriptor_is_not_the_callers_to_close(void) {
    int status = 0;
    const pid_t pid = fork();
    if (pid == 0) {
        const struct box box = box_open("cards=1");
        void *p = NULL;
        int fd = -1;
        ZE(alloc_exportable(&box, 0, 4096, &p));
        ZE(export(&box, p, &fd));
        close(fd);
        zeMemFree(box.context, p);
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(status != 0);
}

static void what_was_not_asked_for_as_such_is_not_exported(void) {
    const struct box box = box_open("cards=1");
    int fd = -1;
    CHECK(export(&box, box_memory(&box, 0, 600000), &fd) != ZE_RESULT_SUCCESS);
    CHECK_EQ(fd, -1);
}

static void a_card_may_keep_its_memory_to_itself(void) {
    const struct box box = box_open("cards=2 noexport=1");
    ze_device_external_memory_properties_t p = {
        .stype = ZE_STRUCTURE_TYPE_DEVICE_EXTERNAL_MEMORY_PROPERTIES};
    void *memory = NULL;
    ZE(zeDeviceGetExternalMemoryProperties(box.cards[0], &p));
    CHECK_EQ(p.memoryAllocationExportTypes, ZE_EXTERNAL_MEMORY_TYPE_FLAG_DMA_BUF);
    ZE(zeDeviceGetExternalMemoryProperties(box.cards[1], &p));
    CHECK_EQ(p.memoryAllocationExportTypes, 0);
    ZE(alloc_exportable(&box, 0, 4096, &memory));
    CHECK_EQ(alloc_exportable(&box, 1, 4096, &memory), ZE_RESULT_ERROR_UNSUPPORTED_ENUMERATION);
}

static void an_import_may_be_refused_or_deliver_something_else(void) {
    const struct box box = box_open("cards=3 noimport=0 wiped=1 old=2");
    uint8_t was[3 * 4096], out[sizeof was];
    memset(was, 7, sizeof was);
    for (unsigned card = 0; card < 3; card++) {
        void *p = NULL, *same = NULL;
        int fd = -1;
        ZE(alloc_exportable(&box, card, sizeof was, &p));
        ZE(box_copy(&box, card, p, was, sizeof was));
        ZE(export(&box, p, &fd));
        CHECK_EQ(import(&box, card, dup(fd), sizeof was, &same),
                 card ? ZE_RESULT_SUCCESS : ZE_RESULT_ERROR_INVALID_ARGUMENT);
        if (card == 0)
            continue;
        ZE(box_copy(&box, card, out, same, sizeof out));
        CHECK_EQ(out[0], card == 1 ? 0xff : 7);
    }
}

/* 600000 bytes are ten pages of 64 KiB, of 1 MiB's sixteen. */
static void what_another_process_holds_is_used(void) {
    char options[64];
    int pair[2], status = 0;
    snprintf(options, sizeof options, "cards=2 memory=1M box=share-%d", (int)getpid());
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        const struct box box = box_open(options);
        void *p = NULL;
        int fd = -1;
        ZE(alloc_exportable(&box, 0, 600000, &p));
        ZE(export(&box, p, &fd));
        send_fd(pair[1], fd);
        exit(0);
    }
    const int fd = receive_fd(pair[0]);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    const struct box box = box_open(options);
    void *p = NULL;
    CHECK_EQ(alloc(&box, 0, NULL, 600000, &p), ZE_RESULT_ERROR_OUT_OF_DEVICE_MEMORY);
    ZE(alloc(&box, 1, NULL, 600000, &p));
    ZE(import(&box, 0, fd, 600000, &p));
    ZE(alloc(&box, 0, NULL, 300000, &p));
    ZE(zeMemFree(box.context, p));
}

static void and_free_when_nobody_does(void) {
    char options[64];
    void *p = NULL, *more = NULL;
    int fd = -1;
    snprintf(options, sizeof options, "cards=1 memory=1M box=free-%d", (int)getpid());
    const struct box box = box_open(options);
    ZE(alloc_exportable(&box, 0, 600000, &p));
    ZE(export(&box, p, &fd));
    fd = dup(fd);
    ZE(zeMemFree(box.context, p));
    CHECK_EQ(alloc(&box, 0, NULL, 600000, &more), ZE_RESULT_ERROR_OUT_OF_DEVICE_MEMORY);
    close(fd);
    ZE(alloc(&box, 0, NULL, 600000, &more));
}

CHECK_MAIN(T(memory_outlives_the_process_that_filled_it), T(memory_goes_through_a_descriptor),
           T(drivers_differ_in_whose_an_imported_descriptor_is),
           T(an_exported_descriptor_is_not_the_callers_to_close),
           T(what_was_not_asked_for_as_such_is_not_exported),
           T(a_card_may_keep_its_memory_to_itself),
           T(an_import_may_be_refused_or_deliver_something_else),
           T(what_another_process_holds_is_used), T(and_free_when_nobody_does))
