#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The same answer, to the last bit, on any number of cards, with any split, alone or in a crowd."""
from harness import Daemon, cached_model, default_model, equal, in_parallel, main, test, tiny

PROMPT = "Once upon a time in a small village by the sea there lived"
# Different lengths; asked alone, and all at once with others that share their beginnings.
PROMPTS = [PROMPT, "The capital of France is", "def add(a, b):\n", "The three laws of motion are"]
COMBINATIONS = [(n, split) for n in (1, 2, 3, 5, 8) for split in ("layer", "tensor")]


def transcript(daemon, prompt, n, **fields):
    """Text, tokens' log-probabilities to the last digit, and how it ended."""
    answer = daemon.complete(prompt, n, logprobs=3, **fields)
    return [(c["text"], c["logprobs"], c["finish_reason"]) for c in answer["choices"]]


def complete(daemon, prompt, n):
    """What octarc prints."""
    status, out, err = daemon.client("complete", "--temperature", "0", "--max-tokens", str(n), prompt)
    equal((status, err), (0, ""), "status and stderr of octarc")
    return out


def check(model, n, counts_and_splits, *options):
    want = said = None
    for cards, split in counts_and_splits:
        with Daemon("--cards", str(cards), "--split", split, "--context", "512", *options,
                    model=model) as daemon:
            where = "%d cards, %s split" % (cards, split)
            status = daemon.rpc("status")
            equal((status["cards"], status["split"]), (cards, split))
            got = [transcript(daemon, p, n) for p in PROMPTS]
            out = [complete(daemon, p, n) for p in PROMPTS]
            want, said = want or got, said or out
            equal(got, want, where)
            equal(out, said, "octarc complete, " + where)
            # Sixteen at once: each prompt over RPC and by octarc, and eight of other lengths, half
            # of which share the first one's words.
            crowd = in_parallel(
                [lambda p=p: transcript(daemon, p, n) for p in PROMPTS] +
                [lambda p=p: complete(daemon, p, n) for p in PROMPTS] +
                [lambda i=i: transcript(daemon, (PROMPT if i % 2 else "") + " x" * (1 + 9 * i), n)
                 for i in range(8)])
            equal(crowd[:4], want, "among sixteen, " + where)
            equal(crowd[4:8], said, "octarc complete among sixteen, " + where)
            again = transcript(daemon, PROMPT, n, cache_prompt=False)
            equal(again, want[0], "without the prefix cache, " + where)


@test
def a_float_model_on_any_cards():
    check(tiny("tiny-f32"), 40, COMBINATIONS)


@test
def a_quantised_model_on_any_cards():
    check(tiny("tiny-mixed"), 40, COMBINATIONS)


@test
def every_other_architecture_on_any_cards():
    for name in ("tiny-qwen2", "tiny-qwen3", "tiny-gemma2", "tiny-gemma3", "tiny-fused",
                 "tiny-mistral3", "tiny-qwen3moe", "tiny-mixtral", "tiny-qwen2moe", "tiny-gpt-oss",
                 "tiny-gpt-oss-mxfp4"):
        check(tiny(name), 24, COMBINATIONS[:1] + COMBINATIONS[4:6] + COMBINATIONS[8:])


@test
def the_default_model_on_any_cards():
    check(default_model(), 16, COMBINATIONS)


@test
def a_real_model_with_windows_on_any_cards():
    check(cached_model("gemma-3-270m"), 8, COMBINATIONS[:1] + COMBINATIONS[5:6] + COMBINATIONS[8:])


@test
def instruction_sets_and_threads_change_nothing():
    want = None
    for isa in ("portable", "auto"):
        for threads in ("1", "2"):
            with Daemon("--cards", "2", "--split", "tensor", "--context", "512", "--isa", isa,
                        "--threads", threads, model=tiny("tiny-mixed")) as daemon:
                got = transcript(daemon, PROMPT, 30)
                want = want or got
                equal(got, want, "%s, %s threads" % (isa, threads))


if __name__ == "__main__":
    main()
