/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration files: any bytes are taken or refused with a text, never half taken. */
#include <stdlib.h>
#include <string.h>

#include "daemon/service/config.h"
#include "octarc/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct config before, config;
    struct err err = {{0}};
    config_default(&before);
    config_default(&config);
    if (config_parse(&config, (const char *)data, n, "file", &err) < 0 &&
        (!err.text[0] || memcmp(&before, &config, sizeof config)))
        abort();
    return 0;
}
