/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a message of the channel; what is accepted encodes to the same bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/channel/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct message m;
    struct buffer out = {0};
    if (size < 1 || message_decode(&m, data[0], data + 1, size - 1))
        return 0;
    if (message_encode(&out, m.type, &m.hello) || out.n != size - 1 + FRAME_HEADER_BYTES ||
        memcmp(out.bytes + FRAME_HEADER_BYTES, data + 1, size - 1))
        abort();
    message_finish(&m);
    buffer_finish(&out);
    return 0;
}
