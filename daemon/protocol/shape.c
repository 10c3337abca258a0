/* SPDX-License-Identifier: Apache-2.0 */
/* Parts that the shapes of answers share: counts, times, the text of a token. */
#include "daemon/protocol/generate.h"
#include "models/tokenizer/tokenizer.h"

void generation_usage(const struct generation *g, struct request_usage *usage) {
    *usage = (struct request_usage){0};
    for (size_t r = 0; r < g->set.n; r++) {
        const struct run *run = &g->runs[r];
        usage->prompt_tokens += (uint32_t)run->prompt->n; /* once, however many choices */
        usage->cached_tokens += run->choices[0].end.usage.cached_tokens;
        for (int64_t c = 0; c < g->params.n; c++) {
            const struct request_usage *one = &run->choices[c].end.usage;
            usage->completion_tokens += run->choices[c].n_tokens;
            usage->prompt_ms =
                usage->prompt_ms > one->prompt_ms ? usage->prompt_ms : one->prompt_ms;
            usage->predicted_ms =
                usage->predicted_ms > one->predicted_ms ? usage->predicted_ms : one->predicted_ms;
        }
    }
}

static void write_rate(struct writer *w, const char *per_token, const char *per_second, uint32_t n,
                       double ms) {
    write_key_number(w, per_token, n ? ms / n : 0);
    write_key_number(w, per_second, ms > 0 ? n * 1000.0 / ms : 0);
}

void write_timings(struct writer *w, const struct generation *g) {
    struct request_usage usage;
    generation_usage(g, &usage);
    const uint32_t n =
        usage.prompt_tokens > usage.cached_tokens ? usage.prompt_tokens - usage.cached_tokens : 0;
    write_key(w, "timings");
    write_open(w, '{');
    write_key_int(w, "cache_n", usage.cached_tokens);
    write_key_int(w, "prompt_n", n);
    write_key_number(w, "prompt_ms", usage.prompt_ms);
    write_rate(w, "prompt_per_token_ms", "prompt_per_second", n, usage.prompt_ms);
    write_key_int(w, "predicted_n", usage.completion_tokens);
    write_key_number(w, "predicted_ms", usage.predicted_ms);
    write_rate(w, "predicted_per_token_ms", "predicted_per_second", usage.completion_tokens,
               usage.predicted_ms);
    write_close(w, '}');
}

void write_piece(struct writer *w, const struct generation *g, int32_t token) {
    const char *bytes = "";
    size_t n = 0;
    tokenizer_piece(g->model.tokenizer, token, true, &bytes, &n);
    write_key(w, "token");
    write_text(w, bytes, n);
    write_key(w, "bytes");
    write_bytes(w, bytes, n);
}
