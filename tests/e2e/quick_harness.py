#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The harness itself: what a daemon or an engine says at its end turns a test red."""
import os
import subprocess
import sys
import tempfile

from harness import BUILD, STRETCH, equal, main, test

HERE = os.path.dirname(os.path.abspath(__file__))
REPORT = "==1==ERROR: AddressSanitizer: heap-use-after-free on address 0x0"
UNDEFINED = "daemon/x.c:1:2: runtime error: signed integer overflow"

# Tests that all see the right answers.
SHARED = """
from harness import Daemon, main, test, tiny, wait_until
def daemon():
    return Daemon.shared("--context", "128", model=tiny())
@test
def it_answers():
    daemon().complete("a", 2)
@test
def it_answers_again():
    DISTURB
    daemon().complete("a", 2)
main()
"""
OWN = SHARED.replace("    return Daemon.shared(", "    return Daemon(").replace(
    "    daemon().complete", "    with daemon() as own: own.complete")


def outcome(script, disturb="pass", octarcd="", engine=""):
    """Run the script where `octarcd` and `engine` are shell code put before the programs: the TAP
    lines, their numbers left out."""
    with tempfile.TemporaryDirectory() as folder:
        for name, code in (("octarcd", octarcd), ("octarc-engine", engine)):
            with open(os.path.join(folder, name), "w") as f:
                f.write("#!/bin/sh\n%s\nexec %s/%s \"$@\"\n" % (code, BUILD, name))
            os.chmod(os.path.join(folder, name), 0o755)
        os.symlink(os.path.join(BUILD, "octarc"), os.path.join(folder, "octarc"))
        environment = dict(os.environ, OCTARC_BUILD=folder, PYTHONPATH=HERE, FOLDER=folder,
                           OCTARC_ENGINE=os.path.join(folder, "octarc-engine"))
        done = subprocess.run([sys.executable, "-c", script.replace("DISTURB", disturb)],
                              env=environment, stdout=subprocess.PIPE, text=True, timeout=300 * STRETCH)
        lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
        equal(done.returncode, 1 if "not ok" in done.stdout else 0, "status of\n" + done.stdout)
        equal(lines[-1], "1..%d" % (len(lines) - 1), "the plan")
        return [line.split(" - ")[0].rstrip(" 0123456789") for line in lines[:-1]], done.stdout


@test
def good_programs_pass():
    equal(outcome(SHARED)[0], ["ok", "ok", "ok"])
    equal(outcome(OWN)[0], ["ok", "ok"])


@test
def a_sanitizers_report_fails_a_test_of_its_own():
    for line in (REPORT, UNDEFINED, "WARNING: ThreadSanitizer: data race",
                 "ERROR: LeakSanitizer: detected memory leaks"):
        results, said = outcome(SHARED, octarcd="echo '%s' >&2" % line)
        equal(results, ["ok", "ok", "not ok"], said)
        assert line in said, said
    equal(outcome(OWN, octarcd="echo '%s' >&2" % REPORT)[0], ["not ok", "not ok"])
    equal(outcome(SHARED, engine="echo '%s' >&2" % UNDEFINED)[0], ["ok", "ok", "not ok"])


@test
def an_engine_that_dies_once_is_seen_though_the_service_recovers():
    once = "[ -e $FOLDER/died ] || { : > $FOLDER/died; %s; }"
    for end in ("kill -SEGV $$", "exit 1"):
        equal(outcome(SHARED, engine=once % end)[0], ["ok", "ok", "not ok"])
        equal(outcome(OWN, engine=once % end)[0], ["not ok", "ok"])


@test
def a_shared_daemon_that_dies_is_not_forgotten():
    kill = "own = daemon().process; own.kill(); own.wait()"
    equal(outcome(SHARED, disturb=kill)[0], ["ok", "ok", "not ok"])
    engine = ("daemon().kill_engine(); "
              "wait_until(lambda: daemon().rpc('status')['generation'] == 2, 20, 'the next')")
    equal(outcome(SHARED, disturb=engine)[0], ["ok", "ok", "not ok"])


@test
def a_program_without_a_test_does_not_pass():
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "program")
        for said, status in (("1..0", 1), ("1..1\nok 1 - it", 0), ("1..2\nok 1 - it", 1), ("", 1)):
            with open(program, "w") as f:
                f.write("#!/bin/sh\nprintf '%s\n'\n" % said.replace("\n", "\\n"))
            os.chmod(program, 0o755)
            done = subprocess.run([os.path.join(HERE, "..", "run"), program],
                                  stdout=subprocess.PIPE, text=True, timeout=60 * STRETCH)
            equal(done.returncode, status, "status for %r, which said %s" % (said, done.stdout))


if __name__ == "__main__":
    main()
