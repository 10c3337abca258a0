#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cards come and go: drain, online, rebalance, events, and what is refused."""
import json
import os
import re
import signal
import tempfile
import time

from crowd import (PROMPT, SILENT, WAYS, Crowd, hang, is_whole, refused, say, start, states,
                   undisturbed)
from harness import Daemon, UnixHttp, equal, main, test, tiny, wait_until


@test
def a_card_is_drained_and_taken_back_under_sixteen_streams():
    for way in WAYS:
        with start("--split", "tensor", rebalance=way) as daemon:
            want = undisturbed(daemon)
            is_whole(daemon, want, lambda: say(daemon, "drain", "--wait", "1"), "drained")
            equal(states(daemon), ["online", "drained", "online", "online"])
            is_whole(daemon, want, lambda: say(daemon, "online", "--wait", "1"), "taken back")
            equal(states(daemon), ["online"] * 4)


@test
def a_lost_card_does_not_end_a_running_engine():
    for split in ("layer", "tensor"):
        with start("--split", split, rebalance="running") as daemon:
            want = undisturbed(daemon)
            is_whole(daemon, want, lambda: say(daemon, "drill", "lose", "2"), "lost, " + split)
            equal(states(daemon), ["online", "online", "lost", "online"])
            is_whole(daemon, want, lambda: say(daemon, "online", "--wait", "2"), "taken back")
            equal(daemon.rpc("status")["generation"], 1)
            told = [e["kind"] for e in daemon.rpc("events")["events"] if e["kind"] != "card"]
            equal(told, ["start", "ready", "rebalance", "rebalanced"] + ["rebalance", "rebalanced"])
            assert "octarc_rebalances_total 2\n" in say(daemon, "metrics")


@test
def what_is_placed_on_a_lost_card_is_dropped_and_kept_again_when_it_is_back():
    place = ("--place", "blk.0.* = card 2", "--place", "output.weight = card 1")

    def where(daemon):
        cards = daemon.rpc("cards")["cards"]
        return [c["card"] for c in cards if c["layers"][0] == 0 and c["layers"][1] > 0]

    for way in WAYS:
        with start("--split", "layer", *place, rebalance=way) as daemon:
            want = undisturbed(daemon)
            equal(where(daemon), [2])
            is_whole(daemon, want, lambda: say(daemon, "drill", "lose", "2"), "lost")
            assert where(daemon) and where(daemon) != [2], where(daemon)
            reasons = [c["reason"] for c in daemon.rpc("cards")["cards"]]
            assert "'blk.0.*' is dropped" in reasons[2], reasons
            assert "placed by 'output.weight'" in reasons[1], reasons
            is_whole(daemon, want, lambda: say(daemon, "online", "--wait", "2"), "taken back")
            equal(where(daemon), [2])
            told = [(e["card"], e["text"]) for e in daemon.rpc("events")["events"]
                    if e["kind"] == "place"]
            equal(told, [(2, "place = blk.0.* = card 2 is dropped: card 2 is lost"),
                         (2, "place = blk.0.* = card 2 is kept again")])


@test
def a_card_that_came_back_without_work_can_be_lost():
    """The engine went over without it, and nobody told it when it was back."""
    with Daemon("--cards", "8", "--context", "256", "--split", "layer", model=tiny(),
                rebalance="running") as own:
        idle = [c["card"] for c in own.rpc("cards")["cards"] if not sum(c["planned"].values())]
        assert len(idle) >= 2, own.rpc("cards")
        own.rpc("drain", {"card": idle[1], "wait": True})
        busy = next(c for c in range(8) if c not in idle)
        own.rpc("drill", {"fault": "lose", "card": busy})
        for card in (busy, idle[1]):
            own.rpc("online", {"card": card, "wait": True})
        own.rpc("drill", {"fault": "lose", "card": idle[1]})
        wait_until(lambda: states(own)[idle[1]] == "lost", 10, "the loss")
        equal(own.rpc("online", {"card": idle[1], "wait": True})["state"], "online")


@test
def a_silent_card_is_fenced_within_its_deadline():
    for way in WAYS:
        with start("--split", "tensor", rebalance=way, deaths=SILENT) as daemon:
            want = undisturbed(daemon)
            is_whole(daemon, want, lambda: hang(daemon, "2"), "hung", kills=True)
            equal(states(daemon), ["online", "online", "fenced", "online"])
            faults = daemon.rpc("cards")["cards"][2]["faults"]
            equal((faults["lost"], faults["silent"]), (0, 1))
            assert "fenced" in refused(daemon, "drill", {"fault": "hang", "card": 2})
            story = daemon.rpc("events")["events"]
            deadline = re.search(r"silent in a step for (\d+\.\d\d) s, its deadline",
                                 next(e["text"] for e in story if e.get("to") == "fenced"))
            assert 1 <= float(deadline.group(1)) < 30, story  # ten such steps, or a second
            is_whole(daemon, want, lambda: say(daemon, "online", "--wait", "2"), "taken back")
            equal(states(daemon), ["online"] * 4)


@test
def a_card_alone_is_not_fenced_but_its_engine_is_replaced():
    with Daemon("--cards", "1", "--context", "256", model=tiny(),
                config="[service]\nengine_silence = 3\n", deaths="said nothing for 3 s") as own:
        want = own.complete(PROMPT)["choices"]
        own.rpc("drill", {"fault": "hang", "card": 0})
        equal(own.complete(PROMPT)["choices"], want)
        equal((states(own), own.rpc("status")["generation"]), (["online"], 2))


@test
def a_machine_that_stood_still_fences_nobody():
    with start("--split", "layer") as daemon:
        want = undisturbed(daemon)
        engine = daemon.engines()[0]

        def stand_still():
            os.kill(engine, signal.SIGSTOP)
            time.sleep(2.5)
            os.kill(engine, signal.SIGCONT)
        equal(Crowd(daemon, stand_still).run(), want, "after a pause")
        equal((states(daemon), daemon.engines()), (["online"] * 4, [engine]))


@test
def a_drain_that_cannot_be_is_refused_and_changes_nothing():
    with Daemon("--cards", "2", "--card-memory", "64M,1M", "--context", "256", "--host-spill", "0",
                model=tiny()) as own:
        before = own.rpc("cards")
        words = refused(own, "drain", {"card": 0})
        assert "card 0 cannot be drained" in words and "does not fit" in words, words
        assert "card 1 is" in words, words
        status, out, err = own.client("drain", "0")
        equal((status, out), (1, ""))
        assert "does not fit" in err, err
        equal(own.rpc("cards"), before)
        equal(own.rpc("status")["generation"], 1)
        assert "no card 5" in refused(own, "drain", {"card": 5})
        equal(own.rpc("drain", {"card": 1, "wait": True})["state"], "drained")
        assert "only card" in refused(own, "drain", {"card": 0})
        assert "no card 5" in refused(own, "online", {"card": 5})
        equal(own.rpc("status")["state"], "ready")


@test
def what_is_so_already_is_said_and_no_error():
    daemon = start()
    with daemon:
        def quietly(state, *words):
            before = daemon.rpc("cards"), daemon.rpc("events")["last"], daemon.rpc("status")["generation"]
            for more in ((), ("--wait",)):
                equal(say(daemon, *words, *more), "card 3 is %s already\n" % state)
                equal(json.loads(say(daemon, "--json", *words, *more)),
                      {"card": 3, "state": state, "generation": before[2], "changed": False})
            equal((daemon.rpc("cards"), daemon.rpc("events")["last"], daemon.rpc("status")["generation"]), before)
        quietly("online", "online", "3")
        equal(say(daemon, "drain", "--wait", "3"), "card 3 is drained\n")
        quietly("drained", "drain", "3")
        equal(say(daemon, "drain", "--release", "3"), "card 3 is offline\n")
        quietly("offline", "drain", "--release", "3")
        quietly("offline", "drain", "3")
        equal(say(daemon, "online", "--wait", "3"), "card 3 is online\n")


@test
def a_released_card_is_offline_and_comes_back_empty():
    with start("--split", "tensor") as daemon:
        want = undisturbed(daemon)
        equal(say(daemon, "drain", "--wait", "3"), "card 3 is drained\n")
        equal(say(daemon, "online", "--wait", "3"), "card 3 is online\n")
        equal(daemon.rpc("cards")["cards"][3]["reused"], True, "what it held")
        equal(say(daemon, "drain", "--wait", "--release", "3"), "card 3 is offline\n")
        equal(say(daemon, "online", "--wait", "3"), "card 3 is online\n")
        equal(daemon.rpc("cards")["cards"][3]["reused"], False, "nothing was held")
        equal(Crowd(daemon).run(), want)


@test
def measuring_waits_for_an_order():
    """It gives back what no plan has of the cards' memory, and an order writes there."""
    asked = {"prompt": PROMPT, "temperature": 0, "max_tokens": 24}
    with start("--split", "layer", rebalance="running") as daemon:
        want = daemon.rpc("complete", asked)["choices"]
        first, second = daemon.connect(), daemon.connect()
        for method, n in (("drain", 1), ("online", 2)):
            with daemon.held():
                first.send(method, {"card": 1, "wait": True})
                wait_until(lambda: sum(e["kind"] == "rebalance" for e in
                                       daemon.rpc("events")["events"]) == n, 20, "the order")
                second.send("measure")
                daemon.rpc("status")
            assert "result" in first.receive()
            assert second.receive()["result"]["weights_bytes"] > 0
            equal(daemon.rpc("complete", asked)["choices"], want, method)
        equal(daemon.rpc("status")["generation"], 1)
        first.close()
        second.close()


def weights_of(daemon, card):
    """The memory that octarcd has of a card's weights: its inode; None: it has none."""
    folder = "/proc/%d/fd" % daemon.process.pid
    for fd in os.listdir(folder):
        if os.readlink(os.path.join(folder, fd)).startswith("/memfd:octarc-weights-%d " % card):
            return os.stat(os.path.join(folder, fd)).st_ino
    return None


@test
def what_a_drained_card_holds_outlives_the_drain_of_another():
    with start("--split", "layer", rebalance="running") as daemon:
        daemon.rpc("drain", {"card": 3, "wait": True})
        before = weights_of(daemon, 3)
        daemon.rpc("drain", {"card": 2, "wait": True})
        equal(weights_of(daemon, 3), before)
        daemon.rpc("online", {"card": 3, "wait": True})
        equal((states(daemon)[3], weights_of(daemon, 3)), ("online", before))
        assert before is not None


@test
def rebalance_shows_what_would_move_and_moves_it():
    with start("--split", "tensor", config="[service]\ncard_quiet = 3600\n") as daemon:
        assert "nothing to do" in say(daemon, "rebalance")
        daemon.rpc("drill", {"fault": "lose", "card": 2})
        wait_until(lambda: daemon.rpc("status")["generation"] == 2 and
                   daemon.rpc("status")["state"] == "ready", 30, "generation 2")
        daemon.rpc("drill", {"fault": "return", "card": 2})
        assert "nothing to do" in say(daemon, "rebalance"), "it is not quiet for long enough"
        with open(daemon.config, "w") as f:
            f.write("[engine]\nrebalance = restart\n[service]\ncard_quiet = 0\n")
        daemon.rpc("reload")
        daemon.rpc("drill", {"fault": "lose", "card": 2})
        lines = daemon.connect()
        with daemon.held():  # what runs does not end, and so keeps the card waiting
            lines.send("complete", {"prompt": PROMPT, "max_tokens": 400, "ignore_eos": True})
            wait_until(lambda: daemon.rpc("ps")["requests"], 10, "the request")
            daemon.rpc("drill", {"fault": "return", "card": 2})
            plan = daemon.rpc("rebalance", {"dry_run": True})
            shown = say(daemon, "rebalance", "--dry-run")
            done = say(daemon, "rebalance", "-v")
        equal(lines.receive()["result"]["choices"][0]["finish_reason"], "length")
        lines.close()
        assert {m["to"] for m in plan["moves"]} >= {2} and plan["moved_bytes"] > 0, plan
        equal(sum(m["bytes"] for m in plan["moves"]), plan["moved_bytes"] + plan["file_bytes"])
        assert "between cards" in shown, shown
        assert "Changing over" in done, done
        wait_until(lambda: states(daemon)[2] == "online", 30, "card 2")


@test
def events_tell_the_story_as_it_happens():
    with start() as daemon:
        lines = daemon.connect()
        number = lines.send("events", {"stream": True, "since": 2})
        web = UnixHttp(daemon.socket, daemon.timeout)
        web.request("GET", "/octarc/v1/events")
        answer = web.getresponse()
        equal(answer.getheader("Content-Type"), "text/event-stream")
        say(daemon, "drain", "--wait", "3")
        daemon.rpc("drill", {"fault": "lose", "card": 0})
        wait_until(lambda: daemon.rpc("status")["generation"] == 3 and
                   daemon.rpc("status")["state"] == "ready", 30, "generation 3")
        want = [("card", "draining"), ("end", None), ("start", None), ("card", "drained"),
                ("ready", None), ("card", "lost"), ("end", None), ("start", None), ("ready", None)]
        live = []
        for _ in want:
            message = lines.receive()
            equal(message["params"]["id"], number)
            live.append(message["params"]["chunk"])
        equal([(e["kind"], e.get("to")) for e in live], want)
        equal([e["number"] for e in live], list(range(3, 12)))
        lines.close()
        kept = daemon.rpc("events")
        equal(kept["last"], 11)
        equal(kept["events"][2:], live)
        read = []
        for line in answer:
            if line.startswith(b"data: "):
                read.append(json.loads(line[6:]))
            if len(read) == 11:
                break
        equal(read, kept["events"], "over HTTP")
        web.close()
        printed = say(daemon, "events", "--since", "9").splitlines()
        equal(len(printed), 2)
        assert "generation 3 starts on 2 cards" in printed[0], printed
        assert printed[1].split()[0] == "11", printed
        history = [h["to"] for h in daemon.rpc("cards")["cards"][3]["history"]]
        equal(history, ["draining", "drained"])
        assert "nothing runs on it" in say(daemon, "-v", "cards")


def kept_in(folder, more=""):
    return "[service]\nstate_dir = %s\n%s" % (folder, more)


@test
def what_was_decided_of_cards_survives_a_restart():
    with tempfile.TemporaryDirectory(prefix="octarc-state-") as folder:
        with start(config=kept_in(folder)) as daemon:
            say(daemon, "drain", "--wait", "1")
            say(daemon, "drill", "lose", "2")
            for i in range(10):  # within a minute
                daemon.rpc("drill", {"fault": "lose", "card": 3})
                if i < 9:
                    daemon.rpc("drill", {"fault": "return", "card": 3})
            equal(states(daemon), ["online", "drained", "lost", "quarantined"])
        with start(config=kept_in(folder)) as daemon:
            equal(states(daemon), ["online", "offline", "online", "quarantined"])
            cards = daemon.rpc("cards")["cards"]
            equal([c["faults"]["lost"] for c in cards], [0, 0, 1, 10])
            equal([h["to"] for h in cards[1]["history"]], ["draining", "drained", "offline"])
            equal(daemon.rpc("status")["cards_online"], 2)
            assert "card 1 is offline from the start" in daemon.log(), daemon.log()
            assert "from the start" in say(daemon, "events").splitlines()[0]
            want = undisturbed(daemon)
            for card in ("1", "3"):
                say(daemon, "online", "--wait", card)
        with start(config=kept_in(folder)) as daemon:
            equal(states(daemon), ["online"] * 4)
            equal(Crowd(daemon).run(), want)
            equal(daemon.rpc("cards")["cards"][3]["faults"]["lost"], 10)
    with start() as daemon:
        assert "no state directory (key state_dir)" in daemon.log()


@test
def a_damaged_file_of_cards_is_moved_aside_and_the_service_goes_on():
    with tempfile.TemporaryDirectory(prefix="octarc-state-") as folder:
        path = os.path.join(folder, "cards.json")
        with open(path, "w") as f:
            f.write('{"version": 1, "cards": [{"identity": "slot:cpu-0", "state": "lo')
        with start(config=kept_in(folder)) as daemon:
            equal(states(daemon), ["online"] * 4)
            assert "cards.json cannot be used" in daemon.log(), daemon.log()
            assert os.path.exists(path + ".damaged") and not os.path.exists(path)
            say(daemon, "drain", "--wait", "0")
        with start(config=kept_in(folder)) as daemon:
            equal(states(daemon)[0], "offline")


@test
def without_the_cards_that_are_held_back_the_service_waits_for_an_operator():
    with tempfile.TemporaryDirectory(prefix="octarc-state-") as folder:
        options = ("--cards", "2", "--card-memory", "64M,1M", "--context", "256", "--host-spill",
                   "0")
        config = kept_in(folder, "no_card_wait = 1\ncard_faults = 1\n")
        with Daemon(*options, model=tiny(), config=config) as daemon:
            want = daemon.complete(PROMPT)["choices"]
            say(daemon, "drill", "lose", "0")
            equal(states(daemon)[0], "quarantined")
        own = Daemon(*options, model=tiny(), config=config, wait=False)
        with own:
            wait_until(own.is_listening, 20, "the socket")
            wait_until(lambda: own.rpc("status")["state"] == "no_device", 20, "no_device")
            equal(own.rpc_error("complete", {"prompt": PROMPT}), "no_device")
            equal(say(own, "online", "--wait", "0"), "card 0 is online\n")
            own.wait_ready()
            equal(own.complete(PROMPT)["choices"], want)


@test
def a_service_killed_at_any_moment_starts_again_with_a_whole_file():
    with tempfile.TemporaryDirectory(prefix="octarc-state-") as folder:
        for i in range(4):
            daemon = start(config=kept_in(folder, "card_quiet = 0\ncard_faults = 64\n"))
            try:
                for k in range(6):
                    say(daemon, "drill", "lose" if k % 2 == 0 else "return", "3")
                    time.sleep(0.003 * i)
                daemon.process.send_signal(signal.SIGKILL)
                daemon.process.wait()
            finally:
                daemon.kill()
            assert not os.path.exists(os.path.join(folder, "cards.json.damaged"))
            with open(os.path.join(folder, "cards.json")) as f:
                equal(json.load(f)["cards"][0]["identity"], "slot:cpu-3")


if __name__ == "__main__":
    main()
