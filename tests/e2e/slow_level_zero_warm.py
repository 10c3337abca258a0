#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A service on cards that starts again finds its weights on them, in memory that systemd held meanwhile; it believes
nothing of it.  On simulated cards (tests/sim_level_zero), where memory that anyone holds counts as used."""
import contextlib
import os
import signal
import struct
import tempfile

from harness import Daemon, equal, main, test, tiny, wait_until
from manager import Manager
from sim_cards import environment

CARDS = 2
MODEL = "tiny-f32"
PROMPT = "Once upon a time in a small village"
SPARE = 64 << 10  # bytes of a card


class Box:
    """Cards, the manager that outlives the services on them, and what one answered."""

    def __init__(self, memory="256M"):
        self.folder = tempfile.TemporaryDirectory()
        self.manager = Manager()
        self.words = "cards=%d memory=%s box=%s" % (CARDS, memory, os.path.basename(self.folder.name))

    def __enter__(self):
        self.manager.__enter__()
        return self

    def __exit__(self, *error):
        self.manager.__exit__(*error)
        self.folder.cleanup()

    def start(self, *options, split="tensor", context=256, config="", words="", **more):
        return Daemon("--backend", "level_zero", "--context", str(context), "--split", split, *options,
                      model=tiny(MODEL), env=environment(self.words + words), popen=self.manager.start,
                      config="[service]\ndrill = yes\n" + config, **more)

    def names(self):
        """How many of each card, and of checksums."""
        found = {}
        for name, n in self.manager.names().items():
            kind = name if name == "octarc-sums" else name[:len("octarc-card-0")]
            found[kind] = found.get(kind, 0) + n
        return found

    def all_are_kept(self):
        wait_until(lambda: self.names() == ALL, 20, "keeping the weights")

    def card(self, number):
        """The name of its memory."""
        found = [name for name in self.manager.names() if name.startswith("octarc-card-%d-" % number)]
        equal(len(found), 1)
        return found[0]


ALL = dict({"octarc-sums": 1}, **{"octarc-card-%d" % i: 1 for i in range(CARDS)})


def answer(daemon):
    choice = daemon.complete(PROMPT, 40, logprobs=3)["choices"][0]
    return choice["text"], choice["logprobs"]


def events(daemon, kind):
    return [e for e in daemon.rpc("events", {"since": 0})["events"] if e["kind"] == kind]


def bytes_of_start(daemon):
    """(read, found on the cards)"""
    ready = events(daemon, "ready")[-1]
    return ready["reloaded_bytes"], ready["reused_bytes"]


def reused(daemon):
    return [c["reused"] for c in daemon.rpc("cards")["cards"]]


def crash(daemon):
    os.kill(daemon.process.pid, signal.SIGKILL)
    daemon.process.wait()
    wait_until(lambda: not daemon.engines(), 20, "its engine's end")
    daemon.kill()
    daemon.stop = lambda: None  # it has ended


@contextlib.contextmanager
def left(memory="256M", **more):
    """A box whose cards hold what a service left on them that crashed, and what that one answered."""
    with Box(memory) as box:
        with box.start(**more) as daemon:
            want = answer(daemon)
            box.bytes = [c["actual"] for c in daemon.rpc("cards")["cards"]]
            equal(reused(daemon), [False] * CARDS)
            box.all_are_kept()
            crash(daemon)
        yield box, want


@test
def after_a_crash_and_after_a_restart_nothing_is_read():
    with left() as (box, want):
        for end in (crash, Daemon.stop, crash):
            with box.start() as daemon:
                equal(reused(daemon), [True] * CARDS)
                equal(bytes_of_start(daemon), (0, daemon.rpc("status")["weights_bytes"]))
                equal([(e["card"], e["reloaded_bytes"]) for e in events(daemon, "kept")],
                      [(i, 0) for i in range(CARDS)])
                assert all("MiB of the weights that the service before left on it, read 0.0 MiB anew" in e["text"]
                           for e in events(daemon, "kept")), events(daemon, "kept")
                equal(answer(daemon), want)
                box.all_are_kept()
                if end is crash:
                    crash(daemon)


@test
def harmed_memory_is_read_again_and_only_that():
    with left() as (box, want):
        fd = box.manager.kept[box.card(1)][0]  # the simulated card's own memory
        at = box.bytes[1]["weights_bytes"] // 2
        byte, = os.pread(fd, 1, at)
        os.pwrite(fd, bytes([byte ^ 0x10]), at)
        with box.start() as daemon:
            equal(reused(daemon), [True, False])
            read, found = bytes_of_start(daemon)
            assert 0 < read < box.bytes[1]["weights_bytes"], read
            equal(answer(daemon), want)
            equal(daemon.rpc("check")["harmed"], 0)


def move_numbers(box):
    """The cards' memory comes back under each other's numbers."""
    names = [box.card(i) for i in range(CARDS)]
    kept = [box.manager.kept.pop(name) for name in names]
    before = len("octarc-card-0")
    for i in range(CARDS):
        box.manager.kept[names[i][:before] + names[1 - i][before:]] = kept[i]


@test
def memory_of_another_card_is_none():
    with left() as (box, want):
        move_numbers(box)
        with box.start() as daemon:
            equal(reused(daemon), [False] * CARDS)
            equal((daemon.rpc("status")["generation"], events(daemon, "unheld")), (1, []), "it was not even tried")
            equal(answer(daemon), want)
            box.all_are_kept()


@test
def what_is_of_no_use_is_let_go_before_an_engine_needs_the_room():
    """Each card has room for the plan, and not for what is left beside it; who holds that takes a while to let it go."""
    tight = {"context": 512}  # more than what the links are tried with
    with Box() as box:
        counters = os.path.join(box.folder.name, "counters")
        with box.start(words=" counters=" + counters, **tight) as daemon:
            answer(daemon)
            with open(counters, "rb") as f:
                used = struct.unpack("<24Q", f.read())[16:]
    with left(memory="/".join(str(used[i] + SPARE) for i in range(CARDS)), **tight) as (box, want):
        assert all(area["weights_bytes"] > 2 * SPARE for area in box.bytes), box.bytes
        move_numbers(box)
        box.manager.slow = 0.5
        with box.start(**tight) as daemon:
            equal(reused(daemon), [False] * CARDS)
            equal(daemon.rpc("status")["generation"], 1)
            equal(answer(daemon), want)
            box.manager.slow = 0
            box.all_are_kept()


@test
def another_plan_uses_what_it_has_of_it():
    with left() as (box, want):
        with box.start(split="layer") as daemon:
            read, found = bytes_of_start(daemon)
            assert read > 0, (read, found)
            equal(daemon.rpc("status")["generation"], 1)
            equal(answer(daemon), want)
            box.all_are_kept()
        with box.start(split="layer") as daemon:
            equal(bytes_of_start(daemon)[0], 0)
            equal(answer(daemon), want)


@test
def a_card_that_refuses_it_has_it_made_anew():
    with left() as (box, want):
        with box.start(words=" noimport=1", deaths="is gone: ") as daemon:
            equal(answer(daemon), want)
            equal(reused(daemon), [True, False])
            box.all_are_kept()


@test
def a_lost_cards_memory_is_let_go_and_a_service_without_any_reads_the_file():
    with left() as (box, want):
        with box.start(deaths="is gone: ") as daemon:
            daemon.rpc("drill", {"fault": "lose", "card": 1})
            wait_until(lambda: "octarc-card-1" not in box.names(), 20, "its memory is let go")
            wait_until(lambda: daemon.rpc("status")["state"] == "ready", 60, "the next engine")
            equal(answer(daemon), want)
        with box.start(config="warm_restart = no\n") as daemon:
            equal(box.names(), {})
            equal(reused(daemon), [False] * CARDS)
            equal(answer(daemon), want)


if __name__ == "__main__":
    main()
