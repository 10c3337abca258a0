/* SPDX-License-Identifier: Apache-2.0 */
/* What a client hears, written down; and what two transcripts must have in common. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/client.h"

static void on_prompt(void *user, uint32_t choice, const struct msg_prompt *p) {
    struct transcript *t = &((struct client *)user)->got[choice];
    PROMISE(p->first == t->n_prompt + 1, "prompt token %u after %u", p->first, t->n_prompt);
    for (uint32_t i = 0; i < p->n; i++)
        t->prompt[t->n_prompt++] = p->logprobs[i];
}

static void on_text(void *user, uint32_t choice, const char *text, size_t n,
                    const struct request_token *tokens, uint32_t n_tokens) {
    struct client *c = user;
    struct transcript *t = &c->got[choice];
    PROMISE(c->submitted && !c->gone && !c->ends && !t->ends && !c->waits,
            "text for request %lu when there may be none", c->id);
    PROMISE(!buffer_append(&t->text, text, n), "no memory");
    for (uint32_t i = 0; i < n_tokens; i++) {
        struct said s = {0};
        s.token = tokens[i].token;
        s.logprob = tokens[i].logprob;
        s.n_top = tokens[i].n_top;
        s.text_offset = tokens[i].text_offset;
        PROMISE(s.n_top <= TOPS, "%u tops", s.n_top);
        for (uint32_t k = 0; k < s.n_top; k++)
            s.top[k] = tokens[i].top[k];
        PROMISE(!buffer_append(&t->tokens, &s, sizeof s), "no memory");
    }
    if (c->stays && --c->stays == 0 && !c->alone) {
        c->gone = true;
        request_abandon(c->request);
    }
}

static void on_choice_end(void *user, uint32_t choice, const struct request_end *end) {
    struct client *c = user;
    struct transcript *t = &c->got[choice];
    PROMISE(c->submitted && !c->gone && !c->ends, "an end for request %lu after its end", c->id);
    t->ends++;
    t->finish = end->finish;
    t->stop_token = end->stop_token;
    t->truncated = end->truncated;
    t->error = end->error;
    t->completion_tokens = end->usage.completion_tokens;
    snprintf(t->stop_word, sizeof t->stop_word, "%s",
             end->finish == FINISH_WORD ? end->stop_word : "");
    snprintf(t->error_text, sizeof t->error_text, "%s",
             end->finish == FINISH_ERROR && end->error_text ? end->error_text : "");
    trace("request %lu.%u ends: %d %s%s", c->id, choice, t->finish, t->stop_word, t->error_text);
}

static void on_end(void *user) {
    ((struct client *)user)->ends++;
}

static void on_waiting(void *user, bool waiting) {
    struct client *c = user;
    PROMISE(c->waits != waiting && !c->gone, "request %lu is told twice that it waits", c->id);
    c->waits = waiting;
}

const struct request_events transcript_events = {.prompt = on_prompt,
                                                 .text = on_text,
                                                 .choice_end = on_choice_end,
                                                 .end = on_end,
                                                 .waiting = on_waiting};

/* The half of a character that an interruption leaves goes out as U+FFFD. */
static size_t without_half(const struct buffer *text) {
    return text->n >= 3 && !memcmp(text->bytes + text->n - 3, "\xEF\xBF\xBD", 3) ? text->n - 3
                                                                                 : text->n;
}

static size_t less(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Of an interrupted request, what was said is the beginning of what it would have been; and so may
 * be the beginning of the stop string that was held back. */
static void check_part(const struct client *c, uint32_t choice) {
    const struct transcript *got = &c->got[choice], *want = &c->want[choice];
    const size_t n = without_half(&got->text), of_text = less(n, want->text.n);
    const size_t of_tokens = less(got->tokens.n, want->tokens.n);
    PROMISE(n - of_text <= strlen(want->stop_word) &&
                (!n || !memcmp(got->text.bytes, want->text.bytes, of_text)) &&
                (n == of_text || !memcmp(got->text.bytes + of_text, want->stop_word, n - of_text)),
            "request %lu.%u: another text: \"%.*s\", undisturbed \"%.*s\"", c->id, choice,
            (int)got->text.n, got->text.bytes, (int)want->text.n, want->text.bytes);
    PROMISE(!of_tokens || !memcmp(got->tokens.bytes, want->tokens.bytes, of_tokens),
            "request %lu.%u: other tokens or log-probabilities", c->id, choice);
    PROMISE(got->tokens.n == of_tokens || want->finish == FINISH_WORD,
            "request %lu.%u: more tokens than undisturbed", c->id, choice);
    PROMISE(got->n_prompt <= want->n_prompt &&
                !memcmp(got->prompt, want->prompt, got->n_prompt * sizeof *got->prompt),
            "request %lu.%u: other log-probabilities of the prompt", c->id, choice);
}

static void check_whole(const struct client *c, uint32_t choice) {
    const struct transcript *got = &c->got[choice], *want = &c->want[choice];
    PROMISE(got->text.n == want->text.n && got->tokens.n == want->tokens.n &&
                (!got->text.n || !memcmp(got->text.bytes, want->text.bytes, got->text.n)) &&
                got->n_prompt == want->n_prompt &&
                got->completion_tokens == want->completion_tokens,
            "request %lu.%u: %zu bytes, %u tokens, undisturbed %zu, %u", c->id, choice, got->text.n,
            got->completion_tokens, want->text.n, want->completion_tokens);
}

static void check_end(const struct client *c, uint32_t choice) {
    const struct transcript *got = &c->got[choice], *want = &c->want[choice];
    PROMISE(got->finish == want->finish && got->truncated == want->truncated &&
                (got->finish != FINISH_STOP || got->stop_token == want->stop_token) &&
                !strcmp(got->stop_word, want->stop_word),
            "request %lu.%u ends with %d (token %d, '%s%s'), undisturbed with %d (token %d, '%s')",
            c->id, choice, got->finish, got->stop_token, got->stop_word, got->error_text,
            want->finish, want->stop_token, want->stop_word);
}

static void check_error(const struct client *c, uint32_t choice) {
    const struct transcript *got = &c->got[choice];
    char name[32];
    snprintf(name, sizeof name, "req-%lu was running when 3", c->id);
    PROMISE(c->poisons && got->error == -EIO && !strncmp(got->error_text, name, strlen(name)),
            "request %lu.%u fails: %d, %s", c->id, choice, got->error, got->error_text);
}

void client_check(const struct client *c) {
    PROMISE(c->submitted, "a client never came");
    PROMISE(c->gone || c->ends == 1, "request %lu has ended %u times", c->id, c->ends);
    for (uint32_t i = 0; i < c->spec.n; i++) {
        const enum finish finish = c->got[i].finish;
        const bool whole =
            finish != FINISH_NONE && finish != FINISH_CANCELLED && finish != FINISH_ERROR;
        PROMISE(c->gone ? c->got[i].ends <= 1 : c->got[i].ends == 1,
                "request %lu.%u has ended %u times", c->id, i, c->got[i].ends);
        PROMISE(finish != FINISH_CANCELLED || c->cancelled,
                "request %lu.%u was cancelled by nobody", c->id, i);
        if (c->disturbed)
            continue;
        check_part(c, i);
        if (whole) {
            check_whole(c, i);
            check_end(c, i);
        } else if (finish == FINISH_ERROR) {
            check_error(c, i);
        }
        PROMISE(!c->poisons || !whole, "an engine computed poison: request %lu.%u", c->id, i);
    }
}
