#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""octarcd --probe on whatever machine this is, and where who looks never comes back."""
import json
import os
import subprocess
import tempfile

from harness import BUILD, STRETCH, complain, equal, main, surroundings, test


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


@test
def a_library_that_ends_its_process_ends_no_report():
    """The driver's name is the loader's own variable; one that is no library at all is told, too."""
    status, out, _ = probe("--json", env={"ZE_ENABLE_ALT_DRIVERS": "/nonexistent/libze_x.so"})
    report = json.loads(out)
    equal((status, report["usable"]), (3, 0))
    equal(report["level_zero"]["driver"], False)
    code = "no_ze_driver" if report["level_zero"]["loader"] else "no_loader"
    assert code in [m["code"] for m in report["missing"]], report["missing"]


if __name__ == "__main__":
    main()
