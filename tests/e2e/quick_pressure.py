#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Memory is short on the host: what is given back, what is put off, and that no request suffers.

The kernel's /proc/pressure/memory is stood in for by a file with its two lines, put in place whole, as
the kernel's text is read whole; systemd by a fifo that it would write to.  What is available is the
machine's own figure."""
import os
import tempfile

import spill
from crowd import PROMPT, WAYS, Crowd, is_whole, refused, say, start, states, undisturbed
from harness import Daemon, equal, main, test, tiny, wait_until

QUIET = "memory_quiet = 1\n"


class Host:
    """Whose memory is short when a test says so."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="octarc-pressure-")
        self.path = os.path.join(self.folder.name, "memory")
        self.total = 1000
        self.stall(0)

    def stall(self, percent):
        self.total += int(percent * 100000)
        with open(self.path + ".next", "w") as f:
            f.write("some avg10=%.2f avg60=%.2f avg300=0.00 total=%d\n"
                    "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n" % (
                        percent, percent / 3, self.total))
        os.rename(self.path + ".next", self.path)

    def config(self, more=QUIET):
        return "[service]\nmemory_pressure = %s\nmemory_least = 0\n%s" % (self.path, more)

    def press(self, daemon):
        self.stall(40)
        wait_until(lambda: pressed(daemon), 20, "pressure")

    def relieve(self, daemon):
        self.stall(0)
        wait_until(lambda: not pressed(daemon), 20, "the end of pressure")


def pressed(daemon):
    return "octarc_memory_pressed 1\n" in say(daemon, "metrics")


def told(daemon):
    return [e["text"] for e in daemon.rpc("events")["events"] if e["kind"] == "pressure"]


def cached(daemon):
    usage = daemon.http("POST", "/v1/completions", {
        "prompt": PROMPT * 2, "max_tokens": 2, "temperature": 0})[1]["usage"]
    return usage["prompt_tokens_details"]["cached_tokens"]


@test
def it_is_said_when_it_begins_and_when_it_is_over():
    host = Host()
    with start(config=host.config()) as daemon:
        host.press(daemon)
        host.relieve(daemon)
        texts = told(daemon)
        equal(len(texts), 2, texts)
        assert texts[0].startswith("memory is short on the host: tasks stall 40.0 % of the time,"), texts
        equal(texts[1], "memory is not short any more")
        assert "octarc_memory_pressures_total 1\n" in say(daemon, "metrics")
        equal([line.split("  ")[-1] for line in say(daemon, "events").splitlines()
               if "memory is" in line], texts)


@test
def a_crowd_does_not_notice_it():
    host = Host()
    with start("--split", "tensor", config=host.config()) as daemon:
        want = undisturbed(daemon)
        equal(Crowd(daemon, lambda: host.press(daemon)).run(), want, "pressed")
        equal(Crowd(daemon, lambda: host.relieve(daemon)).run(), want, "relieved")
        equal(daemon.rpc("status")["generation"], 1)


@test
def a_drain_waits_for_it_and_is_made_up_for():
    for way in WAYS:
        host = Host()
        with start("--split", "tensor", config=host.config(), rebalance=way) as daemon:
            want = undisturbed(daemon)
            host.press(daemon)
            equal(Crowd(daemon, lambda: say(daemon, "drain", "1")).run(), want, "put off")
            equal(states(daemon), ["online", "draining", "online", "online"])
            assert "put off while memory is short on the host: card 1 is drained" in told(daemon)
            is_whole(daemon, want, lambda: host.relieve(daemon), "made up for")
            wait_until(lambda: states(daemon)[1] == "drained", 20, "the drain")


@test
def pressure_while_an_engine_goes_over_loses_nothing():
    host = Host()
    with start("--split", "tensor", config=host.config(), rebalance="running") as daemon:
        want = undisturbed(daemon)

        def drain_and_press():
            say(daemon, "drain", "2")
            host.press(daemon)
        equal(Crowd(daemon, drain_and_press).run(), want, "pressed while it goes over")
        host.relieve(daemon)
        wait_until(lambda: states(daemon)[2] == "drained", 20, "the drain")


@test
def a_loss_does_not_wait_for_it():
    for way in WAYS:
        host = Host()
        with start("--split", "tensor", config=host.config(), rebalance=way) as daemon:
            want = undisturbed(daemon)
            host.press(daemon)
            is_whole(daemon, want, lambda: say(daemon, "drill", "lose", "2"), "lost")
            assert pressed(daemon)
            equal(states(daemon), ["online", "online", "lost", "online"])


@test
def what_is_only_kept_is_given_back():
    host = Host()
    with start("--split", "tensor", config=host.config()) as daemon:
        say(daemon, "drain", "--wait", "1")
        cached(daemon)
        assert cached(daemon) > 0, "the prompt was not kept"
        host.press(daemon)
        assert any("of weights that drained cards held were dropped" in t for t in told(daemon)), told(daemon)
        equal(cached(daemon), 0, "cached tokens")
        host.relieve(daemon)
        say(daemon, "online", "--wait", "1")
        equal(daemon.rpc("cards")["cards"][1]["reused"], False)


@test
def what_is_available_counts_too_and_nothing_is_put_off_for_ever():
    with start(config="[service]\nmemory_pressure = /proc/self/stat\nmemory_least = 16777216\n"
               "memory_wait = 1\n") as daemon:
        wait_until(lambda: len(told(daemon)) > 1, 20, "two events")
        assert "tasks stall 0.0 % of the time," in told(daemon)[0], told(daemon)
        equal(told(daemon)[1], "memory is still short; what was put off goes on (key memory_wait)")
        say(daemon, "drain", "--wait", "3")
        assert pressed(daemon)


@test
def no_plan_takes_host_memory_that_is_not_there():
    with spill.start(*spill.TWO_CARDS, config="[service]\nmemory_pressure = /proc/self/stat\n"
                     "memory_least = 16777216\nmemory_wait = 0\n") as daemon:
        wait_until(lambda: daemon.rpc("status")["host_spill"] == 0, 20, "that there is no room")
        said = refused(daemon, "drain", {"card": 1})
        assert "host memory has room for 0 MiB of weights now" in said, said
        equal(states(daemon), ["online"] * 2)


@test
def a_file_that_cannot_be_read_is_refused_at_the_start():
    own = Daemon("--cards", "1", model=tiny(), wait=False,
                 config="[service]\nmemory_pressure = /nonexistent/memory\n")
    equal(own.process.wait(own.timeout), 1)
    assert "/nonexistent/memory: No such file" in own.log(), own.log()
    own.kill()


@test
def systemd_tells_it_through_what_it_names():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "watch")
        os.mkfifo(path)
        with Daemon("--cards", "1", "--context", "256", model=tiny(), config="[service]\nmemory_least = 0\n",
                    env={"MEMORY_PRESSURE_WATCH": path}) as daemon:
            equal(told(daemon), [])
            with open(path, "w") as fifo:
                fifo.write("x")
            wait_until(lambda: pressed(daemon), 20, "pressure")
            assert "or more" in told(daemon)[0], told(daemon)


if __name__ == "__main__":
    main()
