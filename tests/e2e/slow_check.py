#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Weights that are harmed while they are in use: found, read again, and under sixteen streams no token
is another."""
import os
import shutil
import tempfile
from itertools import product

from crowd import PROMPT, STREAMS, WAYS, Crowd, corrupt, say, start, states, undisturbed
from harness import Daemon, RpcError, equal, main, test, tiny, wait_until

CLEAN = {"temperature": 0, "ignore_eos": True}


def harmed(daemon):
    return [e for e in daemon.rpc("events")["events"] if e["kind"] == "harmed"]


def counter(daemon, name):
    for line in daemon.rpc("metrics")["text"].splitlines():
        if line.startswith("octarc_%s " % name):
            return int(line.split()[1])
    raise AssertionError("no counter " + name)


@test
def sixteen_streams_end_the_same_whichever_card_reports_harm():
    for split, way in product(("layer", "tensor"), WAYS):
        with start("--split", split, rebalance=way) as daemon:
            want = undisturbed(daemon)
            for card in range(4):
                before = daemon.rpc("status")
                got = Crowd(daemon, lambda: corrupt(daemon, card)).run()
                equal(got, want, "card %d, %s, %s" % (card, split, way))
                after = daemon.rpc("status")
                equal(after["generation"], before["generation"], "generation")
                equal(after["requests"]["failed"], 0, "failed requests")
                wait_until(lambda: [e["card"] for e in harmed(daemon)] == list(range(card + 1)), 30,
                           "the harm of card %d" % card)
            equal([c["faults"]["corrupt"] for c in daemon.rpc("cards")["cards"]], [1] * 4)
            equal(counter(daemon, "ranges_harmed_total"), 4)
            equal(counter(daemon, "ranges_repaired_total"), 4)
            assert counter(daemon, "replays_total") >= STREAMS, "nothing was computed again"


@test
def what_a_card_keeps_to_itself_is_found_by_a_check_and_leaves_no_trace():
    with start("--split", "layer") as daemon:
        quiet = daemon.rpc("check")
        equal((quiet["harmed"], len(quiet["cards"])), (0, 4))
        equal([c["bytes"] > 0 and c["ranges"] > 0 for c in quiet["cards"]], [True] * 4)
        want = daemon.rpc("complete", dict(CLEAN, prompt=PROMPT * 8, max_tokens=24))["choices"]
        daemon.rpc("check")  # also with pages that are shared
        for card in range(4):
            equal(daemon.client("drill", "corrupt", str(card), "--silent"), (0, "", ""))
        # Other pages than the clean ones: computed with what was harmed, and shared.
        other = dict(CLEAN, prompt="But " + PROMPT * 8, max_tokens=24)
        wrong = daemon.rpc("complete", other)["choices"]
        equal(harmed(daemon), [], "nobody has told yet")
        status, out, err = daemon.client("check", "2")
        equal((status, err), (1, ""), "octarc check 2")
        equal([row.split()[0] for row in out.splitlines()], ["CARD", "2"])
        equal(out.splitlines()[1].split()[-2:], ["1", "1"], "harmed, repaired")
        status, out, err = daemon.client("--json", "check")
        equal((status, err), (1, ""), "octarc check")
        assert '"harmed": 3, "repaired": 3' in out, out
        equal(daemon.client("check")[0], 0, "all is repaired")
        equal(daemon.rpc("complete", dict(CLEAN, prompt=PROMPT * 8, max_tokens=24))["choices"], want)
        with start("--split", "layer") as fresh:
            right = fresh.rpc("complete", other)["choices"]
        equal(daemon.rpc("complete", other)["choices"], right, "of pages with harm")
        assert wrong != right, "the harm was not felt"
        assert all("last known whole" in e["text"] and e["tensor"] for e in harmed(daemon))


@test
def the_scrub_comes_round_beside_streams():
    with start(config="scrub = 1\n") as daemon:
        wait_until(lambda: counter(daemon, "scrubs_total") > 1, 30, "a scrub")

        def harm():
            say(daemon, "drill", "corrupt", "1", "--silent")
            wait_until(lambda: harmed(daemon), 30, "the scrub's finding")
        Crowd(daemon, harm).run()  # what had been sent cannot be taken back
        equal([e["card"] for e in harmed(daemon)], [1])
        equal(daemon.rpc("check")["harmed"], 0)
        equal(daemon.rpc("status")["requests"]["failed"], 0)


@test
def a_card_that_is_harmed_again_and_again_is_quarantined():
    for way in WAYS:
        with start(config="[service]\ncard_faults = 3\n", rebalance=way) as daemon:
            want = undisturbed(daemon)

            def strike():
                for i in range(3):
                    corrupt(daemon, 2)
                    wait_until(lambda: len(harmed(daemon)) == i + 1, 30, "harm %d" % i)
                wait_until(lambda: daemon.rpc("status")["state"] == "ready" and
                           daemon.rpc("cards")["cards"][2]["actual"]["weights_bytes"] == 0,
                           30, "the others")
            equal(Crowd(daemon, strike).run(), want, way)
            equal(states(daemon), ["online", "online", "quarantined", "online"])
            equal(say(daemon, "online", "2", "--wait"), "card 2 is online\n")
            equal(daemon.rpc("check")["harmed"], 0)


@test
def harm_in_the_middle_of_a_drain_calls_nothing_off():
    for way in WAYS:
        with start("--split", "tensor", rebalance=way) as daemon:
            want = undisturbed(daemon)

            def strike():
                daemon.rpc("drain", {"card": 3})
                if way == "running":
                    corrupt(daemon, 1)
                wait_until(lambda: states(daemon)[3] == "drained", 30, "the drain")
                if way == "restart":
                    corrupt(daemon, 1)
            equal(Crowd(daemon, strike).run(), want, way)
            wait_until(lambda: [e["card"] for e in harmed(daemon)] == [1], 30, "the harm")
            equal(states(daemon), ["online", "online", "online", "drained"])
            equal(daemon.rpc("check")["harmed"], 0)


@test
def what_the_file_does_not_hold_any_more_ends_with_its_name():
    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copy(tiny(), os.path.join(folder, "edited.gguf"))
        with Daemon("--cards", "2", "--context", "512", model=path,
                    deaths="changed since it was opened") as daemon:
            with open(path, "r+b") as f:  # the header is kept by the service
                rest = f.read()
                f.seek(0)
                f.write(bytes(b ^ 1 for b in rest))
            say(daemon, "drill", "corrupt", "1")
            wait_until(lambda: daemon.rpc("status")["state"] != "ready", 30, "its end")
            try:
                daemon.rpc("complete", dict(CLEAN, prompt=PROMPT, max_tokens=4))
                raise AssertionError("harmed weights were computed with")
            except RpcError as error:
                for part in ("edited.gguf changed since it was opened", "tensor '"):
                    assert part in str(error), error
            equal(harmed(daemon), [], "nothing was repaired")


@test
def a_check_ends_after_a_card_without_work_was_lost():
    with start("--cards", "8", rebalance="running") as daemon:
        cards = daemon.rpc("cards")["cards"]
        idle = [c["card"] for c in cards if not sum(c["actual"].values())]
        daemon.rpc("drill", {"fault": "lose", "card": idle[0]})
        wait_until(lambda: states(daemon)[idle[0]] == "lost", 10, "the loss")
        assert not daemon.rpc("check")["harmed"]
        daemon.rpc("drill", {"fault": "corrupt", "card": 0, "silent": True})
        assert daemon.rpc("check")["harmed"], "harm was not found"


if __name__ == "__main__":
    main()
