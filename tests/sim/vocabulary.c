/* SPDX-License-Identifier: Apache-2.0 */
/* A vocabulary whose tokens cut code points and stop strings. */
#include <errno.h>
#include <string.h>

#include "models/tokenizer/tokenizer.h"
#include "tests/sim/sim.h"

static const char *const pieces[VOCAB] = {
    "a",  "b", "st", "op", " ",     "\xC3",     "\xA4", "xyz",  "\xE2", "\x82\xAC", "sto", "p!",
    "\n", "q", "",   "0",  "w\xF0", "\x9F\x98", "\x80", "\xFF", "end",  "ab",       "!!",  "<end>"};

const struct tokenizer *const sim_tokenizer = (const void *)pieces;

int tokenizer_piece(const struct tokenizer *tokenizer, int32_t id, bool control, const char **bytes,
                    size_t *n) {
    (void)tokenizer, (void)control;
    if (id < 0 || id >= (int32_t)VOCAB)
        return -EINVAL;
    *bytes = pieces[id];
    *n = strlen(pieces[id]);
    return 0;
}

const int32_t *tokenizer_eogs(const struct tokenizer *tokenizer, size_t *n) {
    static const int32_t eogs[] = {T_EOG};
    (void)tokenizer;
    *n = 1;
    return eogs;
}
