#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Faults of real cards, as the simulated driver has them (tests/sim_level_zero), under sixteen streams: no
request is lost and every transcript is that of a quiet day.

Twenty cells are drawn, the same ones each time; FAULTS_SEED=N draws others, FAULTS_ALL=1 tries all."""
import os
import random
import tempfile
import time

from faults import FAULTS, Crowd, cells, run_cell, take_back
from harness import Daemon, equal, main, note, test, tiny, wait_until
from sim_cards import Faults, answers, environment, of_cpu, with_nodes

CARDS = 8
TOKENS = 24
DRAWN = 20
CONFIG = "[service]\ndrill = yes\ncard_silence = 2\ncard_faults = 64\n"
DEATHS = (r"is gone: (card \d+|a link between cards|was killed by signal|ended with status 1|ze\w+: |"
          r"said nothing for)")  # of the log: what a card does to an engine

# What befalls a card, in the words of the driver.  A card that is wedged ends every process that polls it; of one
# that is deceived an argument is not taken that the driver says is.
WORDS = {"lost": "lose=%d", "silent": "hang=%d", "wedged": "abort=%d", "broken": "broken=%d",
         "deceived": "keep=%d@40"}


def table(faults):
    """What each fault of a cell does."""
    own = {name: lambda daemon, card, word=word: faults.strike(word % card)
           for name, word in WORDS.items()}
    return {**own, "kill-engine": FAULTS["kill-engine"], "drain": FAULTS["drain"]}


def left_by(fault, works):
    """One without work may never be asked for anything."""
    states = {"lost": {"lost"}, "silent": {"fenced", "lost"}, "wedged": {"lost"}, "broken": {"lost"},
              # an engine may have given all arguments that it ever will
              "deceived": {"lost", "online"},
              "kill-engine": {"online", "drained"}, "drain": {"drained"}}[fault]
    return states if works else states | {"online"}


def chosen():
    all_cells = cells(CARDS, (*WORDS, "kill-engine", "drain"))
    if os.environ.get("FAULTS_ALL"):
        return all_cells
    return random.Random(int(os.environ.get("FAULTS_SEED", "1"))).sample(all_cells, DRAWN)


def serve(folder, options, *more, environment=environment):
    faults = Faults(folder)
    return faults, Daemon("--backend", "level_zero", "--context", "512", *more, model=tiny(),
                          env=environment("%s memory=256M faults=%s" % (options, faults.path)),
                          deaths=DEATHS, config=CONFIG)


def no_fault_changes_an_answer(options, *more, n=DRAWN, **how):
    with tempfile.TemporaryDirectory() as folder:
        faults, daemon = serve(folder, "cards=%d %s" % (CARDS, options), "--split", "layer", *more, **how)
        with daemon:
            crowd = Crowd(daemon, TOKENS, words=1)
            want = [s.transcript() for s in crowd.run()]
            begin = time.monotonic()
            drawn = chosen()[:None if os.environ.get("FAULTS_ALL") else n]
            for cell in drawn:
                run_cell(crowd, cell, want, table(faults), left_by)
                faults.strike("")
                take_back(daemon)
            note("%d cells in %.1f s" % (len(drawn), time.monotonic() - begin))
            return daemon.rpc("status")


@test
def no_fault_of_a_card_at_any_moment_changes_an_answer():
    no_fault_changes_an_answer("")


@test
def nor_with_weights_in_shared_virtual_memory():
    status = no_fault_changes_an_answer("system=0xf", "--storage", "svm", n=DRAWN // 2,
                                        environment=with_nodes)
    equal(status["storage"], "svm")


def link(daemon, reader, owner):
    links = daemon.rpc("cards")["links"]
    return [(x["mode"], x["reason"]) for x in links if (x["from"], x["to"]) == (owner, reader)][0]


@test
def a_link_that_reads_wrong_bytes_is_staged_and_changes_no_answer():
    want = of_cpu()
    for lie in ("ones=0>1", "stale=0>1"):
        with tempfile.TemporaryDirectory() as folder:
            with serve(folder, "cards=2 " + lie, "--split", "tensor")[1] as daemon:
                equal(answers(daemon), want)
                equal(link(daemon, 1, 0), ("staged", "it read wrong bytes when it was tried"))
                equal(link(daemon, 0, 1)[0], "direct")


@test
def a_link_that_is_only_claimed_costs_no_card_and_no_answer():
    """Whoever reads over it is lost to its process."""
    want = of_cpu()
    with tempfile.TemporaryDirectory() as folder:
        with serve(folder, "cards=2 p2p=0>1 claim=1>0", "--split", "tensor")[1] as daemon:
            equal(answers(daemon), want)
            equal([card["state"] for card in daemon.rpc("cards")["cards"]], ["online", "online"])
            mode, why = link(daemon, 1, 0)
            equal((mode, why[:17]), ("staged", "tried by itself: "))


@test
def an_argument_that_is_not_taken_costs_its_card_and_no_answer():
    """What a step is recorded with is what the lie gets into, so a step of a shape that is new has to come."""
    with Daemon(model=tiny()) as daemon:
        want = [daemon.complete("Hello there" * n, 12, logprobs=3)["choices"] for n in (1, 3)]
    for split, which in (("tensor", 1), ("tensor", 30), ("layer", 4)):
        with tempfile.TemporaryDirectory() as folder:
            faults, daemon = serve(folder, "cards=3", "--split", split)
            with daemon:
                equal(daemon.complete("Hello there", 12, logprobs=3)["choices"], want[0])
                faults.strike("keep=1@%d" % which)
                equal(daemon.complete("Hello there" * 3, 12, logprobs=3)["choices"], want[1],
                      "%s, argument %d" % (split, which))
                wait_until(lambda: daemon.rpc("status")["state"] == "ready", 30, "ready")
                equal([card["state"] for card in daemon.rpc("cards")["cards"]], ["online", "lost", "online"],
                      "%s, argument %d" % (split, which))
                assert "has not said that it ran: its driver took other arguments" in daemon.log()
                equal(daemon.rpc("status")["requests"]["failed"], 0)


@test
def a_card_that_lies_to_the_host_is_lost_and_no_token_is_wrong():
    """What comes to it, or what it says: a way that delivers other bytes, or none, and reports success."""
    want = of_cpu()
    for lie in ("ones=h>1", "stale=h>1", "ones=1>h", "stale=1>h"):
        with tempfile.TemporaryDirectory() as folder:
            with serve(folder, "cards=2 " + lie, "--split", "tensor")[1] as daemon:
                equal(answers(daemon), want, lie)
                equal([card["state"] for card in daemon.rpc("cards")["cards"]], ["online", "lost"], lie)
                equal(daemon.rpc("status")["requests"]["failed"], 0, lie)


@test
def advice_that_is_swallowed_is_found_out_and_changes_no_answer():
    """The kernel was told by octarc, too: weights lie at home, or are not said to."""
    want = of_cpu()
    with tempfile.TemporaryDirectory() as folder:
        with serve(folder, "cards=2 system=0xf deaf=1", "--split", "tensor", environment=with_nodes)[1] as daemon:
            equal(answers(daemon), want)
            equal(daemon.rpc("status")["storage"], "svm")
            for card in daemon.rpc("cards")["cards"]:
                assert card["resident_bytes"] in (None, card["prefetched_bytes"]), card


@test
def a_card_that_has_no_memory_left_costs_no_other():
    want = of_cpu()
    with tempfile.TemporaryDirectory() as folder:
        with serve(folder, "cards=3 limit=1@300K", "--split", "layer")[1] as daemon:
            equal(answers(daemon), want)
            equal([card["state"] for card in daemon.rpc("cards")["cards"]], ["online", "lost", "online"])
            assert "out of the card's memory" in daemon.rpc("status")["cards_why"]


@test
def every_release_of_the_specification_has_the_same_answers():
    """With the host's memory, and without."""
    want = of_cpu()
    for minor in (4, 6, 7, 10, 15):
        for system, storage, how in (("0", "usm", environment), ("0xf", "svm", with_nodes)):
            with tempfile.TemporaryDirectory() as folder:
                with serve(folder, "cards=2 version=1.%d system=%s" % (minor, system), "--split", "tensor",
                           environment=how)[1] as daemon:
                    equal(answers(daemon), want, "1.%d, %s" % (minor, storage))
                    equal(daemon.rpc("status")["storage"], storage)


@test
def a_card_that_is_wedged_from_the_start_is_done_without():
    want = of_cpu()
    with tempfile.TemporaryDirectory() as folder:
        with serve(folder, "cards=2 abort=1", "--split", "layer")[1] as daemon:
            equal(answers(daemon), want)
            equal([card["state"] for card in daemon.rpc("cards")["cards"]], ["online", "lost"])


@test
def a_card_that_hangs_while_a_model_is_loaded_is_named_and_left_out():
    """Another process would wait for it as long: the plan is not tried again."""
    want = of_cpu()
    for options, command in (("", 1), ("", 60), ("system=0xf", 60)):
        with tempfile.TemporaryDirectory() as folder:
            faults, daemon = serve(folder, "cards=3 %s hang=1@%d" % (options, command), "--split", "tensor",
                                   *(["--storage", "svm"] if options else []),
                                   environment=with_nodes if options else environment)
            with daemon:
                equal(answers(daemon), want)
                cards = daemon.rpc("cards")["cards"]
                equal([card["state"] for card in cards], ["online", "fenced", "online"])
                equal(cards[1]["history"][0]["why"],
                      "it was silent while a model was loaded for 2.00 s, its deadline")
                equal(daemon.rpc("status")["generation"], 2)


if __name__ == "__main__":
    main()
