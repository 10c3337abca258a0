#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Comparison with recorded figures of a reference engine, over the socket, with an F32 KV cache.

The figures are data of their own, not part of the project: without them the tests are skipped.  The
tiny models' own figures (tests/golden/tiny.json) are always compared, by the unit tests.
"""
import json
import math
import os

from harness import Daemon, default_model, equal, main, note, shared, test

DENSE = ["llama-gqa-untied", "llama-mqa", "llama-linear-rope", "llama-yarn", "llama-rope-freqs",
         "llama-mha-tied-spm"]
WIDE_32 = ["q4_0", "q4_1", "q8_0"]  # their bar: pooled 1.15, each file 1.35
OTHERS = {"q6_k": 0.9, "f16": 1.35, "bf16": 1.35}
TOLERANCE = 2e-3
PERPLEXITY_CHUNKS = int(os.environ.get("PERPLEXITY_CHUNKS", "25"))


def serve(model, cards="2", context="512"):
    """The daemon, or None where this model is of a kind that octarc says it does not read."""
    try:
        return Daemon("--cards", cards, "--kv-type", "f32", "--context", context, model=model)
    except AssertionError as error:
        text = str(error)
        if "supported" in text or "does not know" in text or "tokenizer" in text:
            note("%s: %s" % (os.path.basename(model), text.strip().splitlines()[-1]))
            return None
        raise


def log_softmax(logits):
    top = max(logits)
    total = top + math.log(sum(math.exp(x - top) for x in logits))
    return [x - total for x in logits]


def probe(own, tokens, n, n_probs):
    """(ids, [{id: logprob}]) of the next n tokens."""
    status, answer = own.http("POST", "/completion", {
        "prompt": tokens, "n_predict": n, "temperature": 0, "n_probs": n_probs,
        "return_tokens": True, "cache_prompt": False})
    equal(status, 200, "status of %r" % answer if status != 200 else "status")
    return ([row["id"] for row in answer["completion_probabilities"]],
            [{t["id"]: t["logprob"] for t in row["top_logprobs"]}
             for row in answer["completion_probabilities"]])


def read(path):
    with open(path) as f:
        return json.load(f)


def first_distances(own, golden, key):
    """Squares of the differences of all log-probabilities after the prompts: (ours, the peer's)."""
    ours, peers = [], []
    for case in golden["cases"]:
        want = log_softmax(case[key])
        _, rows = probe(own, case["tokens"], 1, golden["n_vocab"])
        equal(len(rows[0]), golden["n_vocab"], "entries")
        ours += [(rows[0][i] - x) ** 2 for i, x in enumerate(want)]
        peers += [(a - b) ** 2 for a, b in zip(log_softmax(case["first_logits"]), want)]
    return ours, peers


def rms(squares):
    return math.sqrt(sum(squares) / len(squares))


def follow(own, case):
    """Greedy ids must be the golden ones wherever the gap is clear; elsewhere go on with those."""
    done = 0
    while done < len(case["greedy"]):
        want = case["greedy"][done:]
        got, _ = probe(own, case["tokens"] + case["greedy"][:done], len(want), 1)
        same = 0
        while same < min(len(got), len(want)) and got[same] == want[same]:
            same += 1
        if same == len(want):
            return
        step = case["steps"][done + same]
        gap = step[0][1] - step[1][1]
        if gap > TOLERANCE:
            raise AssertionError("%s: token %d is %s, want %d; the gap is %.4f" % (
                case["name"], done + same, got[same:same + 1], want[same], gap))
        done += same + 1


@test
def tiny_f32_models_agree_in_logits_and_greedy_ids():
    shared("goldens", "tiny")
    compared = 0
    for name in DENSE:
        golden = read(shared("goldens", "tiny", name + ".json"))
        own = serve(shared("goldens", "tiny", name + ".gguf"))
        if not own:
            continue
        with own:
            ours, _ = first_distances(own, golden, "first_logits")
            note("%s: largest difference %.2g" % (name, math.sqrt(max(ours))))
            assert math.sqrt(max(ours)) <= TOLERANCE, name
            for case in golden["cases"]:
                follow(own, case)
        compared += 1
    assert compared >= 5, "only %d of the models were read" % compared


@test
def quantised_models_are_as_near_to_the_exact_result_as_the_peer():
    shared("goldens", "quant")
    pooled_ours, pooled_peers, problems = [], [], []
    for kind in [*WIDE_32, *OTHERS]:
        golden = read(shared("goldens", "quant", "quant-%s.json" % kind))
        own = serve(shared("goldens", "quant", "quant-%s.gguf" % kind))
        if not own:
            continue
        with own:
            ours, peers = first_distances(own, golden, "exact_first_logits")
        ratio = rms(ours) / rms(peers)
        note("%s: %.4f, the peer %.4f, ratio %.2f" % (kind, rms(ours), rms(peers), ratio))
        if ratio > OTHERS.get(kind, 1.35):
            problems.append((kind, ratio))
        if kind in WIDE_32:
            pooled_ours += ours
            pooled_peers += peers
    equal(problems, [], "files over their bar")
    ratio = rms(pooled_ours) / rms(pooled_peers)
    note("32-wide types pooled: %.2f" % ratio)
    assert ratio <= 1.15, ratio


@test
def the_default_model_is_as_near_as_the_peer():
    golden = read(shared("goldens", "real", "smollm2-135m-q4_1.json"))
    ours, peers = [], []
    with serve(default_model(), cards="3", context="2048") as own:
        for case in golden["cases"]:
            exact, peer = dict(case["exact_first_top10"]), dict(case["first_top10"])
            _, rows = probe(own, case["tokens"], 1, 200)
            for token in exact.keys() & peer.keys() & rows[0].keys():
                ours.append((rows[0][token] - exact[token]) ** 2)
                peers.append((peer[token] - exact[token]) ** 2)
    note("%d figures: rms %.4f, the peer %.4f" % (len(ours), rms(ours), rms(peers)))
    assert rms(ours) <= 1.35 * rms(peers)


@test
def the_tokenizer_agrees_on_every_text():
    golden = read(shared("goldens", "tokenizer", "smollm2.json"))
    with serve(default_model(), cards="1", context="64") as own:
        for entry in golden["encode"]:
            text = entry["text"]
            if "\0" in text:
                continue  # refused in JSON, by name
            for key, special in (("plain", False), ("special", True)):
                if key in entry:
                    got = own.rpc("tokenize", {"content": text, "parse_special": special,
                                               "add_special": special})["tokens"]
                    equal(got, entry[key], "%s of %r" % (key, text))


@test
def the_perplexity_is_within_half_a_percent_of_the_peers():
    record = read(shared("goldens", "perplexity.json"))["results"]["smollm2-135m-q4_1"]
    with open(shared("goldens", "us-docs.txt"), encoding="utf-8") as f:
        text = f.read()
    with serve(default_model(), cards="8", context="1024") as own:
        tokens = own.rpc("tokenize", {"content": text, "parse_special": False})["tokens"]
        chunks = [tokens[i:i + 512] for i in range(0, len(tokens) - 511, 512)]
        equal(len(chunks), record["chunks"], "chunks")
        total = scored = 0
        for chunk in chunks[:PERPLEXITY_CHUNKS]:
            answer = own.rpc("complete", {"prompt": chunk, "max_tokens": 0, "echo": True,
                                          "logprobs": 1, "temperature": 0})
            rows = answer["choices"][0]["logprobs"]["token_logprobs"]
            equal(len(rows), 512, "entries")
            total -= sum(rows[257:])
            scored += 255
    got, peer = math.exp(total / scored), record["running_ppl"][min(PERPLEXITY_CHUNKS, 25) - 1]
    note("perplexity %.4f, the peer %.4f" % (got, peer))
    assert got <= 1.005 * peer, (got, peer)


if __name__ == "__main__":
    main()
