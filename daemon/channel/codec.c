/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/channel/codec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/channel/bytes.h"
#include "daemon/channel/codec_counts.h"
#include "daemon/channel/codec_plan.h"

static void put_sampling(struct writer *w, const struct sampling *s) {
    put_f32(w, s->temperature);
    put_u32(w, s->top_k);
    put_f32(w, s->top_p);
    put_f32(w, s->min_p);
    put_f32(w, s->repeat_penalty);
    put_f32(w, s->frequency_penalty);
    put_f32(w, s->presence_penalty);
    put_u32(w, (uint32_t)s->penalty_last_n);
    put_u64(w, s->seed);
    put_u32(w, s->choice);
    put_u32(w, s->min_keep);
    put_u8(w, s->ignore_eos);
    put_u32(w, s->n_bias);
    for (uint32_t i = 0; i < s->n_bias; i++) {
        put_u32(w, (uint32_t)s->bias[i].token);
        put_f32(w, s->bias[i].bias);
    }
}

static void get_sampling(struct reader *r, struct sampling *s) {
    s->temperature = get_f32(r);
    s->top_k = get_u32(r);
    s->top_p = get_f32(r);
    s->min_p = get_f32(r);
    s->repeat_penalty = get_f32(r);
    s->frequency_penalty = get_f32(r);
    s->presence_penalty = get_f32(r);
    s->penalty_last_n = (int32_t)get_u32(r);
    s->seed = get_u64(r);
    s->choice = get_u32(r);
    s->min_keep = get_u32(r);
    s->ignore_eos = get_bool(r);
    const uint32_t n = get_count(r, 8);
    r->bad |= n > LOGIT_BIAS_MAX;
    s->bias = get_array(r, n, sizeof *s->bias);
    for (uint32_t i = 0; i < n && !r->bad; i++) {
        s->bias[i].token = (int32_t)get_u32(r);
        s->bias[i].bias = get_f32(r);
    }
    s->n_bias = n;
}

static void put_admit(struct writer *w, const struct msg_admit *m) {
    put_u64(w, m->sequence);
    put_u32(w, m->uid);
    put_u32(w, m->n_tokens);
    for (uint32_t i = 0; i < m->n_tokens; i++)
        put_u32(w, (uint32_t)m->tokens[i]);
    put_u32(w, m->n_prompt);
    put_u32(w, m->max_tokens);
    put_u32(w, m->n_logprobs);
    put_u8(w, m->logprobs);
    put_u8(w, m->prompt_logprobs);
    put_u8(w, m->cache_prompt);
    put_sampling(w, &m->sampling);
}

static void get_admit(struct reader *r, struct msg_admit *m) {
    m->sequence = get_u64(r);
    m->uid = get_u32(r);
    const uint32_t n = get_count(r, 4);
    m->tokens = get_array(r, n, sizeof *m->tokens);
    for (uint32_t i = 0; i < n && !r->bad; i++)
        m->tokens[i] = (int32_t)get_u32(r);
    m->n_tokens = n;
    m->n_prompt = get_u32(r);
    m->max_tokens = get_u32(r);
    m->n_logprobs = get_u32(r);
    m->logprobs = get_bool(r);
    m->prompt_logprobs = get_bool(r);
    m->cache_prompt = get_bool(r);
    r->bad |= m->n_prompt == 0 || m->n_prompt > n;
    if (!r->bad)
        get_sampling(r, &m->sampling);
}

static void put_logprobs(struct writer *w, const struct token_logprob *top, size_t n) {
    for (size_t i = 0; i < n; i++) {
        put_u32(w, (uint32_t)top[i].token);
        put_f32(w, top[i].logprob);
    }
}

static struct token_logprob *get_logprobs(struct reader *r, uint32_t n) {
    struct token_logprob *top =
        n <= (size_t)(r->end - r->at) / 8 ? get_array(r, n, sizeof *top) : NULL;
    r->bad |= n && !top;
    for (uint32_t i = 0; i < n && !r->bad; i++) {
        top[i].token = (int32_t)get_u32(r);
        top[i].logprob = get_f32(r);
    }
    return top;
}

static void put_token(struct writer *w, const struct msg_token *m) {
    put_u64(w, m->generation);
    put_u64(w, m->sequence);
    put_u32(w, m->position);
    put_u32(w, (uint32_t)m->token);
    put_f32(w, m->logprob);
    put_u32(w, m->n_top);
    put_logprobs(w, m->top, m->n_top);
}

static void get_token(struct reader *r, struct msg_token *m) {
    m->generation = get_u64(r);
    m->sequence = get_u64(r);
    m->position = get_u32(r);
    m->token = (int32_t)get_u32(r);
    m->logprob = get_f32(r);
    m->n_top = get_count(r, 8);
    m->top = get_logprobs(r, m->n_top);
}

static void put_prompt(struct writer *w, const struct msg_prompt *m) {
    put_u64(w, m->generation);
    put_u64(w, m->sequence);
    put_u32(w, m->first);
    put_u32(w, m->n);
    put_u32(w, m->n_top);
    for (uint32_t i = 0; i < m->n; i++)
        put_f32(w, m->logprobs[i]);
    put_logprobs(w, m->top, (size_t)m->n * m->n_top);
}

static void get_prompt(struct reader *r, struct msg_prompt *m) {
    m->generation = get_u64(r);
    m->sequence = get_u64(r);
    m->first = get_u32(r);
    m->n = get_count(r, 4);
    m->n_top = get_u32(r);
    const uint64_t n_top = (uint64_t)m->n * m->n_top;
    r->bad |= n_top > (size_t)(r->end - r->at) / 8;
    m->logprobs = get_array(r, m->n, sizeof *m->logprobs);
    for (uint32_t i = 0; i < m->n && !r->bad; i++)
        m->logprobs[i] = get_f32(r);
    if (!r->bad)
        m->top = get_logprobs(r, (uint32_t)n_top);
}

static void put_end(struct writer *w, const struct msg_end *m) {
    put_u64(w, m->generation);
    put_u64(w, m->sequence);
    put_u32(w, m->reason);
    put_u32(w, (uint32_t)m->token);
    put_u32(w, m->n_cached);
    put_u64(w, m->prompt_ns);
    put_u64(w, m->predict_ns);
    put_string(w, m->text);
}

static void get_end(struct reader *r, struct msg_end *m) {
    m->generation = get_u64(r);
    m->sequence = get_u64(r);
    m->reason = get_u32(r);
    m->token = (int32_t)get_u32(r);
    m->n_cached = get_u32(r);
    m->prompt_ns = get_u64(r);
    m->predict_ns = get_u64(r);
    get_string(r, m->text, sizeof m->text);
    r->bad |= m->reason > END_ERROR;
}

static void put_limits(struct writer *w, const struct msg_limits *m) {
    put_u64(w, m->generation);
    put_u32(w, (uint32_t)m->error);
    put_u64(w, m->read_bytes_per_s);
    put_u64(w, m->int8_ops_per_s);
    put_u64(w, m->weights_bytes);
    put_u64(w, (uint64_t)m->huge_bytes);
    put_u32(w, m->n_threads);
    put_string(w, m->isa);
}

static void get_limits(struct reader *r, struct msg_limits *m) {
    m->generation = get_u64(r);
    m->error = (int32_t)get_u32(r);
    m->read_bytes_per_s = get_u64(r);
    m->int8_ops_per_s = get_u64(r);
    m->weights_bytes = get_u64(r);
    m->huge_bytes = (int64_t)get_u64(r);
    m->n_threads = get_u32(r);
    get_string(r, m->isa, sizeof m->isa);
}

static void put_replan(struct writer *w, const struct msg_replan *m) {
    put_u64(w, m->number);
    put_u8(w, m->keep);
    put_u64(w, m->stage_bytes);
    put_plan(w, &m->plan);
}

static void get_replan(struct reader *r, struct msg_replan *m) {
    m->number = get_u64(r);
    m->keep = get_bool(r);
    m->stage_bytes = get_u64(r);
    if (!r->bad)
        get_plan(r, &m->plan);
}

static void put_replanned(struct writer *w, const struct msg_replanned *m) {
    const uint64_t u64s[] = {m->kv_bytes, m->load_ns, m->gap_ns, m->gap_kv_bytes};
    put_u64(w, m->generation);
    put_u64(w, m->number);
    put_u32(w, (uint32_t)m->error);
    put_string(w, m->text);
    put_u8(w, m->kept);
    for (size_t i = 0; i < sizeof u64s / sizeof *u64s; i++)
        put_u64(w, u64s[i]);
    put_ready(w, &m->ready);
}

static void get_replanned(struct reader *r, struct msg_replanned *m) {
    uint64_t *const u64s[] = {&m->kv_bytes, &m->load_ns, &m->gap_ns, &m->gap_kv_bytes};
    m->generation = get_u64(r);
    m->number = get_u64(r);
    m->error = (int32_t)get_u32(r);
    get_string(r, m->text, sizeof m->text);
    m->kept = get_bool(r);
    for (size_t i = 0; i < sizeof u64s / sizeof *u64s; i++)
        *u64s[i] = get_u64(r);
    get_ready(r, &m->ready);
}

static void put_harmed(struct writer *w, const struct msg_harmed *m) {
    const uint64_t u64s[] = {m->row_begin, m->row_end, m->col_begin, m->col_end,
                             m->bytes,     m->age_ns,  m->read_ns};
    put_u64(w, m->generation);
    put_u32(w, m->card);
    put_string(w, m->tensor);
    for (size_t i = 0; i < sizeof u64s / sizeof *u64s; i++)
        put_u64(w, u64s[i]);
}

static void get_harmed(struct reader *r, struct msg_harmed *m) {
    uint64_t *const u64s[] = {&m->row_begin, &m->row_end, &m->col_begin, &m->col_end,
                              &m->bytes,     &m->age_ns,  &m->read_ns};
    m->generation = get_u64(r);
    m->card = get_u32(r);
    get_string(r, m->tensor, sizeof m->tensor);
    for (size_t i = 0; i < sizeof u64s / sizeof *u64s; i++)
        *u64s[i] = get_u64(r);
    r->bad |= m->card >= CARDS_MAX;
}

static void put_verified(struct writer *w, const struct msg_verified *m) {
    put_u64(w, m->generation);
    put_u64(w, m->number);
    put_u32(w, m->cause);
    put_u32(w, m->n_cards);
    for (uint32_t i = 0; i < m->n_cards; i++) {
        put_u32(w, m->cards[i].ranges);
        put_u32(w, m->cards[i].harmed);
        put_u32(w, m->cards[i].repaired);
        put_u64(w, m->cards[i].bytes);
        put_u64(w, m->cards[i].ns);
    }
}

static void get_verified(struct reader *r, struct msg_verified *m) {
    m->generation = get_u64(r);
    m->number = get_u64(r);
    m->cause = get_u32(r);
    m->n_cards = get_u32(r);
    r->bad |= m->cause > VERIFY_SCRUB || m->n_cards > CARDS_MAX;
    for (uint32_t i = 0; i < m->n_cards && !r->bad; i++) {
        m->cards[i].ranges = get_u32(r);
        m->cards[i].harmed = get_u32(r);
        m->cards[i].repaired = get_u32(r);
        m->cards[i].bytes = get_u64(r);
        m->cards[i].ns = get_u64(r);
    }
}

/* What the front says; HELLO is both sides'.  False: it is none of these. */
static bool put_order(struct writer *w, enum message_type type, const void *msg) {
    const union {
        const void *any;
        const struct msg_hello *hello;
        const struct msg_cancel *cancel;
        const struct msg_lose *lose;
        const struct msg_verify *verify;
        const struct msg_corrupt *corrupt;
        const struct msg_hang *hang;
        const struct msg_pressed *pressed;
        const struct msg_yield *yield;
    } m = {msg};
    switch (type) {
    case MSG_HELLO:
        put_u32(w, m.hello->version);
        put_u32(w, m.hello->pid);
        break;
    case MSG_SETUP:
        put_setup(w, msg);
        break;
    case MSG_ADMIT:
        put_admit(w, msg);
        break;
    case MSG_CANCEL:
        put_u64(w, m.cancel->sequence);
        break;
    case MSG_LOSE:
        put_u32(w, m.lose->card);
        break;
    case MSG_STOP:
    case MSG_MEASURE:
        break;
    case MSG_REPLAN:
        put_replan(w, msg);
        break;
    case MSG_VERIFY:
        put_u64(w, m.verify->number);
        put_u32(w, (uint32_t)m.verify->card);
        break;
    case MSG_CORRUPT:
        put_u32(w, m.corrupt->card);
        put_u8(w, m.corrupt->silent);
        break;
    case MSG_HANG:
        put_u32(w, m.hang->card);
        break;
    case MSG_PRESSED:
        put_u8(w, m.pressed->give_back);
        put_u8(w, m.pressed->put_off);
        break;
    case MSG_YIELD:
        put_u8(w, m.yield->on);
        break;
    default:
        return false;
    }
    return true;
}

/* What the engine says. */
static void put_news(struct writer *w, enum message_type type, const void *msg) {
    const union {
        const void *any;
        const struct msg_progress *progress;
        const struct msg_failed *failed;
        const struct msg_preempted *preempted;
        const struct msg_lost *lost;
        const struct msg_fenced *fenced;
        const struct msg_tried *tried;
    } m = {msg};
    switch (type) {
    case MSG_PROGRESS:
        put_u64(w, m.progress->done_bytes);
        put_u64(w, m.progress->total_bytes);
        break;
    case MSG_READY:
        put_ready(w, msg);
        break;
    case MSG_FAILED:
        put_u32(w, (uint32_t)m.failed->error);
        put_string(w, m.failed->text);
        put_u32(w, m.failed->lost);
        break;
    case MSG_TOKEN:
        put_token(w, msg);
        break;
    case MSG_PROMPT:
        put_prompt(w, msg);
        break;
    case MSG_END:
        put_end(w, msg);
        break;
    case MSG_CREDIT:
        put_credit(w, msg);
        break;
    case MSG_PREEMPTED:
        put_u64(w, m.preempted->generation);
        put_u64(w, m.preempted->sequence);
        break;
    case MSG_LOST:
        put_u64(w, m.lost->generation);
        put_u32(w, m.lost->card);
        break;
    case MSG_LIMITS:
        put_limits(w, msg);
        break;
    case MSG_REPLANNED:
        put_replanned(w, msg);
        break;
    case MSG_HARMED:
        put_harmed(w, msg);
        break;
    case MSG_VERIFIED:
        put_verified(w, msg);
        break;
    case MSG_FENCED:
        put_u64(w, m.fenced->generation);
        put_u32(w, m.fenced->cards);
        put_u64(w, m.fenced->deadline_ns);
        break;
    case MSG_TRIED:
        put_u64(w, m.tried->generation);
        put_u32(w, m.tried->cards);
        put_u32(w, m.tried->memory);
        for (uint32_t i = 0; i < CARDS_MAX; i++) {
            put_u32(w, m.tried->links[i]);
            put_string(w, m.tried->why[i]);
        }
        break;
    default:
        break;
    }
}

int message_encode(struct buffer *out, enum message_type type, const void *msg) {
    const size_t start = out->n;
    struct writer w = {.out = out};
    put_u32(&w, 0); /* the length, known below */
    put_u32(&w, (uint32_t)type);
    if (!put_order(&w, type, msg))
        put_news(&w, type, msg);
    const size_t n = out->n - start - (w.rc ? 0 : FRAME_HEADER_BYTES);
    if (!w.rc && n > CHANNEL_FRAME_MAX)
        w.rc = -EMSGSIZE;
    if (w.rc) {
        out->n = start;
        return w.rc;
    }
    for (int i = 0; i < 4; i++)
        out->bytes[start + (size_t)i] = (char)(n >> 8 * i);
    return 0;
}

static bool get_order(struct reader *r, struct message *msg) {
    switch (msg->type) {
    case MSG_HELLO:
        msg->hello.version = get_u32(r);
        msg->hello.pid = get_u32(r);
        break;
    case MSG_SETUP:
        get_setup(r, &msg->setup);
        break;
    case MSG_ADMIT:
        get_admit(r, &msg->admit);
        break;
    case MSG_CANCEL:
        msg->cancel.sequence = get_u64(r);
        break;
    case MSG_LOSE:
        msg->lose.card = get_u32(r);
        break;
    case MSG_STOP:
    case MSG_MEASURE:
        break;
    case MSG_REPLAN:
        get_replan(r, &msg->replan);
        break;
    case MSG_VERIFY:
        msg->verify.number = get_u64(r);
        msg->verify.card = (int32_t)get_u32(r);
        r->bad |= msg->verify.card < -1 || msg->verify.card >= (int32_t)CARDS_MAX;
        break;
    case MSG_CORRUPT:
        msg->corrupt.card = get_u32(r);
        msg->corrupt.silent = get_bool(r);
        r->bad |= msg->corrupt.card >= CARDS_MAX;
        break;
    case MSG_HANG:
        msg->hang.card = get_u32(r);
        break;
    case MSG_YIELD:
        msg->yield.on = get_bool(r);
        break;
    case MSG_PRESSED:
        msg->pressed.give_back = get_bool(r);
        msg->pressed.put_off = get_bool(r);
        break;
    default:
        return false;
    }
    return true;
}

static void get_news(struct reader *r, struct message *msg) {
    switch (msg->type) {
    case MSG_PROGRESS:
        msg->progress.done_bytes = get_u64(r);
        msg->progress.total_bytes = get_u64(r);
        break;
    case MSG_READY:
        get_ready(r, &msg->ready);
        break;
    case MSG_FAILED:
        msg->failed.error = (int32_t)get_u32(r);
        get_string(r, msg->failed.text, sizeof msg->failed.text);
        msg->failed.lost = get_u32(r);
        break;
    case MSG_TOKEN:
        get_token(r, &msg->token);
        break;
    case MSG_PROMPT:
        get_prompt(r, &msg->prompt);
        break;
    case MSG_END:
        get_end(r, &msg->end);
        break;
    case MSG_CREDIT:
        get_credit(r, &msg->credit);
        break;
    case MSG_PREEMPTED:
        msg->preempted.generation = get_u64(r);
        msg->preempted.sequence = get_u64(r);
        break;
    case MSG_LOST:
        msg->lost.generation = get_u64(r);
        msg->lost.card = get_u32(r);
        break;
    case MSG_LIMITS:
        get_limits(r, &msg->limits);
        break;
    case MSG_REPLANNED:
        get_replanned(r, &msg->replanned);
        break;
    case MSG_HARMED:
        get_harmed(r, &msg->harmed);
        break;
    case MSG_VERIFIED:
        get_verified(r, &msg->verified);
        break;
    case MSG_FENCED:
        msg->fenced.generation = get_u64(r);
        msg->fenced.cards = get_u32(r);
        msg->fenced.deadline_ns = get_u64(r);
        break;
    case MSG_TRIED:
        msg->tried.generation = get_u64(r);
        msg->tried.cards = get_u32(r);
        msg->tried.memory = get_u32(r);
        for (uint32_t i = 0; i < CARDS_MAX; i++) {
            msg->tried.links[i] = get_u32(r);
            get_string(r, msg->tried.why[i], sizeof msg->tried.why[i]);
        }
        break;
    default:
        r->bad = true;
    }
}

int message_decode(struct message *out, uint16_t type, const void *payload, size_t n) {
    struct message msg;
    struct reader r = {.at = payload, .end = (const uint8_t *)payload + n};
    memset(&msg, 0, sizeof msg);
    msg.type = (enum message_type)type;
    if (!get_order(&r, &msg))
        get_news(&r, &msg);
    if (r.bad || r.at != r.end) {
        message_finish(&msg);
        return -EPROTO;
    }
    *out = msg;
    return 0;
}

void message_finish(struct message *msg) {
    switch (msg->type) {
    case MSG_SETUP:
        plan_finish(&msg->setup.plan);
        break;
    case MSG_REPLAN:
        plan_finish(&msg->replan.plan);
        break;
    case MSG_ADMIT:
        free(msg->admit.tokens);
        free(msg->admit.sampling.bias);
        break;
    case MSG_TOKEN:
        free(msg->token.top);
        break;
    case MSG_PROMPT:
        free(msg->prompt.logprobs);
        free(msg->prompt.top);
        break;
    default:
        break;
    }
    memset(msg, 0, sizeof *msg);
}
