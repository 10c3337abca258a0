#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A service that starts again finds its weights where systemd kept them, believes nothing of it, and
answers as one that has read the file."""
import contextlib
import fcntl
import os
import shutil
import signal
import struct

from harness import Daemon, equal, main, note, test, tiny, wait_until
from manager import Manager

CARDS = 4
CARD_BYTES = 64 << 20
ROOM = 2 * CARD_BYTES  # addresses of a card's weight memory
SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
ALL = {"octarc-sums": 1, **{"octarc-weights-%d" % i: 1 for i in range(CARDS)}}


def start(manager, *options, cards=CARDS, model=None, config="", **more):
    return Daemon("--cards", str(cards), "--card-memory", str(CARD_BYTES), "--context", "256",
                  *options,
                  model=model or tiny(), config=config, popen=manager.start, **more)


def answer(daemon):
    return daemon.complete("Once upon a time", 24, ignore_eos=True)["choices"]


def reused(daemon):
    return [c["reused"] for c in daemon.rpc("cards")["cards"]]


def bytes_of_start(daemon):
    """(read, found in memory), as the engine said when it was ready."""
    ready = [e for e in daemon.rpc("events")["events"] if e["kind"] == "ready"][-1]
    return ready["reloaded_bytes"], ready["reused_bytes"]


def held(daemon):
    return [c["actual"]["weights_bytes"] for c in daemon.rpc("cards")["cards"]]


def crash(daemon):
    os.kill(daemon.process.pid, signal.SIGKILL)
    daemon.process.wait()


@contextlib.contextmanager
def left(**more):
    """A manager with what a service left that crashed, and what that one had answered."""
    with Manager() as manager:
        with start(manager, **more) as daemon:
            want = answer(daemon)
            manager.held = held(daemon)
            equal(reused(daemon), [False] * CARDS)
            wait_until(lambda: manager.names() == ALL, 10, "keeping the weights")
            crash(daemon)
            daemon.kill()
            daemon.stop = lambda: None  # it has ended
        yield manager, want


def flip(fd, at):
    byte, = os.pread(fd, 1, at)
    os.pwrite(fd, bytes([byte ^ 0x10]), at)


def harm(manager, card, part):
    """A bit of what a first load leaves in the card's memory: its header, and ranges without holes."""
    flip(manager.kept["octarc-weights-%d" % card][0], int(manager.held[card] * part))


def memory(size, seals=SEALS, name="other"):
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@test
def after_a_crash_and_after_a_stop_nothing_is_read():
    with left() as (manager, want):
        before = manager.inodes()
        for end in (crash, Daemon.stop, crash):
            with start(manager) as daemon:
                equal(reused(daemon), [True] * CARDS)
                read, found = bytes_of_start(daemon)
                equal((read, found), (0, daemon.rpc("status")["weights_bytes"]))
                equal(daemon.rpc("status")["reused_bytes"], found)
                equal(answer(daemon), want)
                assert "MiB of weights that the service before left in memory are whole" in daemon.log()
                end(daemon)
                daemon.kill()
                daemon.stop = lambda: None
            equal(manager.inodes(), before)
            equal(manager.removed, [])


@test
def harmed_memory_is_read_again_and_only_that():
    with left() as (manager, want):
        for card, part in ((2, 0.5), (0, 0.97), (1, 0.6), (3, 0.0)):
            harm(manager, card, part)
            with start(manager) as daemon:
                equal(reused(daemon), [i != card for i in range(CARDS)])
                read, found = bytes_of_start(daemon)
                assert 0 < read < manager.held[card] or (part == 0 and read == manager.held[card]), read
                equal(answer(daemon), want)
                assert "in memory for card %d are not what they were" % card in daemon.log()
                equal(daemon.rpc("check")["harmed"], 0)
                crash(daemon)
                daemon.kill()
                daemon.stop = lambda: None
        with start(manager) as daemon:
            equal(reused(daemon), [True] * CARDS)
            equal(answer(daemon), want)


def other_weights(path, like_before):
    """Another model in the same place: half of what is behind the first tensors has another sign."""
    info = os.stat(path)
    with open(path, "r+b") as f:
        f.seek(info.st_size // 2)
        data = bytearray(f.read())
        at = 3 - info.st_size // 2 % 4 + 4
        data[at::8] = bytes(byte ^ 0x80 for byte in data[at::8])
        f.seek(info.st_size // 2)
        f.write(data)
    ns = info.st_mtime_ns if like_before else info.st_mtime_ns + 1
    os.utime(path, ns=(info.st_atime_ns, ns))


@test
def a_model_file_that_was_edited_is_read():
    with Manager() as manager:
        model = os.path.join(manager.folder.name, "m.gguf")
        shutil.copy(tiny(), model)
        with left_of(manager, model) as want:
            other_weights(model, like_before=False)
            cold = cold_answer(model)
            with start(manager, model=model) as daemon:
                equal(reused(daemon), [False] * CARDS)
                equal(answer(daemon), cold)
                assert "are not of this model file as it is now" in daemon.log()
            equal(sorted(manager.hear().removed), sorted(ALL))
            equal(manager.names(), ALL)
            assert cold != want, "the edit made no difference"


@contextlib.contextmanager
def left_of(manager, model):
    with start(manager, model=model) as daemon:
        want = answer(daemon)
        manager.held = held(daemon)
        wait_until(lambda: manager.names() == ALL, 10, "keeping the weights")
    yield want


def cold_answer(model):
    with Daemon("--cards", str(CARDS), "--card-memory", "64M", "--context", "256",
                model=model) as daemon:
        return answer(daemon)


@test
def what_is_read_beside_memory_that_was_left_is_the_file_of_then():
    """The file looks as it did, and its checksums tell: two states of it are never mixed."""
    with Manager() as manager:
        model = os.path.join(manager.folder.name, "m.gguf")
        shutil.copy(tiny(), model)
        with left_of(manager, model) as want:
            other_weights(model, like_before=True)
            with start(manager, model=model) as daemon:  # all is whole: what was loaded is served
                equal(reused(daemon), [True] * CARDS)
                equal(answer(daemon), want)
            for card in range(CARDS):
                harm(manager, card, 0.5)
            cold = cold_answer(model)
            with start(manager, model=model, deaths="changed since it was opened") as daemon:
                equal(reused(daemon), [False] * CARDS)
                equal(daemon.rpc("status")["generation"], 2)
                equal(answer(daemon), cold)
                assert cold != want, "the edit made no difference"
            equal(manager.names(), ALL)


@test
def another_plan_keeps_what_it_has_of_it_and_drops_other_cards():
    with left() as (manager, want):
        before = manager.inodes()
        with start(manager, cards=2) as daemon:
            equal(reused(daemon), [False] * 2)
            equal(answer(daemon), want)
            wait_until(lambda: len(manager.names()) == 3, 10, "keeping the weights")
            equal(manager.names(), {n: 1 for n in ("octarc-sums", "octarc-weights-0",
                                                   "octarc-weights-1")})
            equal(sorted(set(manager.removed)), ["octarc-weights-2", "octarc-weights-3"])
            equal(manager.inodes(), {n: before[n] for n in manager.names()})
            read, found = bytes_of_start(daemon)
            assert read > 0 and found > 0, (read, found)
        with start(manager, "--split", "tensor", cards=2) as daemon:
            equal(reused(daemon), [False] * 2)
            equal(answer(daemon), want)


@test
def nothing_that_is_not_such_memory_is_used():
    with left() as (manager, want):
        name = "octarc-weights-1"
        size = os.fstat(manager.kept[name][0]).st_size
        folder = manager.folder.name
        with open(os.path.join(folder, "file"), "wb") as f:
            f.truncate(size)
        made = {
            "a file": lambda: os.open(os.path.join(folder, "file"), os.O_RDWR),
            "a device": lambda: os.open("/dev/zero", os.O_RDWR),
            "a pipe": lambda: os.pipe2(os.O_CLOEXEC)[0],
            "memory that may shrink": lambda: memory(size, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL),
            "memory that cannot be written": lambda: memory(size, SEALS | fcntl.F_SEAL_WRITE),
            "memory of another size": lambda: memory(size + 4096),
            "empty memory": lambda: memory(size),
            "memory of another card": lambda: os.dup(manager.kept["octarc-weights-2"][0]),
            "memory to read": lambda: os.open("/proc/self/fd/%d" % manager.kept[name][0],
                                              os.O_RDONLY),
        }
        for what, make in made.items():
            fd = make()
            manager.drop(name)
            manager.put(name, fd)
            with start(manager) as daemon:
                note(what)
                equal(answer(daemon), want)
                assert not reused(daemon)[1], what
                wait_until(lambda: manager.names() == ALL, 10, "keeping " + what)
        manager.put(name, memory(size))  # two of that name
        manager.put("stored", os.open("/dev/null", os.O_RDONLY))
        manager.put("octarc-weights-9", memory(size))
        with start(manager) as daemon:
            equal(reused(daemon), [True, False, True, True])
            equal(answer(daemon), want)
            equal(daemon.log().count("from systemd"), 3)
            wait_until(lambda: manager.names() == ALL, 10, "order")
            assert {"stored", "octarc-weights-9", name} <= set(manager.removed), manager.removed


@test
def checksums_that_are_no_checksums_are_of_no_use_and_neither_is_the_rest():
    with left() as (manager, want):
        for damage in (lambda fd: flip(fd, 100), lambda fd: os.ftruncate(fd, 60),
                       lambda fd: os.ftruncate(fd, 0), lambda fd: flip(fd, 30),
                       lambda fd: os.pwrite(fd, struct.pack("<Q", 1 << 60), 8)):
            damage(manager.kept["octarc-sums"][0])
            with start(manager) as daemon:
                equal(reused(daemon), [False] * CARDS)
                equal(answer(daemon), want)
                wait_until(lambda: manager.names() == ALL, 10, "keeping the weights")
        manager.drop("octarc-sums")
        with start(manager) as daemon:
            equal(reused(daemon), [False] * CARDS)
            equal(answer(daemon), want)


@test
def what_a_lost_card_held_is_dropped_at_once_and_what_follows_is_kept():
    for way in ("running", "restart"):
        with left(rebalance=way) as (manager, want):
            with start(manager, rebalance=way) as daemon:
                equal(reused(daemon), [True] * CARDS)
                equal(manager.hear().removed, [])
                before = manager.inodes()
                daemon.rpc("drill", {"fault": "lose", "card": 2})
                assert "octarc-weights-2" in manager.hear().removed, manager.removed
                wait_until(lambda: daemon.rpc("status")["state"] == "ready" and
                           daemon.rpc("cards")["cards"][2]["state"] == "lost" and
                           set(manager.names()) == set(ALL) - {"octarc-weights-2"}, 20, "the rest")
                equal(answer(daemon), want)
                now = manager.inodes()
                for card in (0, 1, 3):
                    name = "octarc-weights-%d" % card
                    equal(os.fstat(manager.kept[name][0]).st_size, ROOM)
                    equal(now[name], before[name])
                crash(daemon)
                daemon.kill()
                daemon.stop = lambda: None
            with start(manager, rebalance=way) as daemon:  # lost cards are tried again
                equal(answer(daemon), want)
                wait_until(lambda: manager.names() == ALL, 10, "keeping the weights")


@test
def an_operator_may_do_without():
    for config in ("[service]\nwarm_restart = no\n", "weights = private\n"):
        with left() as (manager, want):
            for _ in range(2):
                with start(manager, config=config) as daemon:
                    equal(reused(daemon), [False] * CARDS)
                    equal(answer(daemon), want)
                    equal(manager.names(), {})
        with Manager() as manager:
            with start(manager, config=config) as daemon:
                equal(answer(daemon), want)
                equal(manager.names(), {})


if __name__ == "__main__":
    main()
