/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.h - text to token ids and back, as the model file says.
 *
 * Threads: a made tokenizer is read-only; encode and piece may run on any thread at once.
 * Ownership: results named `**` are the caller's, free() them. */
#ifndef OCTARC_MODELS_TOKENIZER_TOKENIZER_H
#define OCTARC_MODELS_TOKENIZER_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct gguf;
struct tokenizer;

#define TOKENIZER_TEXT_MAX (16u << 20) /* bytes of one text; more is -E2BIG */

enum {
    ENCODE_SPECIAL = 1, /* add BOS/EOS where the model asks for them */
    ENCODE_PARSE = 2,   /* text that spells a control token becomes that token */
};

/* -EINVAL, -ENOTSUP (tokenizer model or pre-tokenizer not known; err lists the known ones),
 * -ENOMEM.  A spelling that two tokens have, ids out of range, scores or types of another number,
 * merges that are not of two tokens are -EINVAL, with the index; a byte that a byte-level
 * vocabulary has no token for, with the byte (control
 * characters and what hardly any text holds may lack).  A token of no spelling (files do have such
 * holes) is one that no text becomes. */
int tokenizer_create(struct tokenizer **tokenizer, const struct gguf *gguf, struct err *err);
void tokenizer_destroy(struct tokenizer *tokenizer);

uint32_t tokenizer_n_vocab(const struct tokenizer *tokenizer);
/* Whether it is a byte-level BPE ("gpt2"); else it is SentencePiece's kind ("llama"), or WordPiece
 * ("bert"), whose tokens do not tell the text's capitals, accents and white space. */
bool tokenizer_is_byte_level(const struct tokenizer *tokenizer);
int32_t tokenizer_bos(const struct tokenizer *tokenizer); /* -1: none */
int32_t tokenizer_eos(const struct tokenizer *tokenizer); /* -1: none */
bool tokenizer_adds_bos(const struct tokenizer *tokenizer);
/* Ids that end a generation (eos, eot, eom, and control tokens named like them), ascending. */
const int32_t *tokenizer_eogs(const struct tokenizer *tokenizer, size_t *n);

/* `text` is UTF-8 of n bytes, may hold NUL; invalid sequences are encoded byte by byte, bytes
 * that the vocabulary lacks as U+FFFD (byte-level) or the unknown token (SPM); WordPiece leaves
 * invalid sequences out.
 * -E2BIG, -ENOMEM. */
int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t n, unsigned flags,
                     int32_t **ids, size_t *n_ids, struct err *err);

/* The bytes of one token, as it appears in text (not always whole UTF-8).  Unused tokens, which
 * only fill the vocabulary up, are empty, and control tokens unless `control`.  The bytes belong to
 * the tokenizer.  -EINVAL when id is not of the vocabulary.
 */
int tokenizer_piece(const struct tokenizer *tokenizer, int32_t id, bool control, const char **bytes,
                    size_t *n);
bool tokenizer_is_control(const struct tokenizer *tokenizer, int32_t id);

/* The bytes of a run of tokens.  Differs from joined pieces only where the model drops a leading
 * space (SPM).  -EINVAL names the id that is not of the vocabulary. */
int tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t n_ids,
                     bool control, char **text, size_t *n, struct err *err);

#endif
