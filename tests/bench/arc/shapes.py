# SPDX-License-Identifier: Apache-2.0
"""Files with the keys and tensors of published models and holes in the place of their weights: enough to
plan them, and a few hundred kilobytes each."""
import os
import struct

U32, F32, STRING = 4, 6, 8
# Number of the type in a file, values and bytes of a block; bytes of an atom (16 rows, 32 columns) on a card:
# ATOM_BYTES of daemon/device/level_zero/kernels/matmul.cl.
ATOM_VALUES = 512
ATOM_BYTES = {"F32": 2048, "F16": 1024, "BF16": 1024, "Q4_0": 288, "Q8_0": 544, "Q4_K": 352, "Q6_K": 448,
              "MXFP4": 288}
TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144),
         "Q6_K": (14, 256, 210), "BF16": (30, 1, 2), "MXFP4": (39, 32, 17)}

# Published shapes.  `of` says how the weights are stored.
MODELS = [
    {"name": "8B", "like": "Llama 3.1 8B", "arch": "llama", "of": "Q4_K_M", "layers": 32, "embd": 4096, "heads": 32,
     "kv": 8, "head_dim": 128, "ff": 14336, "vocab": 128256, "base": 500000.0},
    {"name": "32B", "like": "Qwen3 32B", "arch": "qwen3", "of": "Q4_K_M", "layers": 64, "embd": 5120, "heads": 64,
     "kv": 8, "head_dim": 128, "ff": 25600, "vocab": 151936, "base": 1000000.0},
    {"name": "70B", "like": "Llama 3.3 70B", "arch": "llama", "of": "Q4_K_M", "layers": 80, "embd": 8192, "heads": 64,
     "kv": 8, "head_dim": 128, "ff": 28672, "vocab": 128256, "base": 500000.0},
    {"name": "gpt-oss-120b", "like": "gpt-oss-120b", "arch": "gpt-oss", "of": "MXFP4", "layers": 36, "embd": 2880,
     "heads": 64, "kv": 8, "head_dim": 64, "ff": 2880, "vocab": 201088, "base": 150000.0, "experts": 128, "used": 4,
     "window": 128},
]


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def key(name, value):
    kind, form = (STRING, None) if isinstance(value, str) else (F32, "<f") if isinstance(value, float) else (U32, "<I")
    return text(name) + struct.pack("<I", kind) + (text(value) if form is None else struct.pack(form, value))


def keys_of(m):
    yield "general.architecture", m["arch"]
    yield "general.name", m["like"]
    values = {"block_count": m["layers"], "embedding_length": m["embd"], "context_length": 131072,
              "attention.head_count": m["heads"], "attention.head_count_kv": m["kv"], "feed_forward_length": m["ff"],
              "attention.key_length": m["head_dim"], "attention.value_length": m["head_dim"],
              "rope.dimension_count": m["head_dim"], "vocab_size": m["vocab"], "rope.freq_base": m["base"],
              "attention.layer_norm_rms_epsilon": 1e-5}
    if "experts" in m:
        values.update({"expert_count": m["experts"], "expert_used_count": m["used"],
                       "expert_feed_forward_length": m["ff"], "attention.sliding_window": m["window"],
                       "rope.scaling.type": "yarn", "rope.scaling.factor": 32.0,
                       "rope.scaling.original_context_length": 4096})
    for name, value in values.items():
        yield "%s.%s" % (m["arch"], name), value


def more_bits(m, layer):
    """The layers in which Q4_K_M keeps V and the last matrix of a layer as Q6_K."""
    eighth = m["layers"] // 8
    return layer < eighth or layer >= 7 * eighth or (layer - eighth) % 3 == 2


def type_of(m, part, layer):
    if m["of"] == "MXFP4":
        return "MXFP4" if part.endswith("_exps") else "F32" if part == "ffn_gate_inp" else "Q8_0"
    if part == "output" or (part in ("attn_v", "ffn_down") and more_bits(m, layer)):
        return "Q6_K"
    return "Q4_K"


def tensors_of(m):
    """(name, type, dimensions)"""
    embd, ff = m["embd"], m["ff"]
    q, kv = m["heads"] * m["head_dim"], m["kv"] * m["head_dim"]
    yield "token_embd.weight", type_of(m, "token_embd", -1), (embd, m["vocab"])
    for i in range(m["layers"]):
        def matrix(part, *dims):
            return "blk.%d.%s.weight" % (i, part), type_of(m, part, i), dims

        def vector(part, *dims):
            return "blk.%d.%s" % (i, part), "F32", dims
        yield vector("attn_norm.weight", embd)
        yield from (matrix("attn_q", embd, q), matrix("attn_k", embd, kv), matrix("attn_v", embd, kv),
                    matrix("attn_output", q, embd))
        if m["arch"] == "qwen3":
            yield from (vector("attn_q_norm.weight", m["head_dim"]), vector("attn_k_norm.weight", m["head_dim"]))
        if m["arch"] != "gpt-oss":
            yield vector("ffn_norm.weight", embd)
            yield from (matrix("ffn_gate", embd, ff), matrix("ffn_up", embd, ff), matrix("ffn_down", ff, embd))
            continue
        n = m["experts"]
        yield from (vector("attn_q.bias", q), vector("attn_k.bias", kv), vector("attn_v.bias", kv),
                    vector("attn_output.bias", embd), vector("attn_sinks.weight", m["heads"]),
                    vector("post_attention_norm.weight", embd), matrix("ffn_gate_inp", embd, n),
                    vector("ffn_gate_inp.bias", n))
        for part, cols, rows in (("gate", embd, ff), ("up", embd, ff), ("down", ff, embd)):
            yield matrix("ffn_%s_exps" % part, cols, rows, n)
            yield vector("ffn_%s_exps.bias" % part, rows, n)
    yield "output_norm.weight", "F32", (embd,)
    yield "output.weight", type_of(m, "output", -1), (embd, m["vocab"])


def bytes_of(kind, dims):
    _, values, size = TYPES[kind]
    n = 1
    for dim in dims:
        n *= dim
    return n // values * size


def write(m, folder):
    """The path of the file."""
    keys = [key(name, value) for name, value in keys_of(m)]
    infos, offset = [], 0
    for name, kind, dims in tensors_of(m):
        infos.append(text(name) + struct.pack("<I%dQIQ" % len(dims), len(dims), *dims, TYPES[kind][0], offset))
        offset += bytes_of(kind, dims)
        offset += -offset % 32
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(keys)) + b"".join(keys + infos)
    head += b"\0" * (-len(head) % 32)
    path = os.path.join(folder, m["name"] + ".gguf")
    with open(path, "wb") as f:
        f.write(head)
        f.truncate(len(head) + offset)
    return path


def atoms_of_a_token(m):
    """Atoms of each type that decoding one token reads: of all matrices but the embedding, and of those experts that
    are used."""
    atoms = {}
    for name, kind, dims in tensors_of(m):
        if name != "token_embd.weight" and len(dims) > 1 and not name.endswith(".bias"):
            n = m["used"] if len(dims) == 3 else 1
            atoms[kind] = atoms.get(kind, 0) + n * -(-dims[0] // 32) * -(-dims[1] // 16)
    return atoms


def kv_bytes(m, tokens):
    """Of the K and V that a token reads behind so many, as half floats."""
    seen = sum(min(tokens, m["window"]) if "window" in m and i % 2 == 0 else tokens for i in range(m["layers"]))
    return seen * 2 * m["kv"] * m["head_dim"] * 2
