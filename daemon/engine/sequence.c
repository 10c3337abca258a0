/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/sequence.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t pages_for(uint32_t n_tokens) {
    return (n_tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
}

int sequence_create(struct sequence **out, struct msg_admit *admit, uint32_t context,
                    uint64_t now_ns) {
    struct sequence *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    int32_t *tokens = realloc(admit->tokens, context * sizeof *tokens);
    if (tokens)
        admit->tokens = tokens;
    s->pages = calloc(pages_for(context), sizeof *s->pages);
    if (!tokens || !s->pages) {
        free(s->pages);
        free(s);
        return -ENOMEM;
    }
    s->admit = *admit;
    admit->tokens = NULL;
    admit->sampling.bias = NULL;
    admit->sampling.n_bias = 0;
    s->n_tokens = s->admit.n_tokens;
    s->admitted_ns = now_ns;
    *out = s;
    return 0;
}

void sequence_destroy(struct sequence *s, struct pages *pages) {
    if (!s)
        return;
    /* Last page first: of a shared prefix, the end is what may be lost soonest. */
    while (s->n_pages)
        pages_put(pages, s->pages[--s->n_pages]);
    free(s->pages);
    free(s->admit.tokens);
    free(s->admit.sampling.bias);
    free(s);
}

void sequence_start(struct sequence *s, struct pages *pages) {
    s->started = true;
    /* Log-probabilities of the prompt need its rows, so none may be skipped. */
    if (!s->admit.cache_prompt || s->admit.prompt_logprobs)
        return;
    while ((s->n_pages + 1) * PAGE_TOKENS < s->n_tokens) {
        const uint32_t parent = s->n_pages ? s->pages[s->n_pages - 1] : NO_PAGE;
        const uint32_t page = pages_find(pages, s->admit.uid, parent,
                                         s->admit.tokens + (size_t)s->n_pages * PAGE_TOKENS);
        if (page == NO_PAGE)
            break;
        s->pages[s->n_pages++] = page;
    }
    s->n_computed = s->n_pages * PAGE_TOKENS;
    s->n_cached = s->n_computed < s->admit.n_prompt ? s->n_computed : s->admit.n_prompt;
}

bool sequence_grow(struct sequence *s, struct pages *pages, uint32_t n) {
    while (s->n_pages < pages_for(n)) {
        const uint32_t page = pages_take(pages);
        if (page == NO_PAGE)
            return false;
        s->pages[s->n_pages++] = page;
    }
    return true;
}

void sequence_advance(struct sequence *s, struct pages *pages, uint32_t n) {
    const uint32_t first = s->n_computed / PAGE_TOKENS, end = n / PAGE_TOKENS;
    s->n_computed = n;
    if (!s->admit.cache_prompt)
        return;
    for (uint32_t i = first; i < end; i++)
        s->pages[i] = pages_share(pages, s->pages[i], s->admit.uid, i ? s->pages[i - 1] : NO_PAGE,
                                  s->admit.tokens + (size_t)i * PAGE_TOKENS);
}
