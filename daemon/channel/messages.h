/* SPDX-License-Identifier: Apache-2.0 */
/* messages.h - everything octarcd (the front) and octarc-engine say to each other, on one screen.
 *
 * A stream socket carries frames: u32 length of the payload, u16 type, u16 zero, payload; all
 * little-endian, fields in the order written here, strings and arrays with a u32 count before
 * them.  Descriptors travel with SETUP (SCM_RIGHTS: the checksums of the model's tensors, its
 * files, copies of their headers, then the weight memory of each card that has some: a memfd, or
 * what READY brought; the same of K and V, with the ledger of their pages), with REPLAN (those
 * memfds) and READY (what the front is to hold of the memory of real cards); a request never
 * carries one.  No message holds a pointer.  A frame longer than CHANNEL_FRAME_MAX, an unknown
 * type, a payload that is too short or too long ends the generation: both sides are the same build.
 *
 *   front -> engine                        engine -> front
 *   HELLO  version                         HELLO     version, pid
 *   SETUP  generation, plan, options       PROGRESS  done, total bytes
 *   ADMIT  a sequence to run               READY     actual bytes | FAILED errno, text, cards
 *   CANCEL sequence                        TOKEN     generation, sequence, position, token …
 *   LOSE   card (drill)                    PROMPT    log-probabilities of a prompt's tokens
 *   HANG   card (drill)                    FENCED    cards that were silent in a step
 *   REPLAN number, plan to go over to      END       sequence, reason, counts
 *   MEASURE what the machine can do        REPLANNED number, actual bytes | errno, text
 *   VERIFY number, card or all             CREDIT    free sequences, free KV pages
 *   CORRUPT card (drill)                   PREEMPTED sequence: the front replays it later
 *   PRESSED give back, put off             LOST      card
 *   YIELD  to another generation           LIMITS    what MEASURE found, when nothing ran
 *   STOP   end in good order               HARMED    a range that was not whole, and is again
 *                                          VERIFIED  number, what was found on each card
 *                                          TRIED     cards and links that cannot be used, and why
 *
 * Encoding and decoding are pure functions over bytes (codec.h); daemon/channel/stream.h moves the
 * frames and descriptors. */
#ifndef OCTARC_CHANNEL_MESSAGES_H
#define OCTARC_CHANNEL_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/placement/plan.h"
#include "daemon/util/identity.h"
#include "models/gguf.h"

#define CHANNEL_VERSION   15u
#define CHANNEL_FRAME_MAX (64u << 20) /* bytes of a payload */
#define LOGIT_BIAS_MAX    1024u       /* entries of a request */
#define EOG_MAX           64u
#define TRIED_WHY_MAX     96u  /* bytes of a reason in TRIED, with the NUL */
#define TENSOR_NAME_MAX   128u /* bytes of a name in HARMED, with the NUL */

enum message_type {
    MSG_HELLO = 1,
    MSG_SETUP,
    MSG_ADMIT,
    MSG_CANCEL,
    MSG_LOSE,
    MSG_STOP,
    MSG_PROGRESS,
    MSG_READY,
    MSG_FAILED,
    MSG_TOKEN,
    MSG_PROMPT,
    MSG_END,
    MSG_CREDIT,
    MSG_PREEMPTED,
    MSG_LOST,
    MSG_MEASURE,
    MSG_LIMITS,
    MSG_REPLAN,
    MSG_REPLANNED,
    MSG_VERIFY,
    MSG_CORRUPT,
    MSG_HARMED,
    MSG_VERIFIED,
    MSG_HANG,
    MSG_FENCED,
    MSG_PRESSED,
    MSG_TRIED,
    MSG_YIELD,
};

struct msg_hello {
    uint32_t version;
    uint32_t pid;
};

struct msg_setup {
    uint64_t generation;
    char backend[16];
    char model_name[256];      /* the first file's path, for messages only */
    uint32_t n_parts;          /* files of the model, 1 to GGUF_PARTS_MAX */
    struct file_identity file; /* of them as one, as the front opened them */
    uint32_t n_threads;
    bool pin;
    uint32_t isa; /* enum instruction_set */
    bool isolate;
    uint32_t n_eog;
    int32_t eog[EOG_MAX]; /* tokens that end a sequence */
    bool log_content;
    char slots[CARDS_MAX][16];  /* the cards' PCI addresses; empty: unknown, or simulated */
    uint32_t scrub_s;           /* in which every range is verified once, unasked; 0: never */
    uint32_t card_silence_s;    /* deadline of a step before one was measured */
    uint32_t staged[CARDS_MAX]; /* by reader, a bit for each owner whose memory it must not read */
    uint32_t storage;           /* enum device_storage */
    bool try_cards;             /* before they are opened: nobody knows what ended the one before */
    bool hold; /* the cards' weight memory is to be held by the front: READY brings it */
    /* Of the weight memory whose descriptors come along, piece by piece; 0: no more. */
    uint64_t memory_bytes[CARDS_MAX][DEVICE_PIECES_MAX];
    /* The same of each card's K and V, which come behind; and if there are some, their ledger's. */
    uint64_t kv_bytes[CARDS_MAX];
    bool beside; /* another one serves: load with what its steps leave of the cores, and YIELD */
    struct plan plan; /* decoded: owned, plan_finish() */
};

/* How the next token is drawn; all of it a function of the tokens so far and of the seed. */
struct sampling {
    float temperature;    /* 0: the largest logit, lowest id on a tie */
    uint32_t top_k;       /* 0: off */
    float top_p;          /* 1: off */
    float min_p;          /* 0: off */
    float repeat_penalty; /* 1: off; divides positive, multiplies negative logits */
    float frequency_penalty, presence_penalty; /* 0: off */
    int32_t penalty_last_n; /* tokens looked back on; -1: the whole context; 0: off */
    uint64_t seed;
    uint32_t choice; /* of the request's n; part of the random number's key */
    uint32_t min_keep;
    bool ignore_eos;
    uint32_t n_bias;
    struct logit_bias {
        int32_t token;
        float bias; /* added; -INFINITY forbids */
    } * bias;       /* owned when decoded */
};

struct msg_admit {
    uint64_t sequence; /* never reused */
    uint32_t uid;      /* prefix pages are shared inside a uid only */
    int32_t *tokens;   /* prompt, then what was generated before (a replay); owned when decoded */
    uint32_t n_tokens;
    uint32_t n_prompt;    /* of these, the prompt; the rest is a replay and is not sent again */
    uint32_t max_tokens;  /* to generate in all, replayed ones included; 0: the prompt only */
    uint32_t n_logprobs;  /* most likely tokens to report beside each one; 0: none */
    bool logprobs;        /* report the token's own log-probability */
    bool prompt_logprobs; /* send PROMPT with those of prompt tokens 1 .. n_prompt - 1 */
    bool cache_prompt;    /* look for, and leave, shared prefix pages */
    struct sampling sampling;
};

struct msg_cancel {
    uint64_t sequence;
};

struct msg_lose {
    uint32_t card;
};

/* The card stops at its next operation, for ever. */
struct msg_hang {
    uint32_t card;
};

/* Memory is short on the host, or not any more. */
struct msg_pressed {
    bool give_back; /* now, what is only kept for convenience */
    bool put_off;   /* from now on, the scrub and the order that is under way, if nothing is lost */
};

/* Another generation is at work beside this one, or is not any more: prompts are cut shorter. */
struct msg_yield {
    bool on;
};

struct msg_progress {
    uint64_t done_bytes, total_bytes;
};

struct msg_ready {
    uint64_t generation;
    uint32_t n_cards;
    struct ready_card {
        uint64_t weights_bytes, kv_bytes, scratch_bytes, landing_bytes;
        int64_t huge_bytes;    /* of the weights, on huge pages; -1: not known */
        uint64_t copied_bytes; /* of the weights, from the cards of the plan before */
        uint64_t kept_bytes;   /* of its weights: were there, and whole; weights_bytes: all */
        uint64_t held_bytes[DEVICE_PIECES_MAX]; /* the same of what is to be held */
        uint64_t held_kv_bytes; /* the same of its K and V; where a card has some their ledger is
                                 * the last */
        uint64_t advised_bytes, prefetched_bytes;
        int64_t resident_bytes; /* of those prefetched, at home then; -1: cannot be told */
        uint32_t misread;       /* a bit for each card of whose memory it reads wrong bytes */
    } cards[CARDS_MAX];
    bool svm;                             /* weights lie in shared virtual memory … */
    char storage_why[DEVICE_STORAGE_WHY]; /* … or do not, though they might, in words */
    char unheld_why[DEVICE_STORAGE_WHY];  /* a card's memory ends with this engine, and why */
    uint64_t kept_tokens; /* K and V that came with SETUP: of so many, in whole pages, they are used
                           * … */
    char unkept_why[DEVICE_STORAGE_WHY]; /* … or of none, or they will not outlive it, and why */
    bool xmx; /* quantised types are multiplied by the matrix engines of all cards … */
    char xmx_why[DEVICE_XMX_WHY]; /* … or of one of them not, in words */
    bool native; /* the kernels of all cards are images that were made beforehand … */
    char native_why[DEVICE_NATIVE_WHY]; /* … or of one of them not, in words */
};

/* Go over to another plan of the same model, context and pages while steps run.  A later one takes
 * the place of one that is under way. */
struct msg_replan {
    uint64_t number;      /* of the front's orders */
    bool keep;            /* carry K and V over, where that can be done */
    uint64_t stage_bytes; /* of host memory, in which what is new on full cards may wait */
    struct plan plan;     /* decoded: owned */
};

/* Error 0: steps run on the plan of that number from now on, and all cards that it does not name
 * are let go; where K and V were not kept, PREEMPTED of every sequence came before.  Else the plan
 * before stays in use. */
struct msg_replanned {
    uint64_t generation, number;
    int32_t error;
    char text[512];
    bool kept;
    uint64_t kv_bytes;             /* carried over */
    uint64_t load_ns;              /* until the weights were there */
    uint64_t gap_ns, gap_kv_bytes; /* the last slice, while no step ran */
    struct msg_ready ready;        /* as READY says it */
};

struct msg_failed {
    int32_t error; /* negative errno */
    char text[512];
    uint32_t lost; /* bit per card: it failed for these, which cannot be used; 0: for none */
};

struct token_logprob {
    int32_t token;
    float logprob; /* natural logarithm; of the distribution before sampling changes it */
};

struct msg_token {
    uint64_t generation, sequence;
    uint32_t position; /* of the token in the sequence: n_prompt for the first one generated */
    int32_t token;
    float logprob; /* 0 unless asked for */
    uint32_t n_top;
    struct token_logprob *top; /* descending, ties by id; owned when decoded */
};

struct msg_prompt {
    uint64_t generation, sequence;
    uint32_t first; /* position of entry 0 */
    uint32_t n;
    float *logprobs;           /* of the prompt token at that position, given those before; owned */
    uint32_t n_top;            /* entries of top per token */
    struct token_logprob *top; /* [n][n_top]; owned */
};

enum end_reason {
    END_EOG,       /* the model drew an end-of-generation token (not sent as TOKEN) */
    END_LENGTH,    /* max_tokens */
    END_CONTEXT,   /* the context is full */
    END_CANCELLED, /* as asked */
    END_ERROR,     /* text says why; the request fails */
};

struct msg_end {
    uint64_t generation, sequence;
    uint32_t reason;   /* enum end_reason */
    int32_t token;     /* END_EOG: which one */
    uint32_t n_cached; /* prompt tokens taken from shared pages */
    uint64_t prompt_ns, predict_ns;
    char text[256];
};

struct msg_credit {
    uint32_t free_sequences; /* that ADMIT may use now */
    uint32_t free_pages, n_pages;
    uint32_t running, waiting; /* sequences inside the engine */
    uint64_t steps, rows;      /* since the start */
    struct link_bytes carried; /* since the start; zeros do not travel */
    struct fetch_counts fetched;
};

struct msg_preempted {
    uint64_t generation, sequence;
};

struct msg_lost {
    uint64_t generation;
    uint32_t card;
};

/* Verify the weights in use as fast as the steps allow; VERIFIED of that number answers. */
struct msg_verify {
    uint64_t number; /* not 0 */
    int32_t card;    /* -1: all */
};

/* A drill: bits of a range in use flip between two steps.  As memory with ECC does, the card says
 * so, unless it is silent. */
struct msg_corrupt {
    uint32_t card;
    bool silent;
};

/* A range was not what its digest says, and is again: it was read from the file. */
struct msg_harmed {
    uint64_t generation;
    uint32_t card;
    char tensor[TENSOR_NAME_MAX];
    uint64_t row_begin, row_end, col_begin, col_end;
    uint64_t bytes;   /* in the card's memory */
    uint64_t age_ns;  /* since it was last known whole, before */
    uint64_t read_ns; /* that reading it again took, while no step ran */
};

enum verify_cause {
    VERIFY_ASKED,    /* by VERIFY */
    VERIFY_REPORTED, /* the card, or a harmed range on it, asked for it; steps waited */
    VERIFY_SCRUB,    /* its time had come */
};

/* A pass over the weights is over.  Where it found harm (not VERIFY_ASKED: the cards with harm
 * have a VERIFY_REPORTED of their own), PREEMPTED of every sequence came before. */
struct msg_verified {
    uint64_t generation, number; /* 0 unless VERIFY_ASKED */
    uint32_t cause;              /* enum verify_cause */
    uint32_t n_cards;
    struct verified_card {
        uint32_t ranges; /* verified; 0: the card was none of this pass */
        uint32_t harmed, repaired;
        uint64_t bytes, ns; /* verified, and how long that took by itself */
    } cards[CARDS_MAX];
};

/* The engine's thread waits for them and will not be heard any more. */
struct msg_fenced {
    uint64_t generation;
    uint32_t cards; /* bit per card */
    uint64_t deadline_ns;
};

/* Instead of READY or FAILED: the plan cannot be carried out with these. */
struct msg_tried {
    uint64_t generation;
    uint32_t cards;            /* bit per card */
    uint32_t memory;           /* bit per card that does not take over what it had before */
    uint32_t links[CARDS_MAX]; /* by reader, a bit for each owner whose memory it cannot read */
    char why[CARDS_MAX][TRIED_WHY_MAX]; /* the card, or its latest link */
};

struct msg_limits {
    uint64_t generation;
    int32_t error; /* 0, or a negative errno and no values */
    uint64_t read_bytes_per_s, int8_ops_per_s, weights_bytes;
    int64_t huge_bytes; /* of weights_bytes, on huge pages; -1: not known */
    uint32_t n_threads;
    char isa[16];
};

#endif
