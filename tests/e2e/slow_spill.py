#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cards that come, go and are harmed while weights stay in host memory, or because of it: under sixteen
streams no token is another, and nothing comes by a fault."""
from crowd import Crowd, corrupt, say, states, undisturbed
from harness import equal, main, test
from spill import TWO_CARDS, fetches, spilled, spills_without_a_fault, start


@test
def a_loss_that_leaves_too_little_makes_the_rest_spill():
    for way in ("running", "restart"):
        with start(*TWO_CARDS, rebalance=way) as own:
            want = undisturbed(own)
            equal(spilled(own), 0, "before the loss")
            got = Crowd(own, lambda: say(own, "drill", "lose", "1")).run()
            equal(got, want, "after the loss, %s" % way)
            spills_without_a_fault(own)
            equal(own.rpc("status")["requests"]["failed"], 0, "failed requests")


@test
def a_plan_that_spills_is_left_and_taken_up_again():
    for way in ("running", "restart"):
        with start(*TWO_CARDS, rebalance=way) as own:
            want = undisturbed(own)
            for verb, state in (("drain", "drained"), ("online", "online")):
                got = Crowd(own, lambda verb=verb: say(own, verb, "0", "--wait")).run()
                equal(got, want, "%s, %s" % (verb, way))
                equal(states(own), [state, "online"])
                equal(spilled(own) > 0, verb == "drain", "spilled, %s" % verb)
                equal(fetches(own)[1], 0, "faults")


@test
def a_loss_while_it_spills_changes_no_answer():
    for way in ("running", "restart"):
        with start("--cards", "3", "--card-memory", "2300K,1200K,1200K", rebalance=way) as own:
            want = undisturbed(own)
            spills_without_a_fault(own)
            for card in (2, 1):
                equal(Crowd(own, lambda card=card: say(own, "drill", "lose", str(card))).run(), want,
                      "card %d, %s" % (card, way))
            spills_without_a_fault(own)


@test
def harm_in_host_memory_is_found_and_repaired():
    with start("--cards", "1", "--card-memory", "2300K") as own:
        want = undisturbed(own)
        equal(Crowd(own, lambda: corrupt(own, 0)).run(), want, "one that is told")
        say(own, "drill", "corrupt", "0", "--silent")
        equal(own.client("check")[0], 1, "harm that nobody told of is found")
        equal(own.client("check")[0], 0, "and repaired")
        equal(Crowd(own).run(), want, "afterwards")
        spills_without_a_fault(own)


if __name__ == "__main__":
    main()
