#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""octarcd --selftest on simulated cards that execute their kernels (tests/sim_level_zero): what is wrong is
named, and nothing else is."""
import json
import os
import re
import subprocess

from harness import BUILD, STRETCH, complain, equal, main, surroundings, test
from sim_cards import environment, with_nodes

KERNELS = 36
EXCHANGES = 3
SLOW_NS, SLOW_BYTES_S = 20000000, 20000000  # at least, at most; of the driver's word "slow"


def selftest(options, *words, environment=environment):
    """(exit status, stdout)"""
    done = subprocess.run(
        [os.path.join(BUILD, "octarcd"), "--config", os.devnull, "--selftest", *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        timeout=1800 * STRETCH, env=surroundings(environment(options)))
    complain(done.stderr)
    return done.returncode, done.stdout


def report(options, environment=environment):
    status, out = selftest(options, "--json", environment=environment)
    return status, json.loads(out)


def wrong_kernels(card):
    return [k["kernel"] for k in card["kernels"] if k["verdict"] != "same"]


def is_right(link):
    """What crosses it in a step is."""
    return link["exchanges_why"] is None and [e["verdict"] for e in link["exchanges"]] == ["same"] * EXCHANGES


@test
def a_card_that_is_well_is_said_to_be():
    status, made = report("cards=1 memory=256M")
    equal((status, made["well"], made["error"], made["links"]), (0, True, None, []))
    card = made["cards"][0]
    equal((card["slot"], card["why"], card["kernels_why"]), ("0000:03:00.0", None, None))
    equal((len(card["kernels"]), wrong_kernels(card)), (KERNELS, []))
    equal((card["xmx"], card["xmx_why"]), (True, None))
    assert not card["native"] and card["native_why"], card
    equal(wrong_kernels(made["cpu"]), [])
    assert card["memory_bytes"] == 256 << 20 and len(card["id"]) == 32, card
    equal((made["storage"], made["storage_why"]), ("usm", None))
    assert "capabilities 0x0, not 0xf" in made["usm_why"], made["usm_why"]
    driver = made["probe"]["level_zero"]
    equal((driver["driver_version"], driver["api"]), (1, "1.4"))
    assert re.fullmatch(r"1\.\d+\.\d+", driver["loader_version"]), driver


@test
def shared_virtual_memory_is_tried_as_an_engine_does():
    status, made = report("cards=2 memory=256M system=0xf", with_nodes)
    equal((status, made["well"]), (0, True))
    equal((made["storage"], made["usm_why"], made["storage_why"]), ("svm", None, None))


@test
def a_matrix_engine_that_cannot_be_used_is_told_with_the_reason():
    status, made = report("cards=1 memory=256M xmx=claimed")
    card = made["cards"][0]
    equal((status, made["well"], len(card["kernels"]), wrong_kernels(card)), (0, True, KERNELS, []))
    assert not card["xmx"] and "cannot build" in card["xmx_why"], card


@test
def of_eight_cards_the_one_that_lies_and_the_link_that_does_are_named():
    options = "cards=8 memory=256M ones=h>5 ones=1>0 slow=2>3"
    status, made = report(options)
    equal((status, made["well"]), (4, False))
    for card in made["cards"]:
        if card["card"] == 5:
            equal(card["why"],
                  "card 5 cannot be opened: what is written to its memory is not what is read from it")
            equal(card["kernels"], [])
        else:
            equal((card["why"], card["kernels_why"]), (None, None), card["slot"])
            equal((len(card["kernels"]), wrong_kernels(card)), (KERNELS, []))
    links = {(l["from"], l["to"]): l for l in made["links"]}
    equal(len(links), 56)
    for (a, b), link in links.items():
        if 5 in (a, b):
            equal((link["mode"], link["verified"], link["latency_ns"]), (None, False, None))
            equal(link["exchanges"], [], (a, b))
            continue
        assert is_right(link), link
        lies = (a, b) == (1, 0)
        equal((link["mode"], link["verified"]), ("staged" if lies else "direct", True), (a, b))
        equal(link["why"], "it read wrong bytes when it was tried" if lies else None)
        assert link["bytes_per_s"] > 0 and link["latency_ns"] > 0, link
    # What is measured is told, and not what was assumed.
    assert links[2, 3]["latency_ns"] >= SLOW_NS, links[2, 3]
    assert links[2, 3]["bytes_per_s"] <= SLOW_BYTES_S, links[2, 3]
    assert links[3, 2]["bytes_per_s"] > SLOW_BYTES_S, links[3, 2]


@test
def an_argument_that_a_driver_does_not_take_is_a_kernel_that_is_named():
    """Which kernel that is follows from the count of calls; some of them are set again as they were."""
    found = []
    for call in (200, 203, 206, 209):
        status, made = report("cards=1 memory=256M keep=0@%d" % call)
        wrong = wrong_kernels(made["cards"][0])
        equal(status, 4 if wrong or made["cards"][0]["kernels_why"] else 0)
        equal(wrong_kernels(made["cpu"]), [])
        found += wrong
    assert found, "no kernel was found to differ"


@test
def an_argument_that_is_not_taken_in_an_exchange_is_its_links():
    """Each process sets as many before; the one that is not taken loses the card, and the next process goes on."""
    status, made = report("cards=3 memory=256M keep=1@81")
    links = {(l["from"], l["to"]): l for l in made["links"]}
    wrong = [pair for pair, link in links.items() if not is_right(link)]
    equal((status, len(links), made["exchanges_why"]), (4, 6, None))
    assert wrong and all(1 in pair for pair in wrong), wrong
    for pair in wrong:
        assert links[pair]["exchanges_why"].startswith("exchange of "), links[pair]
        assert len(links[pair]["exchanges"]) == EXCHANGES, links[pair]


@test
def a_card_that_hangs_or_ends_whoever_asks_it_is_named_and_the_other_is_tried():
    for fault, why in (("hang=1@716", "did not end within 30 s"),
                       ("abort=1", "ended the process that tried")):
        status, out = selftest("cards=2 memory=256M " + fault)
        equal(status, 4, out)
        said = [line for line in out.splitlines() if line.startswith("wrong: card 1")]
        assert len(said) == 1 and why in said[0], out
        assert "card 0: kernels: %d of %d have the bits of the CPU\n" % (KERNELS, KERNELS) in out, out
        assert out.endswith("Something is wrong: see the lines that say so.\n"), out


if __name__ == "__main__":
    main()
