/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of simulated cards that passes between processes. */
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

static void memory_goes_through_a_descriptor(void) {
    const struct box box = box_open("cards=2 p2p=none memory=1M");
    void *p = box_memory(&box, 0, 600000), *same = NULL;
    char out[sizeof text] = "";
    ZE(box_copy(&box, 0, p, text, sizeof text));
    ze_external_memory_export_fd_t export = {.stype = ZE_STRUCTURE_TYPE_EXTERNAL_MEMORY_EXPORT_FD,
                                             .flags = ZE_EXTERNAL_MEMORY_TYPE_FLAG_DMA_BUF};
    ze_memory_allocation_properties_t properties = {
        .stype = ZE_STRUCTURE_TYPE_MEMORY_ALLOCATION_PROPERTIES, .pNext = &export};
    ZE(zeMemGetAllocProperties(box.context, p, &properties, NULL));
    const ze_external_memory_import_fd_t import = {.stype =
                                                       ZE_STRUCTURE_TYPE_EXTERNAL_MEMORY_IMPORT_FD,
                                                   .flags = ZE_EXTERNAL_MEMORY_TYPE_FLAG_DMA_BUF,
                                                   .fd = export.fd};
    const ze_device_mem_alloc_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_DEVICE_MEM_ALLOC_DESC,
                                             .pNext = &import};
    /* Not where the other card cannot reach it; at home it is the same bytes, counted once. */
    CHECK_EQ(zeMemAllocDevice(box.context, &desc, 600000, 0, box.cards[1], &same),
             ZE_RESULT_ERROR_INVALID_ARGUMENT);
    ZE(zeMemAllocDevice(box.context, &desc, 600000, 0, box.cards[0], &same));
    CHECK(same != p);
    ZE(zeMemFree(box.context, p));
    ZE(box_copy(&box, 0, out, same, sizeof out));
    CHECK(!strcmp(out, text));
    close(export.fd);
}

CHECK_MAIN(T(memory_outlives_the_process_that_filled_it), T(memory_goes_through_a_descriptor))
