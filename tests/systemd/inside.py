#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run by boot.sh in a systemd of its own, after `make install`: the units as an administrator has
them.  The tests build on each other, in order."""
import contextlib
import grp
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
import time

os.environ["OCTARC_BUILD"] = "/usr/local/bin"
os.environ["OCTARC_TINY"] = "/octarc/tiny"
sys.path.insert(0, "/octarc/source/tests/e2e")
import harness  # noqa: E402
from harness import Lines, RpcError, equal, main, note, test, tiny, wait_until  # noqa: E402

SOCKET = "/run/octarc/octarc.sock"
CONFIG = "/etc/octarc/octarc.conf"
MODEL = "/var/lib/octarc/models/tiny.gguf"
MARKER = "xyzzy-only-in-the-prompt"
BUSY = {"prompt": MARKER, "max_tokens": 470, "n": 8, "temperature": 1, "seed": 3, "stream": True}


def run(*command, status=0):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          stdin=subprocess.DEVNULL, timeout=120)
    if status is not None and done.returncode != status:
        journal()
        raise AssertionError("%s: status %d: %s" % (" ".join(command), done.returncode,
                                                    done.stdout))
    return done.stdout


def journal():
    note(subprocess.run(["journalctl", "--no-pager", "-n", "40", "-u", "octarcd.service"],
                        stdout=subprocess.PIPE, text=True).stdout)


def shown(name):
    return run("systemctl", "show", "-P", name, "octarcd.service").strip()


def forget_starts():
    """Five in a minute are all that the unit allows, and tests need more."""
    run("systemctl", "reset-failed", "octarcd.service", status=None)


def configure(text):
    with open(CONFIG, "w") as f:
        f.write(text)


def rpc(method, params=None):
    lines = Lines(SOCKET, 60)
    with contextlib.closing(lines):
        return lines.call(method, params)


def complete(n=8):
    return rpc("complete", {"prompt": MARKER, "max_tokens": n, "temperature": 0})["choices"]


def stream(disturb=None):
    lines, texts, n = Lines(SOCKET, 60), [""] * 8, 0
    with contextlib.closing(lines):
        for chunk in lines.stream("complete", BUSY):
            for choice in chunk["choices"]:
                texts[choice["index"]] += choice["text"]
            n += 1
            if n == 8 and disturb:
                disturb()
    return texts


def as_user(groups, method, params=None):
    """Call as `nobody` with these groups; the error's name, "" where it was answered."""
    code = ("import sys; sys.path.insert(0, '/octarc/source/tests/e2e'); import harness, json\n"
            "try: harness.Lines(%r, 30).call(%r, json.loads(%r)); print('')\n"
            "except harness.RpcError as e: print(e.name)\n"
            "except OSError as e: print(type(e).__name__)" % (SOCKET, method, json.dumps(params or {})))
    nobody = pwd.getpwnam("nobody")
    return subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                          user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[
                              grp.getgrnam(g).gr_gid for g in groups]).stdout.strip()


@test
def install_starts_nothing():
    for unit in ("octarcd.service", "octarcd.socket"):
        equal(run("systemctl", "is-active", unit, status=None).strip(), "inactive", unit)
        equal(run("systemctl", "is-enabled", unit, status=None).strip(), "disabled", unit)


@test
def start_returns_when_it_is_ready_and_the_client_answers():
    run("systemd-sysusers")
    run("systemd-tmpfiles", "--create", status=None)  # other packages' lines may complain
    shutil.copy(tiny(), MODEL)
    os.chmod(MODEL, 0o644)
    configure("[engine]\nmodel = %s\ncards = 4\ncontext = 512\n[service]\ndrill = yes\n"
              "memory_pressure = no\n" % MODEL)
    run("octarcd", "--check-config")
    run("systemctl", "start", "octarcd")
    run("octarc", "status", "--wait", "30")
    assert run("octarc", "complete", "-n", "4", "-t", "0", MARKER).strip("\n"), "no text"
    equal(len(run("octarc", "--no-legend", "cards").splitlines()), 4)


@test
def the_socket_is_for_the_group_alone():
    info = os.stat(SOCKET)
    equal((oct(info.st_mode & 0o777), info.st_uid, grp.getgrgid(info.st_gid).gr_name),
          ("0o660", 0, "octarc"))
    equal(as_user([], "status"), "PermissionError")
    equal(as_user(["octarc"], "complete", {"prompt": "a", "max_tokens": 1}), "")
    equal(as_user(["octarc"], "reload"), "not_permitted")
    equal(as_user(["octarc"], "drill", {"fault": "kill-engine"}), "not_permitted")
    equal(as_user(["octarc", "octarc-admin"], "reload"), "")


@test
def front_and_engine_run_without_privileges():
    pids = run("sh", "-c", "pidof octarcd octarc-engine").split()
    assert len(pids) >= 2, pids
    for pid in pids:
        with open("/proc/%s/status" % pid) as f:
            fields = dict(line.split(":\t", 1) for line in f.read().splitlines() if ":\t" in line)
        equal(fields["CapEff"].strip("0"), "", "capabilities")
        equal(fields["NoNewPrivs"], "1")
        equal(fields["Seccomp"], "2")
        equal(pwd.getpwuid(int(fields["Uid"].split()[0])).pw_name, "octarc")


@test
def a_killed_engine_is_no_matter_for_systemd():
    want, main_pid = complete(), shown("MainPID")
    generation = rpc("status")["generation"]
    for pid in run("pidof", "octarc-engine").split():
        os.kill(int(pid), signal.SIGKILL)
    wait_until(lambda: rpc("status")["generation"] > generation, 10, "the next generation")
    equal(complete(), want)
    equal((shown("MainPID"), shown("NRestarts")), (main_pid, "0"))


@test
def stop_lets_a_stream_end_whole_and_leaves_no_process():
    for _ in range(6):
        forget_starts()
        want, stopper, after = stream(), [], []

        def stop():
            stopper.append(subprocess.Popen(["systemctl", "stop", "octarcd.service"]))
            wait_until(lambda: shown("ActiveState") != "active", 5, "the stop")
            if shown("ActiveState") == "deactivating":  # else the stream was over, and so was all
                after.append(1)
        try:
            equal(stream(stop), want, "the stream")
        finally:
            if stopper:
                equal(stopper[0].wait(60), 0, "systemctl stop")
        if after:
            break
    equal(shown("Result"), "success")
    equal(run("pidof", "octarcd", "octarc-engine", status=1), "")
    assert os.path.exists(SOCKET), "the socket unit's socket is gone"


@test
def the_first_connection_starts_it():
    equal(shown("ActiveState"), "inactive")
    equal(run("systemctl", "is-active", "octarcd.socket").strip(), "active")
    assert complete()[0]["text"], "the connection that started it was not answered"
    assert "●" in run("octarc", "status", "--wait", "30")
    equal(shown("ActiveState"), "active")


@test
def a_restart_refuses_nobody():
    failures, stop = [], threading.Event()
    forget_starts()

    def ask():
        while not stop.is_set():
            try:
                complete(1)
            except RpcError as error:
                if error.name != "draining":  # it had accepted the connection before it was to stop
                    failures.append(error)
            except OSError as error:
                failures.append(error)
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(3):
            run("systemctl", "restart", "octarcd")
    finally:
        stop.set()
        thread.join()
    equal(failures, [])


@test
def a_reload_of_a_bad_file_fails_and_keeps_the_old():
    with open(CONFIG) as f:
        good = f.read()
    want, main_pid = complete(), shown("MainPID")
    configure(good + "[queue]\nmax_queue = many\n")
    out = subprocess.run(["systemctl", "reload", "octarcd"], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True)
    assert out.returncode != 0, "a bad file was taken"
    equal((shown("ActiveState"), shown("MainPID")), ("active", main_pid))
    equal(complete(), want)
    configure(good)
    run("systemctl", "reload", "octarcd")
    equal(shown("MainPID"), main_pid)


@test
def a_front_that_dies_is_started_again():
    forget_starts()
    want, main_pid = complete(), shown("MainPID")
    os.kill(int(main_pid), signal.SIGKILL)
    try:
        wait_until(lambda: shown("MainPID") not in (main_pid, "0"), 10, "the restart")
    except AssertionError:
        note(run("systemctl", "status", "--no-pager", "octarcd", status=None))
        raise
    run("octarc", "status", "--wait", "30")
    equal(complete(), want)
    equal(len(run("pidof", "octarcd").split()), 2, "front and spawner")


def start_anew(*command):
    """The service by another main process, ready; how it ended the last one is the command's."""
    run("systemctl", "reset-failed", "octarcd", status=None)  # the starts so far do not count
    before = shown("MainPID")
    run(*(command or ("kill", "-KILL", before)))
    wait_until(lambda: shown("MainPID") not in (before, "0"), 10, "the restart")
    run("octarc", "status", "--wait", "30")


def reused():
    return [c["reused"] for c in rpc("cards")["cards"]]


def kept(pid=1):
    """The weight memory that a process holds: {number: /proc path}."""
    found = {}
    for entry in os.listdir("/proc/%s/fd" % pid):
        path = "/proc/%s/fd/%s" % (pid, entry)
        with contextlib.suppress(OSError):
            name = os.readlink(path).split(" ")[0]
            if name.startswith("/memfd:octarc-weights-"):
                found[int(name.rsplit("-", 1)[1])] = path
    return found


@test
def a_crash_and_a_restart_read_no_weights():
    start_anew()
    want = complete()
    inodes = {card: os.stat(path).st_ino for card, path in kept().items()}
    equal((sorted(inodes), shown("NFileDescriptorStore")), ([0, 1, 2, 3], "5"))
    for command in ((), ("systemctl", "restart", "octarcd"), ()):
        start_anew(*command)
        status = rpc("status")
        equal((status["reused_bytes"], reused()), (status["weights_bytes"], [True] * 4))
        ready = [e for e in rpc("events")["events"] if e["kind"] == "ready"][-1]
        equal((ready["reloaded_bytes"], ready["reused_bytes"]), (0, status["weights_bytes"]))
        equal(complete(), want)
        equal({card: os.stat(path).st_ino for card, path in kept().items()}, inodes)
        equal(shown("NFileDescriptorStore"), "5")


@test
def memory_that_was_harmed_meanwhile_is_read_again():
    want = complete()
    for card in (1, 3):
        with open(kept(shown("MainPID"))[card], "r+b") as f:
            at = rpc("cards")["cards"][card]["actual"]["weights_bytes"] // 2  # it has more addresses
            byte = os.pread(f.fileno(), 1, at)[0]
            os.pwrite(f.fileno(), bytes([byte ^ 0x20]), at)
        start_anew()
        equal(reused(), [i != card for i in range(4)])
        equal(complete(), want)
        equal(rpc("check")["harmed"], 0)
    start_anew("systemctl", "restart", "octarcd")
    equal((reused(), complete()), ([True] * 4, want))


@test
def an_edited_model_leaves_nothing_to_be_used_and_other_cards_what_is_the_same():
    want = complete()
    with open(CONFIG) as f:
        four = f.read()
    os.utime(MODEL)
    start_anew()
    equal((reused(), complete()), ([False] * 4, want))
    configure(four.replace("cards = 4", "cards = 2"))
    start_anew("systemctl", "restart", "octarcd")
    equal((reused(), complete()), ([False] * 2, want))
    equal((sorted(kept()), shown("NFileDescriptorStore")), ([0, 1], "3"))
    configure(four)
    start_anew("systemctl", "restart", "octarcd")
    # The first card's may be the first of what it had; no other card had anything of its share.
    equal((reused()[1:], complete()), ([False] * 3, want))


@test
def a_stop_frees_what_was_kept():
    want = complete()
    equal(sorted(kept()), [0, 1, 2, 3])
    run("systemctl", "stop", "octarcd.service")
    equal((kept(), shown("NFileDescriptorStore")), ({}, "0"))
    run("systemctl", "start", "octarcd")
    run("octarc", "status", "--wait", "30")
    equal((reused(), complete()), ([False] * 4, want))


@test
def what_was_decided_of_cards_is_in_the_state_directory_and_survives_a_restart():
    run("octarc", "drain", "--wait", "2")
    run("systemctl", "restart", "octarcd")
    run("octarc", "status", "--wait", "30")
    equal([c["state"] for c in rpc("cards")["cards"]], ["online", "online", "offline", "online"])
    info = os.stat("/var/lib/octarc/cards.json")
    equal((oct(info.st_mode & 0o777), pwd.getpwuid(info.st_uid).pw_name), ("0o600", "octarc"))
    run("octarc", "online", "--wait", "2")


@test
def a_front_that_hangs_is_killed_by_the_watchdog():
    folder = "/run/systemd/system/octarcd.service.d"
    os.makedirs(folder)
    with open(folder + "/watchdog.conf", "w") as f:
        f.write("[Service]\nWatchdogSec=6\nTimeoutAbortSec=1\n")
    run("systemctl", "daemon-reload")
    forget_starts()
    run("systemctl", "restart", "octarcd")
    time.sleep(8)  # a healthy one lives on
    main_pid = shown("MainPID")
    restarts = shown("NRestarts")
    equal(restarts, "0")
    os.kill(int(main_pid), signal.SIGSTOP)
    wait_until(lambda: shown("MainPID") not in (main_pid, "0"), 10, "the restart")
    run("octarc", "status", "--wait", "30")
    os.remove(folder + "/watchdog.conf")
    run("systemctl", "daemon-reload")


@test
def a_bad_model_fails_once_with_78():
    with open(CONFIG) as f:
        good = f.read()
    bad = MODEL + ".bad"
    with open(bad, "wb") as f:
        f.write(b"GGML nonsense")
    os.chmod(bad, 0o644)
    run("systemctl", "stop", "octarcd.service", "octarcd.socket")
    forget_starts()
    configure(good.replace(MODEL, bad))
    run("systemctl", "start", "octarcd", status=None)
    wait_until(lambda: shown("ActiveState") == "failed", 10, "the failure")
    time.sleep(1)
    equal((shown("ActiveState"), shown("ExecMainStatus"), shown("NRestarts")),
          ("failed", "78", "0"))
    log = run("journalctl", "--no-pager", "-u", "octarcd.service", "-n", "20")
    assert "tiny.gguf.bad" in log, log
    configure(good)
    run("systemctl", "reset-failed", "octarcd.service", "octarcd.socket", status=None)
    run("systemctl", "start", "octarcd")
    run("octarc", "status", "--wait", "30")
    complete()


@test
def no_prompt_is_in_the_journal():
    log = run("journalctl", "--no-pager")
    assert "octarcd" in log
    assert MARKER not in log, "a prompt is in the journal"


if __name__ == "__main__":
    harness.BUILD = "/usr/local/bin"
    main()
