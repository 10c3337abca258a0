#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cards so small that what one holds and what it is to hold do not fit beside each other: a running
engine goes over all the same, inside their memory, at once or wave by wave."""
import json
import os
import re
import subprocess
import threading
import time

from crowd import Crowd, is_whole, say, states, undisturbed
from deep import deep
from harness import BUILD, Daemon, equal, main, note, test, wait_until

CARDS = 4
COMMON = ("--cards", str(CARDS), "--context", "512", "--max-sequences", "16")
# All of a drained card's share fits beside what the others have, but no card two of its shares.
SIZES = {"layer": ("16900K", 1), "tensor": ("30M", 1)}
MIB = 1 << 20
WAY = "a part of the way"


def start(split, size, **more):
    return Daemon(*COMMON, "--split", split, "--card-memory", size, *more.pop("options", ()),
                  model=deep(), rebalance="running", **more)


def planned(split, size, without=None):
    words = ["--split", split, "--card-memory", size]
    words += [] if without is None else ["--without", str(without)]
    done = subprocess.run([os.path.join(BUILD, "octarcd"), "--plan", deep(), *COMMON, *words, "--json"],
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["cards"]


def used(card):
    return sum(card["planned"].values())


def is_tight(split, size, card):
    """No test of anything where both plans' shares fit beside each other."""
    before, after = planned(split, size), planned(split, size, card)
    sums = [used(a) + used(b) for a, b in zip(before, after)]
    capacity = max(c["capacity_bytes"] for c in before)
    assert any(s > capacity for i, s in enumerate(sums) if i != card), (sums, capacity)


def taken(daemon):
    """What the kernel says that the cards' weight memory takes: {card: bytes}."""
    folder, found = "/proc/%d/fd" % daemon.process.pid, {}
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        try:
            match = re.match(r"/memfd:octarc-weights-(\d+)", os.readlink(path))
            if match:
                found[int(match.group(1))] = os.stat(path).st_blocks * 512
        except FileNotFoundError:
            pass
    return found


def has_huge_pages():
    try:
        with open("/sys/kernel/mm/transparent_hugepage/shmem_enabled") as f:
            return not re.search(r"\[(never|deny)\]", f.read())
    except OSError:
        return False


class Account:
    """While it runs, what the weights take is compared with what the cards have besides."""

    def __init__(self, daemon):
        self.daemon, self.over, self.seen = daemon, [], 0
        self.halt = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.halt.wait(0.01):
            sizes, cards = taken(self.daemon), self.daemon.rpc("cards")["cards"]
            self.seen += 1
            for number, size in sizes.items():
                card = cards[number]
                rest = card["actual"]["kv_bytes"] + card["actual"]["scratch_bytes"]
                if size + rest > card["capacity_bytes"] + MIB:
                    self.over.append((number, size, rest))
                if card["planned"] != card["actual"] and card["state"] == "online":
                    self.over.append((number, card["planned"], card["actual"]))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.halt.set()
        self.thread.join()
        assert self.seen and not (self.over and not has_huge_pages()), self.over[:5]


def is_given_back(daemon):
    """What nobody uses any more: weights take what is planned."""
    def settled():
        cards = daemon.rpc("cards")["cards"]
        return all(size <= cards[n]["actual"]["weights_bytes"] + MIB
                   for n, size in taken(daemon).items() if cards[n]["state"] == "online")
    if not has_huge_pages():
        wait_until(settled, 20, "memory that is given back")


def texts(daemon, kind):
    return [e["text"] for e in daemon.rpc("events")["events"] if e["kind"] == kind]


def goes_over(daemon, want, words, what):
    """By itself: the number of orders that it took, and how many of them were on the way."""
    before = len(texts(daemon, "rebalance"))
    with Account(daemon):
        is_whole(daemon, want, lambda: say(daemon, *words), what)
    is_given_back(daemon)
    orders = texts(daemon, "rebalance")[before:]
    equal(daemon.rpc("status")["generation"], 1, what)
    equal(len(texts(daemon, "start")), 1, what)
    return len(orders), sum(WAY in o for o in orders)


@test
def a_card_is_drained_and_taken_back_where_only_the_union_fits():
    for split, (size, card) in SIZES.items():
        is_tight(split, size, card)
        with start(split, size) as daemon:
            want = undisturbed(daemon)
            equal(goes_over(daemon, want, ("drain", str(card), "--wait"), "drained, " + split), (1, 0))
            equal(states(daemon)[card], "drained")
            equal(goes_over(daemon, want, ("online", str(card), "--wait"), "back, " + split), (1, 0))
            equal(states(daemon), ["online"] * CARDS)


@test
def layers_shift_along_the_cards_where_not_even_the_union_fits():
    size = SIZES["layer"][0]
    is_tight("layer", size, 0)
    with start("layer", size) as daemon:
        want = undisturbed(daemon)
        for words in (("drain", "0", "--wait"), ("online", "0", "--wait")):
            orders, ways = goes_over(daemon, want, words, " ".join(words))
            note("%s: %d waves" % (" ".join(words), orders))
            assert orders > 1 and ways == orders - 1, (orders, ways)
        equal(states(daemon), ["online"] * CARDS)


@test
def a_world_that_changes_between_two_waves_loses_nothing():
    """The card that is drained is wanted back as soon as a part of it has gone."""
    with start("layer", SIZES["layer"][0]) as daemon:
        want = undisturbed(daemon)

        def change():
            daemon.rpc("drain", {"card": 0})
            wait_until(lambda: len(texts(daemon, "rebalanced")) > 0, 30, "the first wave")
            if states(daemon)[0] != "online":
                daemon.rpc("online", {"card": 0, "wait": True})
        equal(Crowd(daemon, change).run(), want, "changed between two waves")
        wait_until(lambda: states(daemon) == ["online"] * CARDS, 30, "all cards")
        equal(daemon.rpc("status")["generation"], 1)
        is_given_back(daemon)
        equal(Crowd(daemon).run(), want, "afterwards")


@test
def an_engine_killed_between_two_waves_loses_nothing_that_was_moved():
    with start("layer", SIZES["layer"][0]) as daemon:
        want = undisturbed(daemon)

        def strike():
            daemon.rpc("drain", {"card": 0})
            wait_until(lambda: len(texts(daemon, "rebalanced")) > 0, 30, "the first wave")
            daemon.kill_engine()
            wait_until(lambda: states(daemon)[0] == "drained", 30, "card 0 drained")
        is_whole(daemon, want, strike, "killed between two waves", kills=True)
        ready = [e for e in daemon.rpc("events")["events"] if e["kind"] == "ready"][-1]
        assert ready["reused_bytes"] > ready["reloaded_bytes"], ready
        is_given_back(daemon)


# Full cards: room for what each has in either plan, and not for both.  Lanes are cut anew, or the cards
# take each other's places in the chain.
FULL = {"tensor": ("25M", 1), "hybrid": ("13500K", 0)}
STAGED = re.compile(r", \d+ MiB by way of host memory\): ")


def staged(daemon):
    return [bool(STAGED.search(text)) for text in texts(daemon, "rebalance")]


@test
def full_cards_exchange_what_they_hold_by_way_of_host_memory():
    for split, (size, card) in FULL.items():
        is_tight(split, size, card)
        for config in ("", "[engine]\nweights = private\n"):
            with start(split, size, config=config) as daemon:
                want = undisturbed(daemon)
                for words in (("drain", str(card), "--wait"), ("online", str(card), "--wait")):
                    goes_over(daemon, want, words, "%s, %s" % (split, words[0]))
                equal(states(daemon), ["online"] * CARDS)
                assert any(staged(daemon)), texts(daemon, "rebalance")
                equal(texts(daemon, "no_room"), [])


@test
def whatever_happens_while_full_cards_change_over_loses_nothing():
    size, card = FULL["tensor"]

    def back(daemon):
        daemon.rpc("online", {"card": card})

    def kill(daemon):
        daemon.kill_engine()

    def lose(daemon):
        daemon.rpc("drill", {"fault": "lose", "card": 3})

    for pause in (0, 0.02, 0.1):
        for what in (back, kill, lose):
            with start("tensor", size) as daemon:
                want = undisturbed(daemon)

                def strike(daemon=daemon, pause=pause, what=what):
                    daemon.rpc("drain", {"card": card})
                    time.sleep(pause)
                    what(daemon)
                    wait_until(lambda: "draining" not in states(daemon), 30, "the drain's end")
                told = "%s after %.2f s" % (what.__name__, pause)
                equal(Crowd(daemon, strike).run(), want, told)
                equal(daemon.rpc("status")["requests"]["failed"], 0, told)
                equal(Crowd(daemon).run(), want, "afterwards: " + told)


@test
def where_there_is_no_way_the_engine_is_replaced_and_it_is_said_why():
    """Lanes change in one wave or not at all, and nothing may wait in host memory."""
    size, card = FULL["tensor"]
    is_tight("tensor", size, card)
    with start("tensor", size, config="[engine]\nrebalance_stage = 0\n") as daemon:
        want = undisturbed(daemon)
        is_whole(daemon, want, lambda: say(daemon, "drain", str(card), "--wait"), "no way", kills=True)
        equal(texts(daemon, "rebalance"), [])
        running, beside = texts(daemon, "no_room")
        assert re.match(r"card \d has no room for .* of 25 MiB\), and there is no way in parts \(full cards may "
                        r"exchange 0 MiB at once by rebalance_stage, \d+ would do\)", running), running
        assert re.match(r"card \d has no room for two generations at once", beside), beside


@test
def weights_of_the_engines_own_go_over_in_place_too():
    with start("layer", SIZES["layer"][0], config="[engine]\nweights = private\n") as daemon:
        want = undisturbed(daemon)
        for words in (("drain", "1", "--wait"), ("online", "1", "--wait")):
            is_whole(daemon, want, lambda words=words: say(daemon, *words), " ".join(words))
        equal(daemon.rpc("status")["generation"], 1)


if __name__ == "__main__":
    main()
