/* SPDX-License-Identifier: Apache-2.0 */
/* bpe.h - inside tokenizer: byte-level byte-pair encoding with a table of ranked merges. */
#ifndef OCTARC_MODELS_TOKENIZER_BPE_H
#define OCTARC_MODELS_TOKENIZER_BPE_H

#include "models/tokenizer/merge.h"
#include "models/tokenizer/split.h"
#include "models/tokenizer/vocab.h"

struct ids { /* grows; owned by whoever holds it */
    int32_t *at;
    size_t n, capacity;
};
int ids_add(struct ids *ids, int32_t id);

struct bpe {
    struct splitter *splitter;
    struct merge_slot *slots; /* owned: what two tokens become, by their ids */
    uint32_t n_slots;
    int32_t byte_id[256];   /* of text: NO_TOKEN where no merge can begin with it */
    uint8_t joins[256][32]; /* bits: a merge puts such a byte before such another */
};

/* -EINVAL names the merge that is not two tokens of the vocabulary. */
int bpe_init(struct bpe *bpe, const struct vocab *vocab, const struct gguf *gguf, struct err *err);
void bpe_finish(struct bpe *bpe);
/* Memory for one text, however many parts it is encoded in. */
struct bpe_work {
    struct cutter cutter;
    struct merger merger;
};

int bpe_work_init(struct bpe_work *work, const struct bpe *bpe); /* -ENOMEM */
void bpe_work_finish(struct bpe_work *work);                     /* zeroed is fine */

/* Text without control tokens; valid UTF-8 is cut into words, other bytes are encoded one by one.
 */
int bpe_encode(const struct bpe *bpe, const struct vocab *vocab, struct bpe_work *work,
               const char *text, size_t n, struct ids *ids);

#endif
