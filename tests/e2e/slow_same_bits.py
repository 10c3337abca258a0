#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The same answer, to the last bit, on any number of cards, with any split, alone or in a crowd."""
from harness import Daemon, default_model, equal, in_parallel, main, test, tiny

PROMPT = "Once upon a time in a small village by the sea there lived"
COMBINATIONS = [(n, split) for n in (1, 2, 3, 5, 8) for split in ("layer", "tensor")]


def transcript(daemon, prompt, n, **fields):
    """Text, tokens' log-probabilities to the last digit, and how it ended."""
    answer = daemon.complete(prompt, n, logprobs=3, **fields)
    return [(c["text"], c["logprobs"], c["finish_reason"]) for c in answer["choices"]]


def check(model, n, counts_and_splits, *options):
    want = said = None
    for cards, split in counts_and_splits:
        with Daemon("--cards", str(cards), "--split", split, "--context", "512", *options,
                    model=model) as daemon:
            got = transcript(daemon, PROMPT, n)
            status, out, _ = daemon.client("complete", "--temperature", "0", "--max-tokens", str(n),
                                           PROMPT)
            equal(status, 0, "status of octarc")
            want, said = want or got, said or out
            equal(got, want, "%d cards, %s split" % (cards, split))
            equal(out, said, "octarc complete, %d cards, %s split" % (cards, split))
            # Among 15 others of all lengths; half of them share its first words.
            others = [lambda i=i: transcript(daemon, (PROMPT if i % 2 else "") + " x" * (1 + 7 * i), n)
                      for i in range(15)]
            crowd = in_parallel([lambda: transcript(daemon, PROMPT, n)] + others)
            equal(crowd[0], want, "among 15 others, %d cards, %s split" % (cards, split))
            again = transcript(daemon, PROMPT, n, cache_prompt=False)
            equal(again, want, "without the prefix cache")


@test
def a_float_model_on_any_cards():
    check(tiny("tiny-f32"), 40, COMBINATIONS)


@test
def a_quantised_model_on_any_cards():
    check(tiny("tiny-mixed"), 40, COMBINATIONS)


@test
def the_default_model_on_any_cards():
    check(default_model(), 24, COMBINATIONS)


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
