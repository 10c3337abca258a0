#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A box from a description file: what octarcd makes of it, and what it refuses."""
import json
import os
import tempfile

from harness import ROOT, Daemon, equal, main, octarcd, test, tiny

BOXES = os.path.join(ROOT, "daemon", "placement", "topology")
MIB = 1 << 20


def box(name):
    return os.path.join(BOXES, name + ".json")


@test
def number_names_and_memory_of_the_cards_come_from_the_file():
    with Daemon("--topology", box("mixed-b50-b60-b70"), "--context", "128", model=tiny()) as own:
        answer = own.rpc("cards")
        equal([(c["name"], c["capacity_bytes"] // MIB) for c in answer["cards"]],
              [("Arc Pro B50", 16384)] * 2 + [("Arc Pro B60", 24576)] * 2 +
              [("Arc Pro B70", 32768)] * 2)
        equal(own.rpc("status")["cards"], 6)
        equal(answer["topology"]["file"], box("mixed-b50-b60-b70"))
        equal(answer["topology"]["measured"], False)
        equal(answer["cards"][4]["identity"], "slot:0000:28:00.0")
        equal(len(own.complete("the cat", 4)["choices"]), 1)
        equal(own.client("drill", "lose", "1"), (0, "", ""))  # simulated: drills are on
        own.complete("the cat", 4)
        equal([c["state"] for c in own.rpc("cards")["cards"]], ["online", "lost"] + ["online"] * 4)


@test
def every_ordered_pair_has_its_link_and_the_bad_one_is_told():
    with Daemon("--topology", box("one-bad-link")) as own:
        links = own.rpc("cards")["links"]
        equal(sorted((k["from"], k["to"]) for k in links),
              [(a, b) for a in range(8) for b in range(8) if a != b])
        equal([(k["from"], k["to"], k["bytes_per_s"], k["latency_ns"]) for k in links
               if k["mode"] == "staged"], [(2, 5, 3e9, 25000)])
        assert all(k["reason"] for k in links)
        status, out, err = own.client("cards")
        equal((status, err), (0, ""))
        rows = out.split("\n\n")[1].splitlines()
        assert rows[0].split() == ["FROM", "TO", "LINK", "BANDWIDTH", "LATENCY", "WHY"], rows
        # Every pair once, the bad one in a row of its own.
        pairs = []
        for row in rows[1:-1]:
            here, there = (cards(word) for word in row.split()[:2])
            pairs += [(a, b) for a in here for b in there if a != b]
        equal(sorted(pairs), sorted((k["from"], k["to"]) for k in links))
        assert any(r.split()[:3] == ["2", "5", "staged"] and "pattern test" in r for r in rows), out
        assert "not measured" in rows[-1] and "one-bad-link.json" in rows[-1], rows[-1]
        equal(own.client("--no-legend", "cards")[1].count("\n"), 8)


def cards(text):
    """The numbers of "0-3,6"."""
    numbers = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


@test
def cards_without_a_file_are_a_plain_box():
    with Daemon("--cards", "3", "--card-memory", "64M") as own:
        answer = own.rpc("cards")
        equal({(k["mode"], k["bytes_per_s"]) for k in answer["links"]}, {("direct", None)})
        equal([(c["name"], c["capacity_bytes"]) for c in answer["cards"]],
              [("simulated card", 64 * MIB)] * 3)
        equal(answer["topology"]["file"], None)


@test
def all_files_that_come_with_octarc_are_good():
    names = os.listdir(BOXES)
    equal(len(names), 6)
    for name in names:
        equal(octarcd("--config", os.devnull, "--check-config", "--topology",
                      os.path.join(BOXES, name)), (0, ""), name)


@test
def what_contradicts_the_file_is_one_error():
    for options, words in ((("--cards", "7"), ("cards = 7", "has 8")),
                           (("--card-memory", "1G"), ("card 0", "1024 MiB", "24576 MiB")),
                           (("--card-memory", "24G,24G"), ("2 sizes", "8 cards"))):
        status, err = octarcd("--config", os.devnull, "--topology", box("one-bad-link"), *options)
        equal(status, 2, err)
        for word in words:
            assert word in err, err
    # What says the same is no contradiction, wherever it stands.
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "c")
        with open(path, "w") as f:
            f.write("[engine]\ntopology = %s\ncards = 8\n" % box("one-bad-link"))
        equal(octarcd("--config", path, "--check-config", "--card-memory", "24G"), (0, ""))
        equal(octarcd("--config", path, "--check-config", "--cards", "2")[0], 2)
        with open(path, "a") as f:
            f.write("card_memory = 1G\n[service]\nlisten = %s/s\n" % folder)
        status, err = octarcd("--config", path)
        equal(status, 78, err)


@test
def a_bad_file_is_named_with_the_place_in_it():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "box.json")
        for content, part in (({"cards": [{"memory_mib": 1}, {"memory_mib": -1}]},
                               "cards[1].memory_mib"), ({"cards": []}, "cards"),
                              ({"cars": []}, "cars"), ("x", "byte"), ("[" * 99, "byte")):
            with open(path, "w") as f:
                f.write(content if isinstance(content, str) else json.dumps(content))
            status, err = octarcd("--config", os.devnull, "--topology", path)
            equal((status, err.count("\n")), (78, 1), err)
            assert path in err and part in err, err
            equal(octarcd("--config", os.devnull, "--check-config", "--topology", path)[0], 1)
        with open(path, "w") as f:
            f.write(" " * 65537)
        for wrong, part in ((path, "65536"), (path + "x", "No such file"), (folder, "directory")):
            status, err = octarcd("--config", os.devnull, "--topology", wrong)
            equal(status, 78, err)
            assert wrong in err and part in err, err


if __name__ == "__main__":
    main()
