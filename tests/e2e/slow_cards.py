#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cards come and go under sixteen streams, two faults at once among them: no token is lost, none comes
twice, none is another."""
import time
from itertools import product

from crowd import (WAYS, Crowd, is_whole, refused, say, start, states, undisturbed)
from harness import RpcError, equal, main, note, test, wait_until


@test
def a_card_is_drained_and_taken_back_under_sixteen_streams():
    for split, way in product(("layer", "tensor"), WAYS):
        with start("--split", split, rebalance=way) as daemon:
            want = undisturbed(daemon)

            def drain():
                equal(say(daemon, "drain", "--wait", "1"), "card 1 is drained\n")
            status = is_whole(daemon, want, drain, "drained, " + split)
            equal(status["cards_online"], 3)
            card = daemon.rpc("cards")["cards"][1]
            equal((card["state"], sum(card["actual"].values()), card["layers"]),
                  ("drained", 0, [0, 0]))
            equal(Crowd(daemon).run(), want, "on three cards")

            def back():
                equal(say(daemon, "online", "1", "--wait"), "card 1 is online\n")
            status = is_whole(daemon, want, back, "taken back, " + split)
            equal((status["cards_online"], status["generation"] + status["rebalances"]), (4, 3))
            assert daemon.rpc("cards")["cards"][1]["actual"]["weights_bytes"] > 0


@test
def a_loss_in_the_middle_of_a_drain_loses_nothing_else():
    for way in WAYS:
        with start(rebalance=way) as daemon:
            want = undisturbed(daemon)

            def both():
                equal(daemon.rpc("drain", {"card": 1})["state"], "draining")
                daemon.rpc("drill", {"fault": "lose", "card": 3})
            is_whole(daemon, want, both, "another card lost")
            equal(states(daemon), ["online", "drained", "online", "lost"])
            for card in (1, 3):
                daemon.rpc("online", {"card": card, "wait": True})

            def same():
                daemon.rpc("drain", {"card": 2})
                try:
                    daemon.rpc("drill", {"fault": "lose", "card": 2})
                except RpcError as error:  # it may have been quick
                    note(error)
            is_whole(daemon, want, same, "the same card lost")
            equal(states(daemon), ["online", "online", "offline", "online"])


@test
def an_engine_killed_in_the_middle_of_a_drain_loses_nothing():
    for way in WAYS:
        with start("--split", "tensor", rebalance=way) as daemon:
            want = undisturbed(daemon)

            def both():
                equal(daemon.rpc("drain", {"card": 0})["state"], "draining")
                daemon.kill_engine()
                wait_until(lambda: states(daemon)[0] == "drained", 30, "the drain")
            is_whole(daemon, want, both, "killed", kills=True)
            equal(states(daemon), ["drained", "online", "online", "online"])

            def again():
                daemon.rpc("online", {"card": 0})
                daemon.kill_engine()
                wait_until(lambda: states(daemon)[0] == "online", 30, "card 0 online")
            is_whole(daemon, want, again, "killed while it is taken back", kills=True)


@test
def orders_that_overtake_each_other_lose_nothing():
    with start("--split", "tensor", rebalance="running") as daemon:
        want = undisturbed(daemon)

        def hurry():
            for card in (0, 2):
                daemon.rpc("drain", {"card": card})
            daemon.rpc("online", {"card": 0})
            daemon.rpc("drain", {"card": 3})
            wait_until(lambda: states(daemon) == ["online", "online", "drained", "drained"], 30,
                       "the cards' states")
        is_whole(daemon, want, hurry, "overtaken")
        is_whole(daemon, want, lambda: [daemon.rpc("online", {"card": c}) for c in (2, 3)], "back")
        wait_until(lambda: states(daemon) == ["online"] * 4, 30, "all cards")
        equal(Crowd(daemon).run(), want)


@test
def ten_losses_in_a_minute_quarantine_a_card_until_an_operator_says_online():
    for way in WAYS:
        quarantine(way)


def quarantine(way):
    with start(rebalance=way) as daemon:
        want = undisturbed(daemon)

        def flap():
            for i in range(10):  # within a minute
                daemon.rpc("drill", {"fault": "lose", "card": 2})
                if i < 9:
                    equal(states(daemon)[2], "lost", "after %d losses" % (i + 1))
                    daemon.rpc("drill", {"fault": "return", "card": 2})
        is_whole(daemon, want, flap, "a flapping card")
        equal(states(daemon)[2], "quarantined")
        words = refused(daemon, "drill", {"fault": "return", "card": 2})
        assert "card 2" in words and "quarantined" in words and "octarc online" in words, words
        equal(daemon.rpc("cards")["cards"][2]["faults"]["lost"], 10)
        assert 'octarc_card_faults_total{card="2",kind="lost"} 10\n' in say(daemon, "metrics")
        daemon.kill_engine()
        wait_until(lambda: daemon.rpc("status")["state"] == "ready", 30, "ready")
        time.sleep(1.5)
        equal(states(daemon)[2], "quarantined", "after a new generation")
        is_whole(daemon, want, lambda: say(daemon, "online", "--wait", "2"), "taken back")
        equal(states(daemon), ["online"] * 4)


@test
def a_card_drained_during_the_load_is_not_used():
    with start() as daemon:
        want = Crowd(daemon).run()
    daemon = start(wait=False)
    with daemon:
        wait_until(daemon.is_listening, 20, "the socket")
        state = daemon.rpc("status")["state"]
        note("drained while " + state)
        equal(daemon.rpc("drain", {"card": 0, "wait": True})["state"], "drained")
        daemon.wait_ready()
        equal(states(daemon)[0], "drained")
        equal(daemon.rpc("cards")["cards"][0]["actual"]["weights_bytes"], 0)
        equal(Crowd(daemon).run(), want)


@test
def a_card_that_returns_by_itself_waits_until_it_disturbs_nobody():
    with start(config="[service]\ncard_quiet = 1\n") as daemon:
        want = undisturbed(daemon)

        def lose_and_return():
            daemon.rpc("drill", {"fault": "lose", "card": 1})
            daemon.rpc("drill", {"fault": "return", "card": 1})
            assert states(daemon)[1] in ("probing", "online"), states(daemon)  # the crowd may be through
        is_whole(daemon, want, lose_and_return, "lost and back")
        wait_until(lambda: states(daemon)[1] == "online", 10, "its return")
        equal(Crowd(daemon).run(), want)


if __name__ == "__main__":
    main()
