#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""octarcd --probe of a box of eight cards, as the kernel would show it: four below each of two switches,
and on each card a bridge.  libdrm finds their nodes.  Needs umockdev."""
import json
import os
import subprocess
import tempfile

from harness import BUILD, STRETCH, complain, equal, main, surroundings, test
from kernel_box import SMALL, device, make_card, pcie, write


def slot(i):
    return "0000:%02x:00.0" % (0x14 + i // 4 * 0x40 + i % 4 * 3)


def make_box(change=lambda i, card: None):
    """The text of the box; change() may alter what each card is."""
    text = ""
    for s in range(2):
        at = "/devices/pci0000:00/0000:00:0%d.0" % (1 + 2 * s)
        text += device(at, "0x8086", "0x352a", "0x060400")
        at += "/0000:%02x:00.0" % (0x10 + s * 0x40)
        text += device(at, "0x1000", "0xc030", "0x060400")
        for k in range(4):
            i, bus = s * 4 + k, 0x12 + s * 0x40 + 3 * k
            path = at + "/0000:%02x:%02x.0" % (0x11 + s * 0x40, k)
            text += device(path, "0x1000", "0xc030", "0x060400")
            path += "/0000:%02x:00.0" % bus
            text += device(path, "0x8086", "0xe2ff", "0x060400", **pcie("32.0 GT/s PCIe", "8"))
            path += "/0000:%02x:01.0" % (bus + 1)
            text += device(path, "0x8086", "0xe2f0", "0x060400")
            text += make_card(path + "/" + slot(i), i, s, change)
    return text


def probe(box, *options):
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["umockdev-run", "-d", write(folder, box), "--", os.path.join(BUILD, "octarcd"), "--config", os.devnull,
             "--probe", *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, timeout=60 * STRETCH, env=surroundings())
    complain(done.stderr)
    equal(done.stderr, "")
    return done.returncode, json.loads(done.stdout) if options else done.stdout


def blocking(report):
    return [(m["code"], m["card"]) for m in report["missing"] if m["blocks"] and m["card"] is not None]


@test
def eight_cards_below_two_switches_are_found():
    _, report = probe(make_box(), "--json")
    equal([c["slot"] for c in report["cards"]], [slot(i) for i in range(8)])
    for i, card in enumerate(report["cards"]):
        equal((card["name"], card["driver"], card["memory_bytes"], card["window_bytes"]),
              ("Intel Arc Pro B60", "xe", 24 << 30, 32 << 30))
        equal((card["primary"], card["render"]),
              ("/dev/dri/card%d" % i, "/dev/dri/renderD%d" % (128 + i)))
        equal((card["can_be_opened"], card["usable"], card["numa"]), (True, True, i // 4))
        equal(len(card["bridges"]), 5)
        equal(card["link"], {"at": card["bridges"][3]["slot"], "generation": 5, "lanes": 8,
                             "generation_most": 5, "lanes_most": 8})
    equal(blocking(report), [])


@test
def one_bad_card_of_eight_is_named_and_the_others_are_usable():
    for changes, code in (({"driver": "i915"}, "driver"), ({"driver": ""}, "no_driver"),
                          ({"driver": "vfio-pci"}, "driver"), ({"nodes": False}, "no_node")):
        box = make_box(lambda i, card: i == 3 and card.update(changes))
        _, report = probe(box, "--json")
        equal(blocking(report), [(code, 3)])
        equal([c["usable"] for c in report["cards"]], [i != 3 for i in range(8)])
        _, text = probe(box)
        assert "missing: card 3 (%s): " % slot(3) in text, text


@test
def mixed_generations_and_a_small_window_are_limits_and_no_more():
    def change(i, card):
        if i == 1:
            card["device"] = "0x56a0"
        if i == 2:
            card["bars"] = SMALL
    _, report = probe(make_box(change), "--json")
    equal(blocking(report), [])
    limits = [(m["code"], m["card"]) for m in report["missing"] if m["card"] is not None]
    equal(limits, [("no_svm", 1), ("small_bar", 2)])
    equal(report["cards"][1]["name"], "Intel Arc A770")
    equal(report["cards"][2]["memory_bytes"], 24 << 30)


if __name__ == "__main__":
    main()
