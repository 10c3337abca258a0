#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Weights on cards outlive the engine that put them there: octarcd holds the cards' memory, and the next engine
proves it and uses it.  On simulated cards (tests/sim_level_zero), where memory that anyone holds counts as used."""
import os
import shutil

from faults import take_back
from harness import equal, main, test, tiny, wait_until
from sim_cards import Box, all_held, with_nodes

PROMPT = "Once upon a time in a small village"
LONG = 60


def answer(daemon, n=LONG):
    choice = daemon.complete(PROMPT, n, logprobs=3)["choices"][0]
    return choice["text"], choice["logprobs"]


def streamed(box, strike):
    """The text of a stream, and what strikes in the middle of it."""
    text, count = "", 0
    for chunk in box.daemon.sse("/v1/completions", {"prompt": PROMPT, "max_tokens": LONG, "temperature": 0}):
        text += "".join(c["text"] for c in chunk["choices"])
        count += 1
        if count == 10:
            strike()
    return text


def all_is_kept(words, *options, model="tiny-f32", cards=2):
    with Box(words, *options, model=model) as box:
        want = answer(box.daemon)
        equal(box.held(), all_held(box), "held from the start")
        box.spoil_the_file()
        equal(streamed(box, box.daemon.kill_engine), want[0])
        box.serves(2)
        equal(answer(box.daemon), want)
        status = box.daemon.rpc("status")
        equal((status["generation"], status["weights"]), (2, "shared"))
        equal(status["reused_bytes"], status["weights_bytes"], "used again")
        equal([(e["reused_bytes"], e["reloaded_bytes"]) for e in box.events("ready", 2)],
              [(status["weights_bytes"], 0)])
        kept = box.events("kept", 2)
        equal([e["card"] for e in kept], list(range(cards)))
        equal([e["reloaded_bytes"] for e in kept], [0] * cards)
        assert all(e["text"].endswith("MiB of the weights that the engine before left on it, read 0.0 MiB anew")
                   for e in kept), kept
        equal(box.held(), all_held(box), "held by the front")
        equal([c["reused"] for c in box.daemon.rpc("cards")["cards"]], [True] * cards)


@test
def no_weight_is_read_again_when_an_engine_is_killed():
    all_is_kept("cards=2 memory=256M", "--split", "tensor")


@test
def nor_of_a_pipeline_with_experts():
    all_is_kept("cards=3 memory=256M", "--split", "layer", model="tiny-qwen2moe", cards=3)


def read_again(fault, expected):
    """Card 1 does not keep what it had, in one way or another."""
    with Box("cards=2 memory=256M " + ("" if fault != "noexport=1" else fault), "--split", "tensor") as box:
        want = answer(box.daemon)
        if fault != "noexport=1":
            box.faults.strike(fault)
        box.kill(2)
        box.faults.strike("")
        latest = box.daemon.rpc("status")["generation"]
        equal(answer(box.daemon), want, fault)
        ready = box.events("ready", latest)[-1]
        cards = box.daemon.rpc("cards")["cards"]
        assert ready["reloaded_bytes"] > 0 and cards[0]["reused"] and not cards[1]["reused"], (fault, ready)
        assert ready["reused_bytes"] >= cards[0]["actual"]["weights_bytes"], (fault, ready)
        equal([c["state"] for c in cards], ["online", "online"], fault)
        expected(box, latest)
        # What was read anew is kept the next time, where it can be.
        box.spoil_the_file()
        if fault != "noexport=1":
            box.kill(latest + 1)
            equal(answer(box.daemon), want, fault)
            equal(box.events("ready", latest + 1)[-1]["reloaded_bytes"], 0, fault)


@test
def memory_that_was_wiped_is_found_out_and_read_again():
    def expected(box, latest):
        said = [e for e in box.events("kept", latest) if e["card"] == 1][0]
        equal(said["reused_bytes"], 0)
        assert said["text"].endswith("some of what was there was not what it was"), said
    read_again("wiped=1", expected)


@test
def so_is_a_page_that_is_older_than_the_rest():
    def expected(box, latest):
        said = [e for e in box.events("kept", latest) if e["card"] == 1][0]
        assert said["reused_bytes"] > 0 and said["reloaded_bytes"] > 0, said
        assert said["text"].endswith("some of what was there was not what it was"), said
    read_again("old=1", expected)


@test
def a_card_that_refuses_its_memory_has_it_made_anew():
    def expected(box, latest):
        equal(latest, 3, "one that said so, and the next")
        said = box.events("unheld")
        equal([(e["card"], e["generation"]) for e in said], [(1, 2)])
        equal(said[0]["text"], "card 1 does not take over the weights that it holds, which are read again: "
              "zeMemAllocDevice: an argument is wrong")
    read_again("noimport=1", expected)


@test
def a_card_that_exports_nothing_has_its_weights_read_again():
    def expected(box, latest):
        said = box.events("unheld")
        equal([e["text"] for e in said], ["weights on a card end with their engine, and are read again by the "
                                          "next: card 1: its driver exports no memory"])
        equal(box.held(), [0])
    read_again("noexport=1", expected)


@test
def private_weights_are_not_held():
    with Box("cards=2 memory=256M", "--split", "tensor", "--weights", "private") as box:
        want = answer(box.daemon)
        equal(box.held(), [])
        box.kill(2)
        equal(answer(box.daemon), want)
        equal(box.daemon.rpc("status")["reused_bytes"], 0)
        equal(box.events("unheld"), [])


@test
def weights_in_shared_virtual_memory_end_with_their_engine_and_that_is_said():
    with Box("cards=2 memory=256M system=0xf", "--split", "tensor", "--storage", "svm",
             environment=with_nodes) as box:
        want = answer(box.daemon)
        box.kill(2)
        equal(answer(box.daemon), want)
        equal((box.held(), box.daemon.rpc("status")["weights"]), ([], "private"))
        equal([e["text"] for e in box.events("unheld")], [
            "weights on a card end with their engine, and are read again by the next: card 0: shared virtual memory "
            "is this process's"])


@test
def what_a_lost_card_held_is_let_go():
    with Box("cards=3 memory=256M", "--split", "layer") as box:
        want = answer(box.daemon)
        equal(box.held(), [0, 0, 1, 1, 2, 2])
        box.faults.strike("lose=1")
        equal(answer(box.daemon), want)
        box.serves(2)
        equal(sorted(set(box.held())), [0, 2])


@test
def what_the_other_cards_held_is_kept_when_one_is_lost():
    """What is new to them lies in pieces behind it, which are kept as well, and let go when the card is back."""
    with Box("cards=3 memory=256M", "--split", "layer", model="tiny-deep",
             config="card_quiet = 1\n") as box:
        want = answer(box.daemon)
        before = [c["actual"]["weights_bytes"] for c in box.daemon.rpc("cards")["cards"]]
        box.faults.strike("lose=1")
        equal(answer(box.daemon), want)
        wait_until(lambda: box.daemon.rpc("cards")["cards"][1]["state"] == "lost", 30, "the loss")
        latest = box.daemon.rpc("status")["generation"]
        ready = box.events("ready", latest)[-1]
        kept = {e["card"]: e["reused_bytes"] for e in box.events("kept", latest)}
        equal(sorted(kept), [0, 2])
        assert all(before[c] // 2 < kept[c] <= before[c] for c in kept), (kept, before)
        equal(ready["reused_bytes"], sum(kept.values()))
        equal(box.held(), [0, 0, 0, 2, 2, 2])
        box.spoil_the_file()
        box.kill(latest + 1)
        equal(answer(box.daemon), want)
        equal(box.events("ready", latest + 1)[-1]["reloaded_bytes"], 0)
        equal(box.held(), [0, 0, 0, 2, 2, 2])
        shutil.copy(tiny("tiny-deep"), box.model)
        box.faults.strike("")
        take_back(box.daemon)
        equal(answer(box.daemon), want)
        equal([c["state"] for c in box.daemon.rpc("cards")["cards"]], ["online"] * 3)
        latest = box.daemon.rpc("status")["generation"]
        equal([e["card"] for e in box.events("kept", latest)], [0, 2])
        equal(box.held(), [0, 0, 1, 1, 2, 2])


def most_bytes(box):
    """What the fullest card has in use."""
    return max(sum(c["actual"].values()) for c in box.daemon.rpc("cards")["cards"])


@test
def fifty_engines_leave_no_memory_behind_and_no_descriptor():
    """The cards have room for what one has, the patterns that links are tried with, and little more."""
    with Box("cards=2 memory=256M", "--split", "tensor") as box:
        want = answer(box.daemon, 4)
        room = most_bytes(box) + (6 << 20)
        descriptors = len(os.listdir("/proc/%d/fd" % box.daemon.process.pid))
        box.faults.strike("limit=0@%d limit=1@%d" % (room, room))
        for i in range(2, 52):
            if i % 5:
                box.daemon.rpc("drill", {"fault": "kill-engine"})
                box.serves(i)
            else:  # nobody knows why: the next one tries its cards and links first
                box.kill(i)
            equal(answer(box.daemon, 4), want)
        equal(box.held(), [0, 0, 1, 1])
        # Connections that were closed here are so there in a moment.
        wait_until(lambda: len(os.listdir("/proc/%d/fd" % box.daemon.process.pid)) <= descriptors, 10,
                   "as few descriptors as before")


if __name__ == "__main__":
    main()
