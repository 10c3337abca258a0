#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The service in bad worlds: what works is used, and what does not is said with the reason and the remedy, in
`octarcd --probe`, in `octarc status` and in the journal.  Four cards as the kernel shows them (umockdev), driven by the
simulated driver (tests/sim_level_zero); the table is in docs/operations.md."""
import contextlib
import json
import os
import re
import subprocess
import tempfile

from harness import (BUILD, SAN, STRETCH, Daemon, Skip, complain, equal, main, octarcd, surroundings, test,
                     tiny)
from kernel_box import SMALL, make_cards, seen_in, shown, slot
from sim_cards import answers, environment, of_cpu

CARDS = 4
SIM = "cards=%d memory=256M" % CARDS


def in_namespace(file, over):
    """What starts a process for which one file lies in the place of another."""
    if os.getuid():
        raise Skip("only root may lay one file over another")

    def popen(command, **how):
        return subprocess.Popen(["unshare", "-m", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"',
                                 file, over, *command], **how)
    return popen


def without_rights(command, **how):
    """Of root, who may open everything."""
    prefix = [] if os.getuid() else ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
    return subprocess.Popen([*prefix, *command], **how)


class World:
    def __init__(self, folder, sim, env, popen):
        self.folder, self.popen = folder, popen
        self.env = seen_in(folder, dict(environment(SIM + " " + sim), **env))
        self.node = os.path.join(folder, "dev/dri/renderD%d")

    def probe(self, *options):
        process = self.popen([os.path.join(BUILD, "octarcd"), "--config", os.devnull, "--probe", *options],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True, env=surroundings(self.env))
        out, err = process.communicate(timeout=120 * STRETCH)
        complain(err)
        return process.returncode, out

    def report(self):
        """As JSON; the text has to say all of it, too."""
        status, out = self.probe("--json")
        made = json.loads(out)
        equal(status, 0 if made["usable"] else 3)
        text = self.probe()[1]
        assert "%d of %d cards can be used." % (made["usable"], len(made["cards"])) in text, text
        for missing in made["missing"]:
            assert missing["what"] in text and (missing["remedy"] or "") in text, (missing, text)
        return made

    def serve(self, *options, **how):
        return Daemon("--context", "256", *options, model=tiny(), env=self.env, popen=self.popen, **how)


@contextlib.contextmanager
def world(sim="", change=lambda i, card: None, cards=CARDS, env=None, popen=subprocess.Popen):
    if SAN and sim.startswith("sleepy"):
        raise Skip("what waits for a driver waits for less than a sanitizer takes")
    with shown(make_cards(cards, change)) as folder:
        yield World(folder, sim, env or {}, popen)


def blocking(report):
    return [(m["code"], m["card"]) for m in report["missing"] if m["blocks"]]


def limiting(report):
    return {m["code"] for m in report["missing"] if not m["blocks"]}


def serves_on_cards(w, lost, why, *options):
    """With all cards but `lost`, which is shown and named with the reason."""
    with w.serve("--backend", "level_zero", "--split", "layer", *options) as daemon:
        equal(answers(daemon), of_cpu())
        status = daemon.rpc("status")
        equal((status["backend"], status["cards"], status["cards_online"]),
              ("level_zero", CARDS, CARDS - (lost is not None)))
        said = daemon.client("status")[1]
        if lost is None:
            equal(status["cards_why"], None)
            assert "Missing:" not in said, said
            return status
        told = "card %d (%s) is lost: %s" % (lost, slot(lost), why)
        assert told in said and told in status["cards_why"], (told, said)
        equal([c["state"] for c in daemon.rpc("cards")["cards"]],
              ["lost" if i == lost else "online" for i in range(CARDS)])
        assert "card %d is lost: %s" % (lost, why) in daemon.log(), daemon.log()
        assert "to bring card %d back: octarcd --probe names the remedy" % lost in daemon.log()
        events = [e["text"] for e in daemon.rpc("events")["events"] if e["kind"] == "card"]
        assert "card %d is lost: %s" % (lost, why) in events[0], events
        equal(daemon.rpc("status")["generation"], 1, "engines that were started")
        assert "ready: no model" not in daemon.log(), daemon.log()
        return status


def falls_back(w, *why):
    """auto: the CPU computes, and wherever the service says how it is it says why; level_zero: it does not start."""
    with w.serve("--backend", "auto") as daemon:
        equal(answers(daemon), of_cpu())
        status = daemon.rpc("status")
        equal(status["backend"], "cpu")
        said = daemon.client("status")[1]
        assert "; on the CPU: " in status["status"], status["status"]
        for text in why:
            for where in (status["backend_why"], said, daemon.log()):
                assert text in where, (text, where)
        assert "No card is used: " in said and "the CPU computes, for no card is used: " in daemon.log()
        equal(len([e for e in daemon.rpc("events")["events"] if e["kind"] == "backend"]), 1)
    with tempfile.TemporaryDirectory() as folder:
        process = w.popen([os.path.join(BUILD, "octarcd"), "--config", os.devnull, "--backend", "level_zero",
                           "--listen", os.path.join(folder, "s"), "--model", tiny()],
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True, env=surroundings(w.env))
        err = process.communicate(timeout=120 * STRETCH)[1]
        complain(err)
        equal(process.returncode, 78, err)
        for text in ("backend = level_zero: ", *why):
            assert text in err, (text, err)


@test
def a_good_world_has_nothing_to_complain_of():
    with world() as w:
        equal(blocking(w.report()), [])
        serves_on_cards(w, None, None)


@test
def a_card_that_does_not_say_what_it_is_is_named_and_the_others_serve():
    with world("broken=1") as w:
        report = w.report()
        equal((blocking(report), report["usable"]), ([("refused", 1)], 3))
        equal([c["usable"] for c in report["cards"]], [True, False, True, True])
        assert slot(1) in report["missing"][0]["remedy"], report["missing"]
        serves_on_cards(w, 1, "zeDeviceGetMemoryProperties: something the driver needs is missing")


@test
def so_is_one_that_the_driver_leaves_out():
    with world("cards=3") as w:
        equal(blocking(w.report()), [("refused", 3)])
        serves_on_cards(w, 3, "the driver does not show it")


@test
def one_that_ends_whoever_initialises_the_driver_costs_no_other():
    why = "the driver ended the process that it was shown to alone: Aborted"
    for shifted in ("", " ordinal=1"):
        with world("touchy=2" + shifted) as w:
            report = w.report()
            equal((blocking(report), report["usable"]), ([("refused", 2)], 3))
            assert why in report["missing"][0]["what"], report["missing"]
            serves_on_cards(w, 2, why)


@test
def nor_does_one_that_keeps_it_for_ever():
    with world("sleepy=0") as w:
        equal(blocking(w.report()), [("refused", 0)])
        serves_on_cards(w, 0, "the driver was silent for 12 s, shown it alone")


@test
def links_are_measured_without_it_too():
    with world("touchy=2") as w:
        with w.serve("--backend", "level_zero", "--split", "layer", measure_links="changed") as daemon:
            assert "6 of 12 peer links were measured" in daemon.log(), daemon.log()
            equal(answers(daemon), of_cpu())


@test
def the_self_test_names_it_and_tries_the_others():
    with world("touchy=1", cards=2) as w:
        w.env["SIM_ZE"] = "cards=2 memory=256M touchy=1"
        process = w.popen([os.path.join(BUILD, "octarcd"), "--config", os.devnull, "--selftest", "--json"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, env=surroundings(w.env))
        out, err = process.communicate(timeout=600 * STRETCH)
        complain(err)
        made = json.loads(out)
        equal((process.returncode, made["well"], made["error"]), (4, False, None))
        equal([c["why"] for c in made["cards"]],
              [None, "the driver ended the process that it was shown to alone: Aborted"])
        equal({k["verdict"] for k in made["cards"][0]["kernels"]}, {"same"})
        equal(made["cards"][1]["kernels"], [])


@test
def a_driver_that_crashes_or_fails_at_the_start_leaves_the_cpu():
    for sim, why in (("init=crash", "the driver ended the process that asked for cards"),
                     ("init=error", "zeInit: no driver"),
                     ("cards=0", "Level Zero finds no card")):
        with world(sim) as w:
            report = w.report()
            equal((blocking(report), report["usable"]), ([("no_ze_card", None)], 0))
            equal(report["level_zero"]["no_card"], why)
            falls_back(w, why, "journalctl -k -g xe")


@test
def so_does_one_that_hangs():
    with world("init=hang") as w:
        falls_back(w, "the driver did not tell its cards within 10 s", "journalctl -k -g xe")


@test
def without_a_driver_of_level_zero_its_package_is_named():
    with world(env={"ZE_ENABLE_ALT_DRIVERS": "/nonexistent/libze_x.so"}) as w:
        equal(blocking(w.report()), [("no_ze_driver", None)])
        falls_back(w, "libze_x.so", "apt install libze-intel-gpu1")


@test
def without_the_loader_its_package_is_named():
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "libze_loader.so.1"), "w"):
            pass  # one that cannot be loaded, before the real one
        with world(env={"LD_LIBRARY_PATH": folder}) as w:
            equal(blocking(w.report()), [("no_loader", None)])
            falls_back(w, "the Level Zero loader is missing", "apt install libze1")


@test
def without_nodes_the_container_is_spoken_of():
    with world("cards=0", lambda i, card: card.update(nodes=False)) as w:
        report = w.report()
        equal(blocking(report), [("no_node", i) for i in range(CARDS)] + [("no_ze_card", None)])
        falls_back(w, ", ".join(map(slot, range(CARDS))) + ": /dev/dri is not there", "--device /dev/dri")


@test
def without_a_permission_the_group_is_named():
    with world("cards=0", popen=without_rights) as w:
        for i in range(CARDS):
            os.chmod(w.node % (128 + i), 0)
        report = w.report()
        equal(blocking(report)[:CARDS], [("permission", i) for i in range(CARDS)])
        falls_back(w, *["no permission on /dev/dri/renderD%d" % (128 + i) for i in range(CARDS)],
                   "usermod -aG render octarc")


@test
def without_a_permission_on_one_card_the_others_serve():
    """The driver cannot open it, and does not show it."""
    with world("cards=3", popen=without_rights) as w:
        os.chmod(w.node % 131, 0)
        equal(blocking(w.report()), [("permission", 3)])
        with w.serve("--backend", "level_zero", "--split", "layer") as daemon:
            equal(answers(daemon), of_cpu())
            status = daemon.rpc("status")
            equal((status["cards"], status["cards_online"]), (CARDS, 3))
            assert "card 3 (%s) is lost: no permission on /dev/dri/renderD131" % slot(3) in \
                status["cards_why"], status


@test
def a_card_that_another_program_uses_is_named_with_what_is_short():
    """It does well where it is tried by itself: what the plan has for it is more."""
    with world("limit=1@6M") as w:
        status, err = octarcd("--config", os.devnull, "--backend", "level_zero", "--split", "layer", "--context",
                              "512", "--max-sequences", "200", "--model", tiny(), env=w.env,
                              deaths=re.compile("signal"))
        equal(status, 78, err)
        last = err.strip().splitlines()[-1]
        for text in ("card 1 has no room for 13 MiB of its K and V", "out of the card's memory",
                     "another program", "card_memory"):
            assert text in last, (text, err)
        with w.serve("--backend", "level_zero", "--split", "layer", "--cards", "4",
                     "--card-memory", "64M,4M,64M,64M") as daemon:
            equal(answers(daemon), of_cpu())


@test
def what_limits_cards_is_told_and_they_serve():
    """An older generation, a small window, a kernel of before shared virtual memory."""
    def change(i, card):
        if i == 1:
            card["device"] = "0x56a0"
        if i == 2:
            card["bars"] = SMALL
    with tempfile.NamedTemporaryFile("w") as release:
        release.write("6.12.48+deb13-amd64\n")
        release.flush()
        with world(change=change, popen=in_namespace(release.name, "/proc/sys/kernel/osrelease")) as w:
            report = w.report()
            equal((blocking(report), report["usable"]), ([], CARDS))
            equal(report["kernel"]["release"], "6.12.48+deb13-amd64")
            assert {"kernel", "no_svm", "small_bar"} <= limiting(report), report["missing"]
            status = serves_on_cards(w, None, None)
            equal(status["storage"], "usm")
            assert "octarcd --probe" in status["storage_why"], status["storage_why"]


if __name__ == "__main__":
    main()
