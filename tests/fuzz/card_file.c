/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of cards: any bytes are taken or refused with a text, never half taken; what is
 * taken is written and read again as the same. */
#include <stdlib.h>
#include <string.h>

#include "daemon/service/card_file.h"
#include "daemon/util/buffer.h"
#include "octarc/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char *copy_of(const void *bytes, size_t n) {
    char *copy = malloc(n + 1);
    if (!copy)
        abort();
    memcpy(copy, bytes, n);
    copy[n] = 0;
    return copy;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static struct cards_known known, again;
    struct err err = {{0}};
    struct buffer first = {0}, second = {0};
    known.n = 0;
    char *text = copy_of(data, n);
    const int rc = card_file_read(&known, text, n, &err);
    free(text);
    if (rc < 0 && (!err.text[0] || known.n != 0))
        abort();
    if (rc < 0)
        return 0;
    if (card_file_write(&known, &first) < 0)
        abort();
    text = copy_of(first.bytes, first.n);
    if (card_file_read(&again, text, first.n, &err) < 0 || card_file_write(&again, &second) < 0 ||
        first.n != second.n || memcmp(first.bytes, second.bytes, first.n) != 0)
        abort();
    free(text);
    buffer_finish(&first);
    buffer_finish(&second);
    for (uint32_t i = 0; i < known.n; i++) {
        const struct card_time now = {.ns = UINT64_C(1) << 40, .ms = UINT64_C(1700000000000)};
        struct card card;
        card_restore(&card, &known.cards[i], &now);
        if (card.n_history > CARD_HISTORY_MAX || card.n_recent > CARD_FAULTS_MOST)
            abort();
    }
    return 0;
}
