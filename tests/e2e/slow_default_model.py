#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The main job on the default model: octarc complete over 1 to 8 cards, alone and in company."""
import os
import signal

from harness import Daemon, default_model, equal, in_parallel, main, test, wait_until

PROMPTS = ["The capital of France is", "Once upon a time", "def add(a, b):\n",
           "The three laws of motion are"]
MATRIX = [(cards, split) for cards in ("1", "2", "3", "5", "8") for split in ("layer", "tensor")]
N = "16"
reference = {}


def ask(own, prompt):
    status, out, err = own.client("complete", "--temperature", "0", "--max-tokens", N, prompt)
    equal((status, err), (0, ""), "status and stderr")
    return out


@test
def every_count_of_cards_and_split_gives_the_same_bytes_alone_and_among_sixteen():
    for cards, split in MATRIX:
        with Daemon("--cards", cards, "--split", split, "--context", "512",
                    model=default_model()) as own:
            where = "%s cards, %s split" % (cards, split)
            for prompt in PROMPTS:
                equal(ask(own, prompt), reference.setdefault(prompt, ask(own, prompt)), where)
            together = in_parallel([lambda p=p: ask(own, p) for p in PROMPTS * 4])
            equal(together, [reference[p] for p in PROMPTS * 4], where + ", sixteen at once")
            status = own.rpc("status")
            equal((status["cards"], status["split"]), (int(cards), split))


@test
def it_knows_the_capital_of_france():
    with Daemon("--cards", "8", "--context", "512", model=default_model()) as own:
        assert "Paris" in ask(own, PROMPTS[0])
        status, out, _ = own.client("run", "-t", "0", "-n", "32",
                                    "What is the capital of France? Answer in one sentence.")
        assert status == 0 and "Paris" in out, out


def disturbed(disturb):
    with Daemon("--cards", "4", "--context", "512", model=default_model()) as own:
        params = {"prompt": PROMPTS[1], "max_tokens": 60, "temperature": 0.8, "seed": 11}
        want = own.rpc("complete", params)["choices"][0]["text"]
        lines, pieces = own.connect(), []
        for chunk in lines.stream("complete", params):
            pieces.append(chunk["choices"][0]["text"])
            if len(pieces) == 12:
                disturb(own)
        lines.close()
        equal("".join(pieces), want, "the transcript")
        wait_until(lambda: own.rpc("status")["generation"] == 2, 20, "the next generation")
        status = own.rpc("status")
        equal(status["requests"]["recovered"] >= 1, True, "recovered")
        equal(status["requests"]["failed"], 0, "failed")
        return own.rpc("cards")["cards"]


def kill_engine(own):
    for pid in own.engines():
        os.kill(pid, signal.SIGKILL)


@test
def kill_9_of_the_engine_in_mid_answer_loses_nothing():
    disturbed(kill_engine)


@test
def the_loss_of_a_card_in_mid_answer_loses_nothing():
    cards = disturbed(lambda own: own.rpc("drill", {"fault": "lose", "card": 3}))
    equal([c["state"] for c in cards], ["online", "online", "online", "lost"])
    equal(cards[3]["actual"]["weights_bytes"], 0, "bytes on the lost card")


@test
def planned_bytes_are_the_actual_ones():
    with Daemon("--cards", "5", "--context", "512", "--card-memory", "200M,100M,100M,60M,150M",
                model=default_model()) as own:
        own.complete(PROMPTS[0], 4)
        for card in own.rpc("cards")["cards"]:
            for purpose in ("weights_bytes", "kv_bytes", "scratch_bytes"):
                planned, actual = card["planned"][purpose], card["actual"][purpose]
                assert abs(planned - actual) <= 1 << 20, (card["card"], purpose, planned, actual)
            assert sum(card["actual"].values()) <= card["capacity_bytes"], card


if __name__ == "__main__":
    main()
