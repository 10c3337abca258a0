#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The kernel's events take simulated cards away and bring them back, while requests run: those of the cpu
backend, and those of a driver (tests/sim_level_zero).

Needs umockdev: it stands between octarcd and the kernel, and what is sent to the socket that it keeps
in the place of the kernel's arrives as if the kernel had said it.
"""
import contextlib
import glob
import json
import os
import socket
import struct
import tempfile

from crowd import PROMPT, WAYS, is_whole, say, states, undisturbed
import kernel_box
from harness import Daemon, Skip, equal, main, test, tiny, wait_until
from sim_cards import DEATHS, Faults, environment

PRELOAD = glob.glob("/usr/lib/*/libumockdev-preload.so.0")
SLOTS = ["0000:%02x:00.0" % (0x14 + 3 * i) for i in range(4)]
PORT = "/devices/pci0000:00/0000:00:01.0/0000:10:00.0/"


class Kernel:
    """One that says what the test wants: folder is umockdev's, path() where a card's device is."""

    def send(self, datagram):
        listeners = glob.glob(os.path.join(self.folder, "event[0-9]*"))
        assert listeners, "octarcd does not listen"
        for path in listeners:
            with socket.socket(socket.AF_UNIX, socket.SOCK_RAW) as s:
                s.sendto(datagram, path)

    def tell(self, action, card, node=None, **keys):
        path = self.path(card) + ("/drm/" + node if node else "")
        keys = {"ACTION": action, "DEVPATH": path, "SUBSYSTEM": "drm" if node else "pci",
                **({} if node else {"PCI_CLASS": "30000"}), **keys, "SEQNUM": "4711"}
        body = b"".join(b"%s=%s\0" % (k.encode(), v.encode()) for k, v in keys.items())
        self.send(b"%s@%s\0" % (action.encode(), path.encode()) + body)
        self.send(b"libudev\0" + struct.pack(">I", 0xfeedcafe) +
                  struct.pack("=III", 40, 40, len(body)) + bytes(16) + body)

    def is_in(self, card, state):
        wait_until(lambda: states(self.daemon)[card] == state, 30, "card %d %s" % (card, state))

    def why(self, card):
        return self.daemon.rpc("cards")["cards"][card]["history"][-1]["why"]


class Box(Kernel):
    """Four simulated cards in slots."""

    def __init__(self, rebalance, config="card_quiet = 0\n"):
        if not PRELOAD:
            raise Skip("umockdev is not installed")
        self.made = tempfile.TemporaryDirectory(prefix="octarc-uevents-")
        self.folder = self.made.name
        os.makedirs(os.path.join(self.folder, "sys"))
        topology = os.path.join(self.folder, "box.json")
        with open(topology, "w") as f:
            json.dump({"cards": [{"slot": slot, "memory_mib": 64} for slot in SLOTS]}, f)
        self.daemon = Daemon(
            "--context", "512", "--topology", topology, model=tiny(), rebalance=rebalance,
            config="[service]\n" + config,
            env={"LD_PRELOAD": PRELOAD[0], "UMOCKDEV_DIR": self.folder})

    def __enter__(self):
        return self.daemon.__enter__() and self

    def __exit__(self, *how):
        try:
            self.daemon.__exit__(*how)
        finally:
            self.made.cleanup()

    def path(self, card):
        return PORT + SLOTS[card]


class Driven(Kernel):
    """Three cards that the kernel shows and a driver drives, and what happens to them."""

    def __init__(self, folder, faults, daemon):
        self.folder, self.faults, self.daemon = folder, faults, daemon

    def path(self, card):
        return kernel_box.path_of(card)


@contextlib.contextmanager
def driven():
    with kernel_box.shown(kernel_box.make_cards(3)) as folder, tempfile.TemporaryDirectory() as own:
        faults = Faults(own)
        env = kernel_box.seen_in(folder, environment("cards=3 memory=256M faults=" + faults.path))
        with Daemon("--backend", "level_zero", "--split", "layer", "--context", "512", model=tiny(), env=env,
                    deaths=DEATHS, config="[service]\ncard_quiet = 0\ncard_faults = 64\n") as daemon:
            yield Driven(folder, faults, daemon)


@test
def a_card_goes_and_returns_under_sixteen_streams():
    for way in WAYS:
        with Box(way) as box:
            want = undisturbed(box.daemon)

            def unplug():
                box.tell("remove", 2, "renderD130")
                box.tell("remove", 2, "card2")
                box.tell("remove", 2)
                box.is_in(2, "lost")
            is_whole(box.daemon, want, unplug, "unplugged")
            equal(box.why(2), "its driver let go of it")
            equal(box.daemon.rpc("cards")["cards"][2]["faults"]["lost"], 1, "faults")

            def plug():
                box.tell("add", 2)  # on the bus alone it is of no use yet
                box.tell("add", 2, "card2")
                box.tell("add", 2, "renderD130")
            is_whole(box.daemon, want, plug, "plugged in")
            box.is_in(2, "online")
            equal(states(box.daemon), ["online"] * 4)


# What the kernel may say of a card that its driver gave up, and what becomes of the card.
WEDGED = {"none": "lost", "rebind": "lost", "bus-reset": "lost", "rebind,bus-reset": "lost", "unknown": "lost",
          "vendor-specific": "quarantined", "cold-reset": "quarantined",
          "vendor-specific,cold-reset": "quarantined", "tomorrow": "lost"}


@test
def every_way_of_being_wedged_is_told_with_what_to_do():
    table = [("none", "octarc online"),
             ("rebind", "echo %s > /sys/bus/pci/drivers/xe/bind"),
             ("bus-reset", "echo 1 > /sys/bus/pci/devices/%s/reset"),
             ("rebind,bus-reset", "echo %s > /sys/bus/pci/drivers/xe/bind"),
             ("unknown", "else restart the machine"),
             ("vendor-specific", "fwupdmgr update"),
             ("cold-reset", "switch the machine off and on")]
    with Box("running", "card_quiet = 0\ncard_faults = 64\n") as box:
        want = box.daemon.complete(PROMPT)["choices"][0]["text"]
        for ways, remedy in table:
            state = WEDGED[ways]
            box.tell("change", 1, "card1", WEDGED=ways)
            box.is_in(1, state)
            assert box.why(1).startswith("its driver gave it up: "), box.why(1)
            told = [line for line in box.daemon.log().splitlines() if "to bring card 1 back: " in line]
            assert (remedy % SLOTS[1] if "%" in remedy else remedy) in told[-1], told
            equal(box.daemon.complete(PROMPT)["choices"][0]["text"], want, "after " + ways)
            if state == "quarantined":  # its driver's word is not enough
                box.tell("add", 1, "card1")
                box.tell("remove", 3, "card3")
                box.is_in(3, "lost")  # what was said before it was heard
                equal(states(box.daemon)[1], state)
                box.tell("add", 3, "card3")
                say(box.daemon, "online", "--wait", "1")
            else:
                box.tell("add", 1, "card1")
            wait_until(lambda: states(box.daemon) == ["online"] * 4, 30, "all online")


@test
def a_driven_card_goes_and_returns_under_sixteen_streams():
    """Its driver loses it as the kernel says so, or a moment later than that, or before."""
    for first in ("kernel", "driver"):
        with driven() as box:
            want = undisturbed(box.daemon)

            def unplug():
                if first == "driver":
                    box.faults.strike("lose=1")
                box.tell("remove", 1, "renderD129")
                box.tell("remove", 1, "card1")
                box.tell("remove", 1)
                box.faults.strike("lose=1")
                box.is_in(1, "lost")
            is_whole(box.daemon, want, unplug, "unplugged, %s first" % first)
            equal(states(box.daemon), ["online", "lost", "online"])

            def plug():
                box.faults.strike("")
                box.tell("add", 1)
                box.tell("add", 1, "card1")
                box.tell("add", 1, "renderD129")
            is_whole(box.daemon, want, plug, "plugged in")
            box.is_in(1, "online")
            equal(states(box.daemon), ["online"] * 3)


@test
def a_driven_card_that_is_wedged_in_any_way_is_done_without():
    """Whoever asks it is ended by the driver, so it must not be asked."""
    with driven() as box:
        want = box.daemon.complete(PROMPT)["choices"][0]["text"]
        for ways, state in WEDGED.items():
            box.faults.strike("abort=1")
            box.tell("change", 1, "card1", WEDGED=ways)
            box.is_in(1, state)
            equal(box.daemon.complete(PROMPT)["choices"][0]["text"], want, "after " + ways)
            equal(states(box.daemon), ["online", state, "online"])
            box.faults.strike("")
            if state == "quarantined":
                say(box.daemon, "online", "--wait", "1")
            else:
                box.tell("add", 1, "card1")
            wait_until(lambda: states(box.daemon) == ["online"] * 3, 30, "all online after " + ways)
        equal(box.daemon.rpc("status")["requests"]["failed"], 0)


@test
def what_is_no_news_of_a_card_changes_nothing():
    with Box("running") as box:
        before = box.daemon.rpc("events")["events"]
        box.send(b"nonsense")
        box.send(b"libudev\0" + bytes(32))
        box.send(b"remove@" + b"x" * 9000)
        box.tell("remove", 0, PCI_CLASS="10802")  # a disk
        box.tell("change", 0, "card0", HOTPLUG="1")
        box.tell("remove", 0, "card0/card0-DP-1")
        box.tell("remove", 3, "card3")
        box.is_in(3, "lost")
        equal(states(box.daemon), ["online"] * 3 + ["lost"])
        equal([e["card"] for e in box.daemon.rpc("events")["events"][len(before):]
               if e["kind"] == "card"], [3])


if __name__ == "__main__":
    main()
