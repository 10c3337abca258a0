#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""octarcd --probe on whatever machine this is, and where who looks never comes back; and what computes
where no card can be used."""
import json
import os
import shutil
import socket
import subprocess
import tempfile

from harness import (BUILD, SAN, STRETCH, Daemon, Skip, complain, equal, main, octarcd, surroundings,
                     test, tiny, wait_until)

NO_DRIVER = {"ZE_ENABLE_ALT_DRIVERS": "/nonexistent/libze_x.so"}  # on any machine


def probe(*options, env=None):
    """(exit status, stdout, stderr)"""
    done = subprocess.run(
        [os.path.join(BUILD, "octarcd"), "--config", os.devnull, "--probe", *options],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        timeout=60 * STRETCH, env=surroundings(env))
    complain(done.stderr)
    return done.returncode, done.stdout, done.stderr


@test
def this_machine_is_shown_to_people_and_to_scripts_alike():
    status, out, err = probe("--json")
    equal(err, "")
    report = json.loads(out)
    equal(status, 0 if report["usable"] else 3)
    equal(report["error"], None)
    equal(report["kernel"]["release"], os.uname().release)
    with open("/proc/cpuinfo") as f:
        flags = [line.split() for line in f if line.startswith("flags")]
    if flags:
        equal(report["la57"], "la57" in flags[0], "la57")
    status_of_text, text, err = probe()
    equal((status_of_text, err), (status, ""))
    assert text.endswith("%d of %d cards can be used.\n" % (
        report["usable"], len(report["cards"]))), text
    for missing in report["missing"]:
        assert missing["what"] in text and (missing["remedy"] or "") in text, (missing, text)


@test
def a_machine_without_cards_tries_its_own_kernels_and_says_so():
    """Where there are cards tests/e2e/slow_selftest.py is the test.  Under a sanitizer one takes minutes."""
    ways = (["octarc", "bench", "--selftest", "--config", os.devnull],
            ["octarcd", "--config", os.devnull, "--selftest"])
    for words in ways[:1 if SAN else 2]:
        done = subprocess.run(
            [os.path.join(BUILD, words[0]), *words[1:], "--json"], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300 * STRETCH,
            env=surroundings(NO_DRIVER))
        complain(done.stderr)
        made = json.loads(done.stdout)
        equal(done.returncode, 3 if made["well"] else 4, done.stderr)
        equal((made["cards"], made["links"], made["links_why"]), ([], [], None))
        assert made["error"], made
        equal(made["probe"]["kernel"]["release"], os.uname().release)
        assert len(made["cpu"]["kernels"]) > 30, made["cpu"]
        equal({k["verdict"] for k in made["cpu"]["kernels"]}, {"same"})


@test
def who_never_answers_is_ended_and_named():
    with tempfile.TemporaryDirectory() as folder:
        engine, conf = os.path.join(folder, "engine"), os.path.join(folder, "octarc.conf")
        with open(engine, "w") as f:
            f.write("#!/bin/sh\ntrap '' TERM INT HUP\nexec sleep 1000000\n")
        os.chmod(engine, 0o700)
        with open(conf, "w") as f:
            f.write("[service]\nprobe_silence = 1\n")
        status, out, err = probe("--config", conf, env={"OCTARC_ENGINE": engine})
        equal((status, out), (1, ""))
        assert "said nothing for 1 s (key probe_silence)" in err, err


def library(folder, body):
    """One that does this while it is loaded."""
    source, made = os.path.join(folder, "x.c"), os.path.join(folder, "libze_x.so")
    with open(source, "w") as f:
        f.write("#include <signal.h>\n#include <unistd.h>\n"
                "__attribute__((constructor)) static void begin(void) { %s; }\n" % body)
    if not shutil.which("cc"):
        raise Skip("needs cc")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", made, source], check=True)
    return {"ZE_ENABLE_ALT_DRIVERS": made}


@test
def a_driver_that_crashes_hangs_or_is_none_ends_no_report():
    with tempfile.TemporaryDirectory() as folder:
        for body, why in ((None, "cannot open shared object"),
                          ("kill(getpid(), SIGKILL)", "ended the process"),
                          ("for (;;) pause()", "did not end within 10 s"), ("(void)0", None)):
            status, out, _ = probe("--json", env=library(folder, body) if body else NO_DRIVER)
            report = json.loads(out)
            if not report["level_zero"]["loader"]:
                raise Skip("the Level Zero loader is not installed")
            equal(report["level_zero"]["driver"], why is None)
            equal("no_ze_driver" in [m["code"] for m in report["missing"]], why is not None)
            if why:
                equal((status, report["usable"]), (3, 0))
                assert why in report["level_zero"]["why"], report["level_zero"]


@test
def the_cpu_takes_the_place_of_cards_aloud():
    with tempfile.TemporaryDirectory() as folder:
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        manager.settimeout(60 * STRETCH)
        manager.bind(os.path.join(folder, "notify"))
        told = []

        def is_told():
            told.append(manager.recv(4096).decode())
            return any("READY=1" in text and "; on the CPU: " in text for text in told)
        env = dict(NO_DRIVER, NOTIFY_SOCKET=os.path.join(folder, "notify"))
        with Daemon("--backend", "auto", model=tiny(), env=env) as daemon:
            status = daemon.rpc("status")
            equal(status["backend"], "cpu")
            why = status["backend_why"]
            assert "Level Zero" in why, why
            assert "; on the CPU: " + why[:40] in status["status"], status["status"]
            assert "No card is used: %s\n" % why in daemon.client("status")[1]
            events = [e["text"] for e in daemon.rpc("events")["events"] if e["kind"] == "backend"]
            equal(events, [("the CPU computes, for no card is used: " + why)[:239]])
            assert "octarcd: the CPU computes, for no card is used: " + why in daemon.log()
            wait_until(is_told, 60, "systemd is told")
            equal(len(daemon.complete("Once", 4)["choices"]), 1)
        manager.close()


@test
def simulated_cards_are_no_fallback():
    with Daemon("--cards", "2", "--backend", "auto", model=tiny()) as daemon:
        status = daemon.rpc("status")
        equal((status["backend"], status["backend_why"]), ("cpu", None))
        assert "CPU" not in status["status"], status["status"]
        assert "No card is used" not in daemon.client("status")[1]


@test
def cards_that_are_insisted_on_are_an_error_that_says_what_is_missing():
    os.environ.update(NO_DRIVER)
    try:
        with tempfile.TemporaryDirectory() as folder:  # one that went on would end for the model
            status, err = octarcd("--config", os.devnull, "--backend", "level_zero", "--listen",
                                  os.path.join(folder, "s"), "--model", os.path.join(folder, "none"))
    finally:
        for name in NO_DRIVER:
            del os.environ[name]
    equal(status, 78, err)
    assert "backend = level_zero" in err and "Level Zero" in err, err


@test
def a_service_starts_though_who_looks_never_answers():
    with tempfile.TemporaryDirectory() as folder:
        engine = os.path.join(folder, "engine")
        with open(engine, "w") as f:
            f.write("#!/bin/sh\n[ \"$1\" != --probe ] || exec sleep 1000000\nexec '%s' \"$@\"\n" %
                    os.path.join(BUILD, "octarc-engine"))
        os.chmod(engine, 0o700)
        with Daemon("--backend", "auto", model=tiny(), env={"OCTARC_ENGINE": engine},
                    config="[service]\nprobe_silence = 1\n") as daemon:
            why = daemon.rpc("status")["backend_why"]
            assert "said nothing for 1 s (key probe_silence)" in why, why
            equal(len(daemon.complete("Once", 4)["choices"]), 1)


if __name__ == "__main__":
    main()
