/* SPDX-License-Identifier: Apache-2.0 */
/* What a service sends to the client library. */
#include "client/lib/scan.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const keys[] = {"id", "result", "error", "params", "chunk", "message"};
    char *text = malloc(size + 1); /* of that very size: reading beyond it is found */
    if (!text)
        return 0;
    memcpy(text, data, size);
    struct span object = scan_object(text, size);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct span value = scan_member(object, keys[i]);
        char out[40];
        scan_string(value, out, sizeof out);
        if (strlen(out) >= sizeof out)
            abort();
        scan_long(value);
        for (size_t k = 0; scan_item(value, k).at; k++)
            if (k > size)
                abort();
        if (scan_is_object(value) && scan_object(value.at, value.n).n != value.n)
            abort(); /* a member that is an object is one alone, too */
    }
    free(text);
    return 0;
}
