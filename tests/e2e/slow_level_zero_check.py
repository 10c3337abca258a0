#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Weights on cards that are harmed while they are in use: each card finds it by itself, and nothing of its weights
comes to the host for that.  On simulated cards (tests/sim_level_zero)."""
from harness import equal, main, test, wait_until
from sim_cards import Box

PROMPT = "Once upon a time in a small village"
CARDS = 3


def boxed(split):
    return Box("cards=%d memory=256M" % CARDS, "--split", split, config="[engine]\nscrub = 0\n")


def answer(box):
    return box.daemon.complete(PROMPT, 40, logprobs=3)["choices"]


def harmed(box):
    return [e["card"] for e in box.events("harmed")]


def checked(box):
    said = box.daemon.rpc("check")
    assert all(c["bytes"] > 0 and c["ranges"] > 0 for c in said["cards"]), said
    return said["harmed"], said["repaired"]


def finds(split):
    with boxed(split) as box:
        want = answer(box)
        equal(checked(box), (0, 0))
        for n, card in enumerate((1, 2, 0)):
            box.daemon.rpc("drill", {"fault": "corrupt", "card": card, "silent": True})
            equal(len(harmed(box)), n, "nobody has told yet")
            equal(checked(box), (1, 1))
            equal(harmed(box)[-1], card)
            equal(checked(box), (0, 0))
            equal(answer(box), want, "after card %d" % card)
        equal(box.daemon.rpc("status")["generation"], 1)


@test
def a_check_finds_harm_on_any_card_and_repairs_it():
    finds("tensor")


@test
def so_it_does_in_a_pipeline():
    finds("layer")


@test
def a_check_reads_nothing_of_a_card():
    """Whatever is copied from one of them to the host is all ones meanwhile."""
    with boxed("tensor") as box:
        want = answer(box)
        box.faults.strike(" ".join("ones=%d>h" % card for card in range(CARDS)))
        equal(checked(box), (0, 0))
        box.faults.strike("")
        equal(harmed(box), [])
        equal(answer(box), want)


@test
def the_scrub_finds_what_nobody_asks_for():
    with Box("cards=2 memory=256M", "--split", "tensor", config="[engine]\nscrub = 1\n") as box:
        want = answer(box)
        box.daemon.rpc("drill", {"fault": "corrupt", "card": 1, "silent": True})
        wait_until(lambda: harmed(box), 60, "the scrub's finding")
        equal(harmed(box), [1])
        equal(answer(box), want)


if __name__ == "__main__":
    main()
