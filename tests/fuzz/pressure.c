/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel, or whatever stands in for it, says of memory, and what systemd puts into the
 * environment. */
#include "daemon/service/pressure.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1), *exact = malloc(size ? size : 1), out[64];
    double percent = -1;
    size_t n = sizeof out + 1;
    if (!text || !exact)
        abort();
    memcpy(exact, data, size); /* of that very size: reading beyond it is found */
    memcpy(text, data, size);
    text[size] = '\0';
    const int read = pressure_read(exact, size, &percent);
    if (read == 0 ? !(percent >= 0 && percent <= 100) : percent != -1)
        abort();
    const int decoded = pressure_decode(text, out, sizeof out, &n);
    if (decoded == 0 ? n > sizeof out || n > strlen(text) : n != sizeof out + 1)
        abort();
    free(text);
    free(exact);
    return 0;
}
