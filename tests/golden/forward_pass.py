# SPDX-License-Identifier: Apache-2.0
"""The forward pass of every architecture in plain float64 arithmetic over the weights as the file's
blocks expand.  It shares no code with octarc, on purpose."""
import math
import struct
from operator import mul

from gguf_file import File


def dot(a, b):
    return sum(map(mul, a, b))


def product(matrix, x):
    return [dot(row, x) for row in matrix]


def rms_norm(x, weight, eps):
    scale = 1 / math.sqrt(dot(x, x) / len(x) + eps)
    return [v * scale * w for v, w in zip(x, weight)]


def half(x):
    return struct.unpack("<e", struct.pack("<e", x))[0]


def silu(x):
    return x / (1 + math.exp(-x))


def limited(gate, up):
    gate, up = min(gate, 7.0), min(max(up, -7.0), 7.0)
    return gate / (1 + math.exp(-1.702 * gate)) * (up + 1)


def gelu(x):
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def gelu_of_halves(x):
    """As from a table by half floats, which some engines use."""
    return 0.0 if x <= -10 else x if x >= 10 else half(gelu(half(x)))


class Rotation:
    def __init__(self, n, base, divisors, factor):
        self.n, self.base = n, base
        self.plain = [base ** (-2 * i / n) / d for i, d in enumerate(divisors)]
        self.frequencies = [f / factor for f in self.plain]
        self.magnitude = 1.0

    def set_yarn(self, factor, context, log_multiplier):
        def pair(turns):  # which pair turns so often within the original context
            return self.n * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(self.base))

        low, high = max(0, math.floor(pair(32))), min(self.n - 1, math.ceil(pair(1)))
        for i, f in enumerate(self.plain):
            keep = 1 - min(1, max(0, (i - low) / max(0.001, high - low)))
            self.frequencies[i] = f * keep + f / factor * (1 - keep)
        self.magnitude *= (1 + 0.1 * math.log(factor)) / (1 + 0.1 * log_multiplier * math.log(factor))

    def turn(self, x, position, head_dim, halves):
        """Every head of x in place."""
        for i, frequency in enumerate(self.frequencies):
            c = math.cos(position * frequency) * self.magnitude
            s = math.sin(position * frequency) * self.magnitude
            first, apart = (i, len(self.frequencies)) if halves else (2 * i, 1)
            for at in range(first, len(x), head_dim):
                a, b = x[at], x[at + apart]
                x[at], x[at + apart] = a * c - b * s, a * s + b * c


class Model:
    """`context`: of the sequence, where the model's rotation asks for it; else the trained one."""

    def __init__(self, path, context=None, gelu_table=False):
        f = File(path)
        arch = f.keys["general.architecture"]
        self.halves = arch not in ("llama", "mistral3")  # what a rotation turns: else neighbours
        self.get = lambda name, default=None: f.keys.get(arch + "." + name, default)
        self.n_layers = self.get("block_count")
        self.embd = self.get("embedding_length")
        self.heads = self.get("attention.head_count")
        self.kv_heads = self.get("attention.head_count_kv", self.heads)
        self.head_dim = self.get("attention.key_length", self.embd // self.heads)
        self.eps = self.get("attention.layer_norm_rms_epsilon")
        self.context = context or self.get("context_length")
        self.weights = {name[:-len(".weight")] if name.endswith(".weight") else name: f.rows(name)
                        for name in f.tensors}
        if "output" not in self.weights:
            self.weights["output"] = self.weights["token_embd"]
        self.cut_fused()
        self.rotation = self.window_rotation = self.make_rotation()
        self.activation, self.embd_scale, self.window = silu, 1.0, None
        self.weights_of_all = arch == "qwen2moe"  # weights of experts are shares of all there are
        if arch.startswith("gemma"):
            self.activation = gelu_of_halves if gelu_table else gelu
            self.embd_scale = math.sqrt(self.embd)
            self.window = self.get("attention.sliding_window")
            self.period = {"gemma2": 2, "gemma3": 6}[arch]
        self.gated = limited if arch == "gpt-oss" else lambda g, u: self.activation(g) * u
        if arch == "gpt-oss":
            self.window, self.period = self.get("attention.sliding_window"), 2
            for i in range(self.n_layers):  # by the name of another norm in other families
                self.weights["blk.%d.ffn_norm" % i] = self.weights.pop("blk.%d.post_attention_norm" % i)
        if arch == "gemma3":
            self.window_rotation = Rotation(self.rotation.n, 10000.0, [1.0] * (self.rotation.n // 2), 1.0)

    def cut_fused(self):
        """Rows of one tensor that are those of several, one after another."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        for name in [name for name in self.weights if name.endswith("attn_qkv")]:
            rows, layer = self.weights.pop(name), name[:-len("attn_qkv")]
            self.weights[layer + "attn_q"] = rows[:q]
            self.weights[layer + "attn_k"] = rows[q:q + kv]
            self.weights[layer + "attn_v"] = rows[q + kv:]
        for i in range(self.n_layers):
            up, gate = "blk.%d.ffn_up" % i, "blk.%d.ffn_gate" % i
            if up in self.weights and gate not in self.weights:
                n = self.get("feed_forward_length")
                self.weights[gate], self.weights[up] = self.weights[up][:n], self.weights[up][n:]

    def make_rotation(self):
        n, original = self.get("rope.dimension_count", self.head_dim), self.get(
            "rope.scaling.original_context_length")
        divisors = self.weights.get("rope_freqs", [[1.0] * (n // 2)])[0]
        if "rope_factors_long" in self.weights:
            kind = "long" if self.context > original else "short"
            divisors = self.weights["rope_factors_" + kind][0]
        kind = self.get("rope.scaling.type", "linear")
        factor = self.get("rope.scaling.factor", 1.0) if kind != "none" else 1.0
        rotation = Rotation(n, self.get("rope.freq_base", 10000.0), divisors, factor)
        rotation.magnitude = self.get("rope.scaling.attn_factor", 1.0)
        if kind == "yarn":
            rotation.set_yarn(factor, original, self.get("rope.scaling.yarn_log_multiplier", 0.0))
        return rotation

    def temperature(self, position):
        scale = self.get("attention.temperature_scale", 0.0)
        if not scale:
            return 1.0
        original = self.get("rope.scaling.original_context_length")
        return math.log(math.floor(position / original) + 1) * scale + 1

    def biased(self, name, x, row=0):
        """x + the bias that is called so, where there is one."""
        bias = self.weights.get(name + ".bias")
        return [a + b for a, b in zip(x, bias[row])] if bias else x

    def project(self, name, x):
        """Q, K or V of all heads, before the rotation."""
        y = self.biased(name, product(self.weights[name], x))
        if name + "_norm" in self.weights:
            weight, d = self.weights[name + "_norm"][0], self.head_dim
            y = [v for at in range(0, len(y), d) for v in rms_norm(y[at:at + d], weight, self.eps)]
        return y

    def capped(self, x, key):
        cap = self.get(key)
        return cap * math.tanh(x / cap) if cap else x

    def attend(self, q, keys, values, sinks):
        out, d = [], self.head_dim
        for h in range(self.heads):
            at = h // (self.heads // self.kv_heads) * d
            mine = q[h * d:(h + 1) * d]
            scores = [self.capped(dot(mine, k[at:at + d]) / math.sqrt(d), "attn_logit_softcapping")
                      for k in keys]
            top = max(scores + sinks[h:h + 1])
            shares = [math.exp(s - top) for s in scores]
            total = sum(shares) + sum(math.exp(s - top) for s in sinks[h:h + 1])
            columns = zip(*(v[at:at + d] for v in values))
            out += [dot(shares, column) / total for column in columns]
        return out

    def added(self, h, x, norm):
        """h + x, which is normed before where the layer has such a norm."""
        if norm in self.weights:
            x = rms_norm(x, self.weights[norm][0], self.eps)
        return [a + b for a, b in zip(h, x)]

    def attention(self, layer, h, keys, values):
        name, w, position = "blk.%d." % layer, self.weights, len(keys)
        windowed = self.window and layer % self.period != self.period - 1
        rotation = self.window_rotation if windowed else self.rotation
        x = rms_norm(h, w[name + "attn_norm"][0], self.eps)
        q, k = self.project(name + "attn_q", x), self.project(name + "attn_k", x)
        rotation.turn(q, position, self.head_dim, self.halves)
        rotation.turn(k, position, self.head_dim, self.halves)
        q = [v * self.temperature(position) for v in q]
        keys.append(k)
        values.append(self.project(name + "attn_v", x))
        first = max(0, len(keys) - self.window) if windowed else 0
        sinks = w.get(name + "attn_sinks", [[]])[0]
        out = self.attend(q, keys[first:], values[first:], sinks)
        return self.biased(name + "attn_output", product(w[name + "attn_output"], out))

    def expert(self, name, number, x):
        """One FFN of those that lie in one tensor each."""
        def matrix(part):
            rows = self.weights[name + part]
            n = len(rows) // self.get("expert_count")
            return rows[number * n:(number + 1) * n]

        def made(part, x):
            return self.biased(name + part, product(matrix(part), x), number)

        gated = map(self.gated, made("ffn_gate_exps", x), made("ffn_up_exps", x))
        return made("ffn_down_exps", list(gated))

    def experts(self, name, x):
        """The weighted sum of those experts that score highest, and of one that is always there."""
        scores = self.biased(name + "ffn_gate_inp", product(self.weights[name + "ffn_gate_inp"], x))
        used = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
        used = used[:self.get("expert_used_count")]
        total = sum(math.exp(s) for i, s in enumerate(scores) if i in used or self.weights_of_all)
        parts = [(math.exp(scores[i]) / total, self.expert(name, i, x)) for i in used]
        if name + "ffn_down_shexp" in self.weights:
            gate = dot(self.weights[name + "ffn_gate_inp_shexp"][0], x)
            parts.append((1 / (1 + math.exp(-gate)), self.ffn(name, "_shexp", x)))
        return [sum(weight * part[i] for weight, part in parts) for i in range(len(x))]

    def ffn(self, name, suffix, x):
        gated = [self.activation(g) * u
                 for g, u in zip(product(self.weights[name + "ffn_gate" + suffix], x),
                                 product(self.weights[name + "ffn_up" + suffix], x))]
        return product(self.weights[name + "ffn_down" + suffix], gated)

    def step(self, token, cache):
        """Logits after one more token; cache is a list of (keys, values) of each layer."""
        w = self.weights
        h = [v * self.embd_scale for v in w["token_embd"][token]]
        for i, (keys, values) in enumerate(cache):
            name = "blk.%d." % i
            h = self.added(h, self.attention(i, h, keys, values), name + "post_attention_norm")
            x = rms_norm(h, w[name + "ffn_norm"][0], self.eps)
            y = self.experts(name, x) if name + "ffn_gate_inp" in w else self.ffn(name, "", x)
            h = self.added(h, y, name + "post_ffw_norm")
        logits = product(w["output"], rms_norm(h, w["output_norm"][0], self.eps))
        return [self.capped(x, "final_logit_softcapping") for x in logits]

    def empty_cache(self):
        return [([], []) for _ in range(self.n_layers)]
