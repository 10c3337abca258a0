/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/engine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/sampler.h"
#include "daemon/engine/sequence.h"

#define CREDIT_NS  UINT64_C(500000000) /* steps that bring no token are heard of this often */
#define PREFILL_NS UINT64_C(200000000) /* a step's prompt rows take about this long at most … */
#define YIELD_NS   UINT64_C(50000000)  /* … and this long where it yields to something else */
/* Rows a step, and a prompt in it, may always have; all that is risked before anything was
 * measured. */
#define PREFILL_LEAST 32u

/* One row of a step, and what its logits are for. */
struct wanted {
    struct sequence *sequence;
    uint32_t position;
};

struct engine {
    struct engine_options options;
    struct engine_model model;
    struct engine_output output;
    struct pages *pages;
    struct sampler *sampler;
    struct sequence **sequences; /* oldest first */
    uint32_t n_sequences;
    struct step_row *rows;        /* [max_rows] */
    struct step_sequence *tables; /* [max_sequences] */
    uint32_t *outputs;            /* [max_outputs] */
    struct wanted *wanted;        /* [max_outputs] */
    float *logits;                /* [max_outputs][n_vocab] */
    struct token_logprob *top;    /* [n_vocab] */
    uint32_t n_rows, n_tables, n_outputs;
    bool oldest_waited; /* the oldest prompt had no row in the last step */
    double ns_per_row;  /* of steps that prefill, smoothed; 0: not yet measured */
    uint64_t steps, rows_run;
    struct msg_credit sent; /* the last CREDIT … */
    uint64_t sent_ns;       /* … and when */
    bool credit_sent, lost, yields;
};

int engine_create(struct engine **out, const struct engine_options *options,
                  const struct engine_model *model, const struct engine_output *output) {
    struct engine *e = calloc(1, sizeof *e);
    if (!e)
        return -ENOMEM;
    e->options = *options;
    e->model = *model;
    e->output = *output;
    e->sequences = calloc(options->max_sequences, sizeof *e->sequences);
    e->rows = calloc(options->max_rows, sizeof *e->rows);
    e->tables = calloc(options->max_sequences, sizeof *e->tables);
    e->outputs = calloc(options->max_outputs, sizeof *e->outputs);
    e->wanted = calloc(options->max_outputs, sizeof *e->wanted);
    e->logits = malloc((size_t)options->max_outputs * options->n_vocab * sizeof *e->logits);
    e->top = calloc(options->n_vocab, sizeof *e->top);
    if (!e->sequences || !e->rows || !e->tables || !e->outputs || !e->wanted || !e->logits ||
        !e->top || pages_create(&e->pages, options->n_pages) ||
        sampler_create(&e->sampler, options->n_vocab)) {
        engine_destroy(e);
        return -ENOMEM;
    }
    *out = e;
    return 0;
}

void engine_destroy(struct engine *e) {
    if (!e)
        return;
    for (uint32_t i = 0; i < e->n_sequences; i++)
        sequence_destroy(e->sequences[i], e->pages);
    pages_destroy(e->pages);
    sampler_destroy(e->sampler);
    free(e->sequences);
    free(e->rows);
    free(e->tables);
    free(e->outputs);
    free(e->wanted);
    free(e->logits);
    free(e->top);
    free(e);
}

/* ---- coming and going ----------------------------------------------------------------------- */

static void forget(struct engine *e, struct sequence *s) {
    for (uint32_t i = 0; i < e->n_sequences; i++)
        if (e->sequences[i] == s) {
            memmove(&e->sequences[i], &e->sequences[i + 1],
                    (e->n_sequences - i - 1) * sizeof *e->sequences);
            e->n_sequences--;
            break;
        }
    for (uint32_t i = 0; i < e->n_outputs; i++)
        if (e->wanted[i].sequence == s)
            e->wanted[i].sequence = NULL;
    sequence_destroy(s, e->pages);
}

static int end_sequence(struct engine *e, struct sequence *s, enum end_reason reason, int32_t token,
                        const char *text) {
    const uint64_t now = e->output.now_ns(e->output.user);
    struct msg_end end = {.generation = e->options.generation,
                          .sequence = s->admit.sequence,
                          .reason = reason,
                          .token = token,
                          .n_cached = s->n_cached,
                          .prompt_ns = (s->first_ns ? s->first_ns : now) - s->admitted_ns,
                          .predict_ns = s->first_ns ? now - s->first_ns : 0};
    snprintf(end.text, sizeof end.text, "%s", text);
    forget(e, s);
    return e->output.send(e->output.user, MSG_END, &end);
}

static int refuse(struct engine *e, const struct msg_admit *admit, const char *text) {
    struct msg_end end = {
        .generation = e->options.generation, .sequence = admit->sequence, .reason = END_ERROR};
    snprintf(end.text, sizeof end.text, "%s", text);
    return e->output.send(e->output.user, MSG_END, &end);
}

int engine_admit(struct engine *e, struct msg_admit *admit) {
    struct sequence *s;
    for (uint32_t i = 0; i < admit->n_tokens; i++)
        if (admit->tokens[i] < 0 || (uint32_t)admit->tokens[i] >= e->options.n_vocab)
            return refuse(e, admit, "a token is not of the model's vocabulary");
    if (admit->n_tokens > e->options.context)
        return refuse(e, admit, "more tokens than the context holds");
    if (e->n_sequences == e->options.max_sequences)
        return refuse(e, admit, "admitted beyond the credit");
    if (sequence_create(&s, admit, e->options.context, e->output.now_ns(e->output.user)))
        return refuse(e, admit, "no memory for the sequence");
    e->sequences[e->n_sequences++] = s;
    const uint32_t generated = s->n_tokens - s->admit.n_prompt;
    if (generated && generated >= s->admit.max_tokens)
        return end_sequence(e, s, END_LENGTH, 0, "");
    return 0;
}

int engine_cancel(struct engine *e, uint64_t sequence) {
    for (uint32_t i = 0; i < e->n_sequences; i++)
        if (e->sequences[i]->admit.sequence == sequence)
            return end_sequence(e, e->sequences[i], END_CANCELLED, 0, "");
    return 0; /* it has ended by itself in the meantime */
}

int engine_send_credit(struct engine *e) {
    struct msg_credit c = {.free_sequences = e->options.max_sequences - e->n_sequences,
                           .free_pages = pages_free(e->pages),
                           .n_pages = e->options.n_pages,
                           .steps = e->steps,
                           .rows = e->rows_run};
    for (uint32_t i = 0; i < e->n_sequences; i++)
        if (e->sequences[i]->started)
            c.running++;
        else
            c.waiting++;
    if (e->model.carried)
        e->model.carried(e->model.user, &c.carried);
    if (e->model.fetched)
        e->model.fetched(e->model.user, &c.fetched);
    const uint64_t now = e->output.now_ns(e->output.user);
    const bool rests = e->n_sequences == 0; /* nothing follows by which the rest would be told */
    const bool works = c.steps != e->sent.steps && (rests || now - e->sent_ns >= CREDIT_NS);
    if (e->credit_sent && !works && c.free_sequences == e->sent.free_sequences &&
        c.running == e->sent.running && c.waiting == e->sent.waiting)
        return 0;
    e->sent = c;
    e->sent_ns = now;
    e->credit_sent = true;
    return e->output.send(e->output.user, MSG_CREDIT, &c);
}

/* ---- another model under the same sequences -------------------------------------------------- */

/* Mark what is there once, though many may use it. */
static void note_page(const struct engine *e, uint32_t page, bool full, struct engine_page *all) {
    all[page] = (struct engine_page){page, pages_serial(e->pages, page), all[page].full || full};
}

uint32_t engine_pages(const struct engine *e, struct engine_page *out) {
    const uint32_t n = e->options.n_pages;
    uint32_t found = 0;
    memset(out, 0, n * sizeof *out);
    for (uint32_t i = 0; i < n; i++)
        if (pages_shared(e->pages, i))
            note_page(e, i, true, out);
    for (uint32_t i = 0; i < e->n_sequences; i++) {
        const struct sequence *s = e->sequences[i];
        for (uint32_t k = 0; k < s->n_pages && k * PAGE_TOKENS < s->n_computed; k++)
            note_page(e, s->pages[k], (k + 1) * PAGE_TOKENS <= s->n_computed, out);
    }
    for (uint32_t i = 0; i < n; i++)
        if (out[i].serial)
            out[found++] = out[i];
    return found;
}

struct pages *engine_page_table(const struct engine *e) {
    return e->pages;
}

void engine_forget_idle(struct engine *e, bool *idle) {
    pages_forget_idle(e->pages, idle);
}

void engine_continue(struct engine *e) {
    e->lost = false;
    e->credit_sent = false; /* other cards may have carried something to get here */
}

int engine_start_over(struct engine *e) {
    struct pages *empty;
    int rc = pages_create(&empty, e->options.n_pages);
    if (rc)
        return rc;
    while (e->n_sequences && !rc) {
        struct sequence *s = e->sequences[e->n_sequences - 1];
        const struct msg_preempted msg = {e->options.generation, s->admit.sequence};
        forget(e, s);
        rc = e->output.send(e->output.user, MSG_PREEMPTED, &msg);
    }
    pages_destroy(e->pages);
    e->pages = empty;
    e->lost = false;
    e->credit_sent = false;
    return rc;
}

/* ---- building a step ------------------------------------------------------------------------ */

/* Make room by giving a sequence back to the front, which replays it later: the youngest that has
 * pages and is younger than `keep`, so that the oldest always goes on.  False: there is none. */
static bool preempt_younger(struct engine *e, const struct sequence *keep) {
    for (uint32_t i = e->n_sequences; i-- > 0 && e->sequences[i] != keep;) {
        struct sequence *s = e->sequences[i];
        if (s->n_pages == 0 || s->n_rows)
            continue;
        const struct msg_preempted msg = {e->options.generation, s->admit.sequence};
        forget(e, s);
        e->output.send(e->output.user, MSG_PREEMPTED, &msg);
        return true;
    }
    return false;
}

static bool make_pages(struct engine *e, struct sequence *s, uint32_t n) {
    while (!sequence_grow(s, e->pages, n))
        if (!preempt_younger(e, s))
            return false;
    return true;
}

/* Somebody else has pages, which may become free. */
static bool others_have_pages(const struct engine *e, const struct sequence *but) {
    for (uint32_t i = 0; i < e->n_sequences; i++)
        if (e->sequences[i] != but && e->sequences[i]->n_pages)
            return true;
    return false;
}

/* Another prompt is just computing a page that this one could share: started now, the same work
 * would be done twice (the choices of one request come together). */
static bool will_find_pages(const struct engine *e, const struct sequence *s) {
    if (!s->admit.cache_prompt || s->admit.prompt_logprobs)
        return false;
    for (uint32_t i = 0; i < e->n_sequences; i++) {
        const struct sequence *t = e->sequences[i];
        const uint32_t n = (t->n_computed / PAGE_TOKENS + 1) * PAGE_TOKENS;
        if (t != s && t->started && t->admit.cache_prompt && t->admit.uid == s->admit.uid &&
            n <= t->n_tokens && n < s->n_tokens &&
            !memcmp(t->admit.tokens, s->admit.tokens, n * sizeof *s->admit.tokens))
            return true;
    }
    return false;
}

/* Pages of the known tokens and the next one. */
static uint32_t pages_needed(const struct sequence *s) {
    return s->n_tokens / PAGE_TOKENS + 1;
}

/* A sequence starts when its known tokens and the next one fit beside those of all that run, so
 * that starting it does not push one out. */
static bool may_start(const struct engine *e, const struct sequence *s) {
    uint64_t need = pages_needed(s);
    if (will_find_pages(e, s))
        return false;
    if (e->sequences[0] == s)
        return true;
    for (uint32_t i = 0; i < e->n_sequences; i++) {
        const struct sequence *t = e->sequences[i];
        if (t->started && pages_needed(t) > t->n_pages)
            need += pages_needed(t) - t->n_pages;
    }
    return need <= pages_free(e->pages);
}

/* Whether the logits of this position are used: to draw the next token, or to score the prompt. */
static bool wants_logits(const struct sequence *s, uint32_t position) {
    return position + 1 == s->n_tokens ||
           (s->admit.prompt_logprobs && position + 1 < s->admit.n_prompt);
}

/* Add rows of pending tokens, n at most; fewer when the step has then more than max_outputs. */
static void add_rows(struct engine *e, struct sequence *s, uint32_t n, uint32_t max_outputs) {
    const uint32_t table = e->n_tables;
    s->first_row = e->n_rows;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t position = s->n_computed + i;
        if (wants_logits(s, position)) {
            if (e->n_outputs >= max_outputs)
                break;
            e->wanted[e->n_outputs] = (struct wanted){s, position};
            e->outputs[e->n_outputs++] = e->n_rows;
        }
        e->rows[e->n_rows++] = (struct step_row){s->admit.tokens[position], position, table};
    }
    s->n_rows = e->n_rows - s->first_row;
    if (s->n_rows)
        e->tables[e->n_tables++] = (struct step_sequence){s->pages, s->n_pages};
}

static uint32_t prefill_budget(const struct engine *e) {
    const uint32_t left = e->options.max_rows - e->n_rows;
    uint32_t rows = PREFILL_LEAST;
    if (e->ns_per_row > 0) {
        const double fit = (double)(e->yields ? YIELD_NS : PREFILL_NS) / e->ns_per_row;
        rows = fit < PREFILL_LEAST ? PREFILL_LEAST : fit > left ? left : (uint32_t)fit;
    }
    return rows < left ? rows : left;
}

/* Run out of pages alone: nothing can ever free one. */
static int give_up(struct engine *e, struct sequence *s) {
    return end_sequence(e, s, s->n_tokens > s->admit.n_prompt ? END_CONTEXT : END_ERROR, 0,
                        "the sequence does not fit the KV pages of the plan");
}

/* Where there are no pages for it, it waits for those of the others. */
static int add_sequence(struct engine *e, struct sequence *s, uint32_t n, uint32_t max_outputs) {
    s->tried = true;
    if (make_pages(e, s, s->n_computed + n))
        add_rows(e, s, n, max_outputs);
    else if (e->n_rows == 0 && !others_have_pages(e, s))
        return give_up(e, s);
    return 0;
}

static int add_decoding(struct engine *e) {
    for (uint32_t i = 0; i < e->n_sequences && e->n_rows < e->options.max_rows;) {
        struct sequence *s = e->sequences[i];
        if (s->started && sequence_pending(s) == 1) {
            const int rc = add_sequence(e, s, 1, e->options.max_outputs);
            if (rc)
                return rc;
        }
        /* Given up, it is not there any more; those pre-empted were behind it. */
        if (i < e->n_sequences && e->sequences[i] == s)
            i++;
    }
    return 0;
}

static bool is_prompt(const struct sequence *s) {
    return s->started && !s->tried && sequence_pending(s) > 0;
}

/* The one with the least to do; the oldest of these, or of all. */
static struct sequence *next_prompt(const struct engine *e, bool oldest, uint32_t *n) {
    struct sequence *best = NULL;
    *n = 0;
    for (uint32_t i = 0; i < e->n_sequences; i++) {
        struct sequence *s = e->sequences[i];
        if (!is_prompt(s))
            continue;
        ++*n;
        if (!best || (!oldest && sequence_pending(s) < sequence_pending(best)))
            best = s;
    }
    return best;
}

/* What a prompt may add outputs to: a scored one, which wants one for each row, leaves one for
 * every other that can come to its end in this step. */
static uint32_t outputs_for(const struct engine *e, const struct sequence *s, uint32_t rows_left) {
    uint32_t others = 0;
    for (uint32_t i = 0; i < e->n_sequences; i++) {
        const struct sequence *t = e->sequences[i];
        others += t != s && is_prompt(t) && sequence_pending(t) <= rows_left;
    }
    const uint32_t most = e->options.max_outputs;
    if (e->n_outputs == most)
        return most; /* others before it took them all */
    return most > e->n_outputs + others ? most - others : e->n_outputs + 1;
}

/* Every prompt has its share, the shortest first: what those do not need is for the longer ones.
 * Where there are too many for a share each, the oldest goes first every other time. */
static int add_prompts(struct engine *e, bool *prefills) {
    uint32_t budget = prefill_budget(e), n;
    struct sequence *s;
    for (uint32_t i = 0; i < e->n_sequences; i++)
        if (!e->sequences[i]->started && may_start(e, e->sequences[i]))
            sequence_start(e->sequences[i], e->pages);
    bool oldest = e->oldest_waited;
    while (budget && (s = next_prompt(e, oldest, &n))) {
        const uint32_t share = budget / n > PREFILL_LEAST ? budget / n : PREFILL_LEAST;
        const uint32_t most = share < budget ? share : budget, before = e->n_rows;
        const uint32_t rows = sequence_pending(s) < most ? sequence_pending(s) : most;
        const int rc = add_sequence(e, s, rows, outputs_for(e, s, budget - rows));
        if (rc)
            return rc;
        budget -= e->n_rows - before;
        *prefills |= e->n_rows > before;
        oldest = false;
    }
    e->oldest_waited = false;
    for (uint32_t i = 0; i < e->n_sequences; i++)
        if (e->sequences[i]->started && sequence_pending(e->sequences[i]) > 1) {
            e->oldest_waited = e->sequences[i]->n_rows == 0;
            break;
        }
    return 0;
}

/* First everyone who decodes, then prompts with what is left. */
static int build_step(struct engine *e, bool *prefills) {
    uint32_t before;
    *prefills = false;
    do { /* again where all that happened is that somebody went */
        before = e->n_sequences;
        e->n_rows = e->n_tables = e->n_outputs = 0;
        for (uint32_t i = 0; i < e->n_sequences; i++) {
            e->sequences[i]->n_rows = 0;
            e->sequences[i]->tried = false;
        }
        int rc = add_decoding(e);
        if (rc == 0)
            rc = add_prompts(e, prefills);
        if (rc)
            return rc;
    } while (e->n_rows == 0 && e->n_sequences != before);
    return 0;
}

/* ---- after a step --------------------------------------------------------------------------- */

static int send_prompt_logprob(struct engine *e, struct sequence *s, uint32_t position,
                               const float *logits) {
    const double log_sum = sampler_log_sum(e->sampler, logits);
    float logprob = (float)((double)logits[s->admit.tokens[position + 1]] - log_sum);
    const struct msg_prompt msg = {
        .generation = e->options.generation,
        .sequence = s->admit.sequence,
        .first = position + 1,
        .n = 1,
        .logprobs = &logprob,
        .n_top = sampler_top(e->sampler, logits, log_sum, s->admit.n_logprobs, e->top),
        .top = e->top};
    return e->output.send(e->output.user, MSG_PROMPT, &msg);
}

static bool is_eog(const struct engine *e, int32_t token) {
    for (uint32_t i = 0; i < e->options.n_eog; i++)
        if (e->options.eog[i] == token)
            return true;
    return false;
}

/* Draw the next token of a sequence and tell the front. */
static int draw_next(struct engine *e, struct sequence *s, float *logits) {
    struct msg_token msg = {.generation = e->options.generation,
                            .sequence = s->admit.sequence,
                            .position = s->n_tokens};
    const struct sampler_input in = {&s->admit.sampling, s->admit.tokens, s->n_tokens,
                                     e->options.eog, e->options.n_eog};
    if (!s->first_ns)
        s->first_ns = e->output.now_ns(e->output.user);
    if (s->admit.max_tokens == 0)
        return end_sequence(e, s, END_LENGTH, 0, "");
    if (s->n_tokens == e->options.context)
        return end_sequence(e, s, END_CONTEXT, 0, "");

    double log_sum = 0;
    /* Reported is the distribution as the model gave it; drawing changes the logits. */
    float *own = NULL;
    if (s->admit.logprobs) {
        log_sum = sampler_log_sum(e->sampler, logits);
        msg.n_top = sampler_top(e->sampler, logits, log_sum, s->admit.n_logprobs, e->top);
        msg.top = e->top;
        own = malloc(e->options.n_vocab * sizeof *own);
        if (!own)
            return -ENOMEM;
        memcpy(own, logits, e->options.n_vocab * sizeof *own);
    }
    const int rc = sampler_draw(e->sampler, logits, &in, &msg.token);
    if (!rc && own)
        msg.logprob = (float)((double)own[msg.token] - log_sum);
    free(own);
    if (rc)
        return end_sequence(e, s, END_ERROR, 0, "the model's logits allow no token (NaN)");
    if (is_eog(e, msg.token))
        return end_sequence(e, s, END_EOG, msg.token, "");
    s->admit.tokens[s->n_tokens++] = msg.token;
    const int sent = e->output.send(e->output.user, MSG_TOKEN, &msg);
    if (sent)
        return sent;
    if (s->n_tokens - s->admit.n_prompt >= s->admit.max_tokens)
        return end_sequence(e, s, END_LENGTH, 0, "");
    if (s->n_tokens == e->options.context)
        return end_sequence(e, s, END_CONTEXT, 0, "");
    return 0;
}

static int take_outputs(struct engine *e) {
    for (uint32_t i = 0; i < e->n_outputs; i++) {
        struct sequence *s = e->wanted[i].sequence;
        const uint32_t position = e->wanted[i].position;
        float *logits = e->logits + (size_t)i * e->options.n_vocab;
        int rc = 0;
        if (!s)
            continue; /* it ended in this very loop */
        if (s->admit.prompt_logprobs && position + 1 < s->admit.n_prompt)
            rc = send_prompt_logprob(e, s, position, logits);
        if (!rc && position + 1 == s->n_tokens)
            rc = draw_next(e, s, logits);
        if (rc)
            return rc;
    }
    return 0;
}

void engine_yield(struct engine *e, bool yields) {
    e->yields = yields;
}

int engine_step(struct engine *e) {
    bool prefills;
    uint32_t card = 0;
    if (e->lost)
        return -ENODEV;
    int rc = build_step(e, &prefills);
    if (rc || e->n_rows == 0)
        return rc;

    struct step_params params = {.rows = e->rows,
                                 .n_rows = e->n_rows,
                                 .sequences = e->tables,
                                 .n_sequences = e->n_tables,
                                 .outputs = e->outputs,
                                 .n_outputs = e->n_outputs,
                                 .logits = e->logits};
    const uint64_t begin = e->output.now_ns(e->output.user);
    rc = e->model.step(e->model.user, &params, &card);
    if (rc == -ENODEV) {
        const struct msg_lost msg = {e->options.generation, card};
        e->lost = true;
        e->output.send(e->output.user, MSG_LOST, &msg);
        return -ENODEV;
    }
    if (rc)
        return rc;
    if (prefills) {
        const double ns = (double)(e->output.now_ns(e->output.user) - begin) / (double)e->n_rows;
        e->ns_per_row = e->ns_per_row > 0 ? 0.7 * e->ns_per_row + 0.3 * ns : ns;
    }
    e->steps++;
    e->rows_run += e->n_rows;
    for (uint32_t i = 0; i < e->n_sequences; i++)
        if (e->sequences[i]->n_rows)
            sequence_advance(e->sequences[i], e->pages,
                             e->sequences[i]->n_computed + e->sequences[i]->n_rows);
    rc = take_outputs(e);
    return rc ? rc : 1;
}
