#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The peer links of simulated cards that execute kernels (tests/sim_level_zero) are measured at the start,
shown, kept over a restart, and measured anew where the box is another one or when that is asked for."""
import contextlib
import itertools
import json
import os
import tempfile

from crowd import say
from harness import Daemon, equal, main, test, tiny
from sim_cards import environment

SLOW_NS, SLOW_BYTES_S = 20000000, 20000000  # at least, at most; of the driver's word "slow"
WRONG = "it read wrong bytes when it was tried"


@contextlib.contextmanager
def serve(state, options, measure_links="changed", *more):
    with Daemon("--backend", "level_zero", "--context", "256", "--split", "layer", *more, model=tiny(),
                env=environment(options), measure_links=measure_links,
                config="[service]\nstate_dir = %s\n" % state) as daemon:
        yield daemon


def links_of(daemon):
    return {(l["from"], l["to"]): l for l in daemon.rpc("cards")["links"]}


def figures(links):
    return {pair: (l["mode"], l["bytes_per_s"], l["latency_ns"], l["measured_ms"])
            for pair, l in links.items()}


@test
def what_is_measured_is_shown_and_kept_until_it_is_measured_anew():
    with tempfile.TemporaryDirectory() as state:
        with serve(state, "cards=3 memory=256M slow=0>1 ones=1>2") as daemon:
            links = links_of(daemon)
            equal(daemon.rpc("cards")["topology"]["measured"], True)
            equal(len(links), 6)
            for pair, link in links.items():
                equal(link["mode"], "staged" if pair == (1, 2) else "direct", pair)
                assert link["bytes_per_s"] > 0 and link["latency_ns"] > 0, link
                assert link["measured_ms"] > 1700000000000, link
            assert links[0, 1]["latency_ns"] >= SLOW_NS, links[0, 1]
            assert links[0, 1]["bytes_per_s"] <= SLOW_BYTES_S < links[1, 0]["bytes_per_s"], links
            equal(links[1, 2]["reason"], WRONG)
            assert "The links were measured on " in say(daemon, "cards")
            assert "6 of 6 peer links were measured" in daemon.log()
            told = [e["text"] for e in daemon.rpc("events")["events"] if e["kind"] == "link"]
            equal(told, ["card 2 takes what card 1 has through host memory: " + WRONG])
            want = figures(links)
        with open(os.path.join(state, "cards.json")) as f:
            equal(len(json.load(f)["links"]["pairs"]), 6)
        # What was wrong and slow is well by now, and nobody looked.
        with serve(state, "cards=3 memory=256M") as daemon:
            equal(figures(links_of(daemon)), want)
            equal(links_of(daemon)[1, 2]["reason"], WRONG)
            assert "were measured before, in the same box" in daemon.log()
        with serve(state, "cards=3 memory=256M", measure_links="never") as daemon:
            equal(figures(links_of(daemon)), want)
        with serve(state, "cards=3 memory=256M", measure_links="always") as daemon:
            links = links_of(daemon)
            equal({l["mode"] for l in links.values()}, {"direct"})
            assert links[0, 1]["bytes_per_s"] > SLOW_BYTES_S, links[0, 1]
            assert all(l["measured_ms"] > want[0, 1][3] for l in links.values()), links
        with serve(state, "cards=2 memory=256M") as daemon:
            assert "2 of 2 peer links were measured" in daemon.log()


@test
def plans_go_around_a_link_that_was_found_slow():
    """Of three cards two are needed, and all that tells them apart is what was measured."""
    for slow in itertools.permutations(range(3), 2):
        with tempfile.TemporaryDirectory() as state:
            with serve(state, "cards=3 memory=256M slow=%d>%d" % slow, "changed", "--card-memory",
                       "1500K") as daemon:
                answer = daemon.rpc("cards")
                order = sorted((c["layers"], c["card"]) for c in answer["cards"]
                               if c["layers"][0] < c["layers"][1])
                cards = [card for _, card in order]
                assert len(cards) > 1, answer
                assert slow not in zip(cards, cards[1:]), (slow, order)
                assert "with the links as measured" in daemon.log(), daemon.log()


@test
def a_link_found_bad_by_an_engine_stays_demoted_over_a_restart():
    with tempfile.TemporaryDirectory() as state:
        with serve(state, "cards=2 memory=256M ones=0>1", measure_links="never") as daemon:
            equal(links_of(daemon)[0, 1]["reason"], WRONG)
        with serve(state, "cards=2 memory=256M", measure_links="never") as daemon:
            link = links_of(daemon)[0, 1]
            equal((link["mode"], link["reason"], link["measured_ms"]), ("staged", WRONG, None))
            equal(links_of(daemon)[1, 0]["mode"], "direct")


@test
def a_driver_that_dies_when_links_are_measured_keeps_no_service_from_starting():
    with tempfile.TemporaryDirectory() as state:
        with serve(state, "cards=2 memory=256M lose=1@160") as daemon:
            assert "peer links are not measured" in daemon.log() or \
                "of 2 peer links were measured" in daemon.log(), daemon.log()
            equal(len(daemon.complete("Once", 4)["choices"]), 1)


if __name__ == "__main__":
    main()
