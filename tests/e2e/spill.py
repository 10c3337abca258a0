# SPDX-License-Identifier: Apache-2.0
"""spill.py - a model with some layers on cards that have no room for all of them."""
from harness import Daemon, equal, tiny, wait_until

MODEL = tiny("tiny-deep")
OPTIONS = ("--context", "256", "--split", "layer")
# Two of them hold the model; one alone has no room for all of it.
TWO_CARDS = ("--cards", "2", "--card-memory", "2600K")


def start(*words, **more):
    return Daemon(*OPTIONS, *words, model=MODEL, **more)


def spilled(daemon):
    return sum(c["planned"]["spilled_bytes"] for c in daemon.rpc("cards")["cards"])


def fetches(daemon):
    """Bytes that came as planned, and faults."""
    cards = daemon.rpc("cards")["cards"]
    return sum(c["fetched_bytes"] for c in cards), sum(c["fetch_faults"] for c in cards)


def spills_without_a_fault(daemon):
    wait_until(lambda: spilled(daemon) > 0, 20, "a plan that spills")
    wait_until(lambda: fetches(daemon)[0] > 0, 20, "what was fetched")
    equal(fetches(daemon)[1], 0, "faults")
