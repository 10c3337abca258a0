#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tiny random models and computes, independently of octarc, what they must answer.

    make_tiny.py DIR            write the models into DIR; their sha256 must be those of tiny.json
    make_tiny.py --check        write them to a temporary folder, compute everything again, compare
    make_tiny.py --reference    the same, and write tiny.json
    make_tiny.py --verify GGUF JSON
                                compare the forward pass with another engine's figures;
                                --gelu-table: where that looks GELU up in a table of half floats

Needs Python 3.9 and nothing else.  The figures are of forward_pass.py.

tiny.json holds, for every model and prompt: `tokens` (ids), `first_logits` (after the last prompt
token), `prompt_logprobs` (of tokens 1.. given those before), `greedy` (the next ids, argmax, lowest
on a tie) and `gaps` (top-1 minus top-2 logit of each of those steps).  Figures are rounded to six
decimals.
"""
import argparse
import hashlib
import json
import math
import os
import random
import re
import struct
import sys
import tempfile

from forward_pass import Model
from gguf_file import ARRAY, BOOL, F32, I32, STRING, TYPES, U32, pad

HERE = os.path.dirname(os.path.abspath(__file__))
REFERENCE = os.path.join(HERE, "tiny.json")
STEPS = 12
TOLERANCE = 5e-6  # of figures rounded to six decimals, summed in another order by another Python

# --- Vocabulary: the 256 bytes, a few merges, control tokens ---------------------------------------

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = """Ġ t|h e|Ġ a|Ġt he|i n|e r|o n|Ġ s|r e|a t|e n|Ġ w|o r|Ġ c|i s|Ġ o|n d|e s|i t|a r|Ġs t
in g|Ġa nd|Ġo f|l l|o u|e d|Ġ p|Ġ f|Ġ b|h a""".replace("\n", "|").split("|")
TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
            "message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
SPLIT = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[^\sA-Za-z0-9]+|[0-9]|\s+(?!\S)|\s+")

PROMPTS = [
    "The cat sat on the mat and",
    "<|im_start|>user\nSay 1 + 2 = 3.<|im_end|>\n<|im_start|>assistant\n",
    "It's raining; we're reading the rest of this story in the kitchen, and the others are asleep",
]
LONG = " ".join("the %s of the %s is at %d" % (a, b, i) for i, (a, b) in enumerate(
    [("edge", "water"), ("rest", "thing"), ("heart", "stone"), ("colour", "sand"), ("end", "list"),
     ("power", "engine"), ("start", "war"), ("list", "beds"), ("fall", "wall"), ("point", "trip"),
     ("fire", "forest"), ("best", "part"), ("taste", "bread"), ("order", "states"), ("area", "hall"), ("tone", "bell"),
     ("shore", "island"), ("test", "steel"), ("hand", "clock")]))


def byte_letters():
    """The printable letter that stands for each byte in byte-level BPE vocabularies."""
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters, spare = {}, 256
    for byte in range(256):
        if byte in plain:
            letters[byte] = chr(byte)
        else:
            letters[byte] = chr(spare)
            spare += 1
    return letters


LETTERS = byte_letters()
TOKENS = CONTROL + [LETTERS[b] for b in range(256)] + [m.replace(" ", "") for m in MERGES]
IDS = {token: i for i, token in enumerate(TOKENS)}


def encode_word(word):
    parts = [LETTERS[b] for b in word.encode()]
    rank = {tuple(m.split(" ")): i for i, m in enumerate(MERGES)}
    while True:
        found = min((rank.get(pair, len(rank)), i) for i, pair in enumerate(zip(parts, parts[1:]))
                    ) if len(parts) > 1 else (len(rank), 0)
        if found[0] == len(rank):
            return [IDS[p] for p in parts]
        parts[found[1]:found[1] + 2] = [parts[found[1]] + parts[found[1] + 1]]


def encode(text):
    """ASCII text, control tokens parsed, digits one by one."""
    ids = []
    for piece in re.split("(" + "|".join(map(re.escape, CONTROL)) + ")", text):
        if piece in CONTROL:
            ids.append(IDS[piece])
            continue
        for stretch in re.findall("[0-9]|[^0-9]+", piece):
            for word in SPLIT.findall(stretch):
                ids += encode_word(word)
    return ids


# --- Random tensors, as the bytes of their type ----------------------------------------------------

def half(x):
    return struct.pack("<e", x)


def encode_values(kind, values):
    if kind == "F32":
        return struct.pack("<%df" % len(values), *values)
    if kind == "F16":
        return struct.pack("<%de" % len(values), *values)
    return b"".join(struct.pack("<f", v)[2:] for v in values)  # BF16, rounded towards zero


def random_block(rng, kind, spread):
    """Random bits with scales that give values of about `spread` standard deviation."""
    d = spread * (0.5 + rng.random())
    if kind == "Q4_0":
        return half(d / 4.6) + rng.randbytes(16)
    if kind == "Q4_1":
        return half(d / 4.6) + half(-d / 4.6 * (6.5 + 2 * rng.random())) + rng.randbytes(16)
    if kind == "Q8_0":
        return half(d / 74) + rng.randbytes(32)
    if kind == "MXFP4":
        return bytes([128 + round(math.log2(d / 5.85))]) + rng.randbytes(16)
    if kind == "Q6_K":
        scales = bytes((rng.randrange(60, 121) * rng.choice((1, -1))) & 255 for _ in range(16))
        return rng.randbytes(192) + scales + half(d / 18.5 / 90)
    return BLOCKS[kind](rng.randbytes, d)


# Of the other types: how random bits and a deviation become a block.
BLOCKS = {
    "Q5_0": lambda bits, d: half(d / 9.2) + bits(20),
    "Q5_1": lambda bits, d: half(d / 9.2) + half(-d / 9.2 * 15.5) + bits(20),
    "Q2_K": lambda bits, d: bits(80) + half(d / 9.7) + half(d / 6.5),
    "Q3_K": lambda bits, d: bits(108) + half(d / 41),
    "Q4_K": lambda bits, d: half(d / 170) + half(d / 23) + bits(140),
    "Q5_K": lambda bits, d: half(d / 340) + half(d / 22) + bits(172),
    "IQ4_NL": lambda bits, d: half(d / 65) + bits(16),
    "IQ4_XS": lambda bits, d: half(d / 65 / 18.5) + bits(134),
}


def random_tensor(rng, kind, rows, cols, spread):
    _, block, _ = TYPES[kind]
    if block == 1:
        edge = spread * math.sqrt(3)
        return encode_values(kind, [edge * (2 * rng.random() - 1) for _ in range(rows * cols)])
    return b"".join(random_block(rng, kind, spread) for _ in range(rows * cols // block))


# --- The models ------------------------------------------------------------------------------------

YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0,
        "rope.scaling.original_context_length": 64}

MODELS = [
    {"file": "tiny-f32.gguf", "seed": 113, "layers": 3, "embd": 64, "heads": 4, "kv": 2,
     "head_dim": 16, "ff": 160, "base": 10000.0, "tied": False, "types": {},
     "prompts": PROMPTS + [LONG]},
    {"file": "tiny-mixed.gguf", "seed": 13, "layers": 2, "embd": 256, "heads": 8, "kv": 2,
     "head_dim": 32, "ff": 512, "base": 100000.0, "tied": True, "prompts": PROMPTS,
     "types": {"token_embd": "Q8_0",
               "blk.0.attn_q": "Q4_0", "blk.0.attn_k": "Q8_0", "blk.0.attn_v": "Q6_K",
               "blk.0.attn_output": "Q4_1", "blk.0.ffn_gate": "Q4_1", "blk.0.ffn_up": "Q4_0",
               "blk.0.ffn_down": "Q6_K",
               "blk.1.attn_q": "BF16", "blk.1.attn_k": "F16", "blk.1.attn_v": "Q4_1",
               "blk.1.attn_output": "Q8_0", "blk.1.ffn_gate": "F16", "blk.1.ffn_up": "Q6_K",
               "blk.1.ffn_down": "Q4_0"}},
    {"file": "tiny-qwen2.gguf", "arch": "qwen2", "seed": 29, "layers": 2, "embd": 96, "heads": 6,
     "kv": 2, "head_dim": 16, "ff": 224, "base": 1000000.0, "tied": True, "prompts": PROMPTS,
     "types": {"token_embd": "Q4_1", "blk.0.attn_q": "Q8_0", "blk.1.ffn_down": "Q8_0"}},
    {"file": "tiny-qwen3.gguf", "arch": "qwen3", "seed": 31, "layers": 2, "embd": 64, "heads": 4,
     "kv": 2, "head_dim": 32, "ff": 192, "base": 1000000.0, "tied": False, "prompts": PROMPTS,
     "types": {"blk.0.attn_k": "Q8_0", "blk.1.ffn_gate": "Q4_0"}},
    {"file": "tiny-gemma3.gguf", "arch": "gemma3", "seed": 37, "layers": 7, "embd": 64, "heads": 4,
     "kv": 1, "head_dim": 32, "ff": 160, "base": 1000000.0, "tied": True, "types": {},
     "keys": {"attention.sliding_window": 20}, "prompts": PROMPTS + [LONG]},
    {"file": "tiny-gemma2.gguf", "arch": "gemma2", "seed": 41, "layers": 4, "embd": 64, "heads": 4,
     "kv": 2, "head_dim": 16, "ff": 160, "base": 10000.0, "tied": True, "types": {},
     "keys": {"attention.sliding_window": 9, "attn_logit_softcapping": 2.5,
              "final_logit_softcapping": 8.0}, "prompts": PROMPTS + [LONG]},
    {"file": "tiny-fused.gguf", "arch": "phi3", "seed": 43, "layers": 2, "embd": 96, "heads": 6,
     "kv": 2, "head_dim": 16, "rot": 12, "ff": 224, "base": 10000.0, "tied": False,
     "keys": {"rope.scaling.original_context_length": 64, "rope.scaling.attn_factor": 1.1},
     "types": {"blk.0.attn_qkv": "Q8_0", "blk.1.ffn_up": "Q4_0"}, "prompts": PROMPTS},
    {"file": "tiny-mistral3.gguf", "arch": "mistral3", "seed": 47, "layers": 2, "embd": 64,
     "heads": 4, "kv": 2, "head_dim": 32, "ff": 160, "base": 10000.0, "tied": False, "types": {},
     "keys": {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0,
              "rope.scaling.original_context_length": 32,
              "rope.scaling.yarn_log_multiplier": 1.0, "attention.temperature_scale": 0.5},
     "prompts": PROMPTS + [LONG]},
    # Nothing is rounded to 8 bits before a router, so that it chooses what the reference does.
    {"file": "tiny-qwen3moe.gguf", "arch": "qwen3moe", "seed": 51, "layers": 2, "embd": 64,
     "heads": 4, "kv": 2, "head_dim": 32, "ff": 96, "base": 1000000.0, "tied": False,
     "experts": 13, "keys": {"expert_count": 13, "expert_used_count": 3,
                             "expert_feed_forward_length": 64},
     "types": {"blk.1.ffn_gate_exps": "Q8_0", "blk.1.ffn_up_exps": "Q4_0",
               "blk.1.ffn_down_exps": "Q4_1", "output": "Q8_0"}, "prompts": PROMPTS},
    {"file": "tiny-mixtral.gguf", "seed": 73, "layers": 3, "embd": 64, "heads": 4, "kv": 2,
     "head_dim": 16, "ff": 48, "base": 10000.0, "tied": False, "experts": 5,
     "keys": {"expert_count": 5, "expert_used_count": 2}, "types": {}, "prompts": PROMPTS},
    {"file": "tiny-qwen2moe.gguf", "arch": "qwen2moe", "seed": 71, "layers": 2, "embd": 64,
     "heads": 4, "kv": 2, "head_dim": 16, "ff": 160, "base": 1000000.0, "tied": True,
     "experts": 4, "keys": {"expert_count": 4, "expert_used_count": 2,
                            "expert_feed_forward_length": 32,
                            "expert_shared_feed_forward_length": 96},
     "types": {"blk.1.ffn_up_exps": "Q8_0", "blk.1.ffn_down_exps": "Q4_0",
               "blk.1.ffn_gate_shexp": "Q4_1", "blk.1.ffn_down_shexp": "Q8_0"},
     "prompts": PROMPTS},
    {"file": "tiny-gpt-oss.gguf", "arch": "gpt-oss", "seed": 79, "layers": 4, "embd": 64,
     "heads": 4, "kv": 2, "head_dim": 16, "ff": 48, "base": 150000.0, "tied": False, "experts": 5,
     "keys": {"expert_count": 5, "expert_used_count": 2, "expert_feed_forward_length": 48,
              "attention.sliding_window": 9, **YARN}, "types": {}, "prompts": PROMPTS + [LONG]},
    {"file": "tiny-gpt-oss-mxfp4.gguf", "arch": "gpt-oss", "seed": 83, "layers": 2, "embd": 64,
     "heads": 6, "kv": 2, "head_dim": 32, "ff": 64, "base": 150000.0, "tied": False, "experts": 11,
     "keys": {"expert_count": 11, "expert_used_count": 4, "expert_feed_forward_length": 64,
              "attention.sliding_window": 20, **YARN},
     "types": {"blk.1.ffn_gate_exps": "MXFP4", "blk.1.ffn_up_exps": "MXFP4",
               "blk.1.ffn_down_exps": "MXFP4", "output": "Q8_0"}, "prompts": PROMPTS},
]

# With enough layers that some can stay in host memory, of sizes that differ.  What it computes on
# one large card is the reference for all else.
DEEP = {"file": "tiny-deep.gguf", "seed": 29, "layers": 11, "embd": 128, "heads": 4, "kv": 2,
        "head_dim": 32, "ff": 256, "base": 10000.0, "tied": False,
        "types": {"blk.%d.%s" % (layer, part): ("Q8_0", "Q4_0", "Q4_1")[layer % 3]
                  for layer in range(11)
                  for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up",
                               "ffn_down")}}

# Matrices of experts, of a shared one and of attention in every type that octarc reads; the router
# and the layers' norms are floats.  What the cpu backend computes is the reference for the others.
KINDS = ["F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL",
         "IQ4_XS", "BF16", "MXFP4", "F32"]
TYPED = {"file": "tiny-typed.gguf", "arch": "qwen2moe", "seed": 83, "layers": 8, "embd": 256,
         "heads": 4, "kv": 2, "head_dim": 64, "ff": 256, "base": 1000000.0, "tied": True,
         "experts": 3, "keys": {"expert_count": 3, "expert_used_count": 2,
                                "expert_feed_forward_length": 256,
                                "expert_shared_feed_forward_length": 256},
         "types": {"blk.%d.%s" % (layer, part): KINDS[(2 * layer + shift) % len(KINDS)]
                   for layer in range(8)
                   for part, shift in [("ffn_gate_exps", 0), ("ffn_up_exps", 0), ("ffn_down_exps", 1),
                                       ("ffn_gate_shexp", 1), ("ffn_up_shexp", 1), ("ffn_down_shexp", 0),
                                       ("attn_q", 5), ("attn_k", 8), ("attn_v", 9), ("attn_output", 4)]}}


def arch_of(m):
    return m.get("arch", "llama")


def tensors_of(m):
    """(name, type, rows, cols, bytes) in the order of the file; rows: 0 for a vector, (rows, n)
    for a matrix of each expert."""
    rng = random.Random(m["seed"])
    embd, q, kv, ff = m["embd"], m["heads"] * m["head_dim"], m["kv"] * m["head_dim"], m["ff"]

    def matrix(name, rows, cols, gain):
        kind = m["types"].get(name, "F32")
        data = random_tensor(rng, kind, rows, cols, gain / math.sqrt(cols))
        return name + ".weight", kind, rows, cols, data

    def stack(name, rows, cols, gain):
        name, kind, _, _, data = matrix(name, m["experts"] * rows, cols, gain)
        return name, kind, (rows, m["experts"]), cols, data

    def norm(name, n=embd):
        data = encode_values("F32", [0.5 + rng.random() for _ in range(n)])
        return name + ".weight", "F32", 0, n, data

    def bias(name, n, rows=0):
        data = encode_values("F32", [2 * rng.random() - 1 for _ in range(n * max(1, rows))])
        return name + ".bias", "F32", rows, n, data

    scaled = arch_of(m).startswith("gemma")  # a token's row, by sqrt(embd)
    yield matrix("token_embd", len(TOKENS), embd, 1.0 if scaled else 3.0)
    fused = arch_of(m) == "phi3"
    if fused:
        yield norm("rope_factors_short", m["rot"] // 2)
        yield norm("rope_factors_long", m["rot"] // 2)
    for i in range(m["layers"]):
        layer = "blk.%d." % i
        yield norm(layer + "attn_norm")
        if fused:
            yield matrix(layer + "attn_qkv", q + 2 * kv, embd, 1.5)
        else:
            yield matrix(layer + "attn_q", q, embd, 1.5)
            yield matrix(layer + "attn_k", kv, embd, 1.5)
            yield matrix(layer + "attn_v", kv, embd, 1.0)
        if arch_of(m) in ("qwen2", "qwen2moe", "gpt-oss"):
            yield bias(layer + "attn_q", q)
            yield bias(layer + "attn_k", kv)
            yield bias(layer + "attn_v", kv)
        if arch_of(m) in ("qwen3", "qwen3moe", "gemma3"):
            yield norm(layer + "attn_q_norm", m["head_dim"])
            yield norm(layer + "attn_k_norm", m["head_dim"])
        yield matrix(layer + "attn_output", embd, q, 1.5)
        if arch_of(m) == "gpt-oss":
            yield bias(layer + "attn_output", embd)
            yield norm(layer + "attn_sinks", m["heads"])
        if scaled:
            yield norm(layer + "post_attention_norm")
            yield norm(layer + "post_ffw_norm")
        yield norm(layer + ("post_attention_norm" if arch_of(m) == "gpt-oss" else "ffn_norm"))
        if "experts" in m:
            yield from expert_tensors(m, layer, matrix, stack)
            yield from expert_biases(m, layer, bias)
            continue
        if not fused:
            yield matrix(layer + "ffn_gate", ff, embd, 1.0)
        yield matrix(layer + "ffn_up", 2 * ff if fused else ff, embd, 1.0)
        yield matrix(layer + "ffn_down", embd, ff, 1.5)
    yield norm("output_norm")
    if not m["tied"]:
        yield matrix("output", len(TOKENS), embd, 3.0)


def expert_tensors(m, layer, matrix, stack):
    embd, ff = m["embd"], m["keys"].get("expert_feed_forward_length", m["ff"])
    limited = arch_of(m) == "gpt-oss"  # with values beyond the limits
    shared = m["keys"].get("expert_shared_feed_forward_length")
    yield matrix(layer + "ffn_gate_inp", m["experts"], embd, 2.0)
    yield stack(layer + "ffn_gate_exps", ff, embd, 5.0 if limited else 1.0)
    yield stack(layer + "ffn_up_exps", ff, embd, 5.0 if limited else 1.0)
    yield stack(layer + "ffn_down_exps", embd, ff, 0.1 if limited else 1.5)
    if shared:
        name, kind, _, cols, data = matrix(layer + "ffn_gate_inp_shexp", 1, embd, 1.0)
        yield name, kind, 0, cols, data
        yield matrix(layer + "ffn_gate_shexp", shared, embd, 1.0)
        yield matrix(layer + "ffn_up_shexp", shared, embd, 1.0)
        yield matrix(layer + "ffn_down_shexp", embd, shared, 1.5)


def expert_biases(m, layer, bias):
    if arch_of(m) != "gpt-oss":
        return
    n, embd, ff = m["experts"], m["embd"], m["keys"]["expert_feed_forward_length"]
    yield bias(layer + "ffn_gate_inp", n)
    yield bias(layer + "ffn_gate_exps", ff, n)
    yield bias(layer + "ffn_up_exps", ff, n)
    yield bias(layer + "ffn_down_exps", embd, n)


def string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def key(name, kind, value):
    return string(name) + struct.pack("<I", kind) + value


def array(name, kind, values):
    return key(name, ARRAY, struct.pack("<IQ", kind, len(values)) + b"".join(values))


def keys_of(m):
    def u32(name, value):
        return key(name, U32, struct.pack("<I", value))

    yield key("general.architecture", STRING, string(arch_of(m)))
    yield key("general.name", STRING, string(m["file"][:-5]))
    yield u32(arch_of(m) + ".block_count", m["layers"])
    yield u32(arch_of(m) + ".context_length", 512)
    yield u32(arch_of(m) + ".embedding_length", m["embd"])
    yield u32(arch_of(m) + ".feed_forward_length", m["ff"])
    yield u32(arch_of(m) + ".attention.head_count", m["heads"])
    yield u32(arch_of(m) + ".attention.head_count_kv", m["kv"])
    yield u32(arch_of(m) + ".attention.key_length", m["head_dim"])
    yield u32(arch_of(m) + ".attention.value_length", m["head_dim"])
    yield key(arch_of(m) + ".attention.layer_norm_rms_epsilon", F32, struct.pack("<f", 1e-5))
    yield key(arch_of(m) + ".rope.freq_base", F32, struct.pack("<f", m["base"]))
    yield u32(arch_of(m) + ".rope.dimension_count", m.get("rot", m["head_dim"]))
    yield u32(arch_of(m) + ".vocab_size", len(TOKENS))
    for name, value in m.get("keys", {}).items():
        kind, raw = ((STRING, string(value)) if isinstance(value, str) else
                     (F32, struct.pack("<f", value)) if isinstance(value, float) else
                     (U32, struct.pack("<I", value)))
        yield key(arch_of(m) + "." + name, kind, raw)
    yield key("tokenizer.ggml.model", STRING, string("gpt2"))
    yield key("tokenizer.ggml.pre", STRING, string("smollm"))
    yield array("tokenizer.ggml.tokens", STRING, [string(t) for t in TOKENS])
    yield array("tokenizer.ggml.token_type", I32,
                [struct.pack("<i", 3 if t in CONTROL else 1) for t in TOKENS])
    yield array("tokenizer.ggml.merges", STRING, [string(t) for t in MERGES])
    yield u32("tokenizer.ggml.bos_token_id", 1)
    yield u32("tokenizer.ggml.eos_token_id", 2)
    yield u32("tokenizer.ggml.unknown_token_id", 0)
    yield key("tokenizer.ggml.add_bos_token", BOOL, b"\0")
    yield key("tokenizer.chat_template", STRING, string(TEMPLATE))


def write_model(m, path):
    """Write the file; returns its sha256."""
    keys, infos, data = list(keys_of(m)), [], b""
    for name, kind, rows, cols, raw in tensors_of(m):
        dims = [cols, *rows] if isinstance(rows, tuple) else [cols, rows] if rows else [cols]
        infos.append(string(name) + struct.pack("<I%dQ" % len(dims), len(dims), *dims) +
                     struct.pack("<IQ", TYPES[kind][0], len(data)))
        data += raw + bytes(pad(len(raw)))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(keys)) + b"".join(keys + infos)
    whole = head + bytes(pad(len(head))) + data
    with open(path, "wb") as f:
        f.write(whole)
    return hashlib.sha256(whole).hexdigest()


def log_softmax(logits):
    top = max(logits)
    total = math.log(sum(math.exp(x - top) for x in logits))
    return [x - top - total for x in logits]


def run_case(model, prompt):
    tokens, cache = encode(prompt), model.empty_cache()
    rows = [model.step(t, cache) for t in tokens]
    case = {"prompt": prompt, "tokens": tokens, "first_logits": [round(x, 6) for x in rows[-1]],
            "prompt_logprobs": [round(log_softmax(row)[t], 6) for row, t in zip(rows, tokens[1:])],
            "greedy": [], "gaps": []}
    logits = rows[-1]
    for step in range(STEPS):
        best = max(range(len(logits)), key=lambda i: (logits[i], -i))
        second = max(x for i, x in enumerate(logits) if i != best)
        case["greedy"].append(best)
        case["gaps"].append(round(logits[best] - second, 6))
        if step + 1 < STEPS:
            logits = model.step(best, cache)
    return case


# --- Commands --------------------------------------------------------------------------------------

def compute(folder):
    made = {"format": 1, "models": []}
    for m in MODELS:
        path = os.path.join(folder, m["file"])
        digest = write_model(m, path)
        model = Model(path)
        cases = [run_case(model, p) for p in m["prompts"]]
        if any(i < len(CONTROL) for c in cases for i in c["greedy"]):
            sys.exit("%s: a greedy run holds a control token; choose another seed" % m["file"])
        made["models"].append({"file": m["file"], "sha256": digest, "n_vocab": len(TOKENS),
                               "cases": cases})
        print("%s: %d cases, smallest gap %.4f" % (m["file"], len(cases),
                                                   min(g for c in cases for g in c["gaps"])))
    return made


def difference(a, b):
    """The largest difference of two numbers at the same place; raises where shapes differ."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return max([difference(a[k], b[k]) for k in a], default=0)
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return max([difference(x, y) for x, y in zip(a, b)], default=0)
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b)
    if a != b:
        raise ValueError("%.60r is not %.60r" % (a, b))
    return 0


def load_reference():
    with open(REFERENCE) as f:
        return json.load(f)


def check():
    with tempfile.TemporaryDirectory() as folder:
        made = compute(folder)
    try:
        worst = difference(made, load_reference())
    except ValueError as e:
        sys.exit("tiny.json differs: %s" % e)
    if worst > TOLERANCE:
        sys.exit("tiny.json differs by %g" % worst)
    print("tiny.json agrees within %g" % worst)


def write_reference():
    with tempfile.TemporaryDirectory() as folder:
        made = compute(folder)
    with open(REFERENCE, "w") as f:
        json.dump(made, f, separators=(",", ":"))
        f.write("\n")


def write_models(folder):
    os.makedirs(folder, exist_ok=True)
    want = {m["file"]: m["sha256"] for m in load_reference()["models"]}
    for m in MODELS:
        path = os.path.join(folder, m["file"])
        if write_model(m, path) != want[m["file"]]:
            sys.exit("%s: not the file that tiny.json was computed from" % path)
    for m in (DEEP, TYPED):
        write_model(m, os.path.join(folder, m["file"]))


def verify(path, reference, gelu_table):
    """Teacher-forced comparison with another engine's first logits and greedy ids."""
    with open(reference) as f:
        golden = json.load(f)
    model, cases = Model(path, golden["n_ctx"], gelu_table), golden["cases"]
    worst, wrong, steps = 0.0, 0, 0
    for case in cases:
        cache = model.empty_cache()
        for token in case["tokens"]:
            logits = model.step(token, cache)
        want = case.get("exact_first_logits", case.get("first_logits"))
        worst = max([worst] + [abs(a - b) for a, b in zip(logits, want)])
        for token in case.get("exact_greedy", case["greedy"]):
            best = max(logits)
            wrong += logits[token] < best - 2e-3
            steps += 1
            logits = model.step(token, cache)
    print("%s: %d cases, first logits within %.2e, %d of %d greedy ids differ" %
          (os.path.basename(path), len(cases), worst, wrong, steps))
    return 0 if worst < (4e-3 if gelu_table else 2e-3) and not wrong else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--verify", nargs=2, metavar=("GGUF", "JSON"))
    parser.add_argument("--gelu-table", action="store_true")
    args = parser.parse_args()
    if args.check:
        check()
    elif args.reference:
        write_reference()
    elif args.verify:
        sys.exit(verify(*args.verify, args.gelu_table))
    elif args.folder:
        write_models(args.folder)
    else:
        parser.error("a folder, --check, --reference or --verify is needed")


if __name__ == "__main__":
    main()
