#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Faults of real cards, as the simulated driver has them (tests/sim_level_zero), under sixteen streams: no
request is lost and every transcript is that of a quiet day.

Twenty cells are drawn, the same ones each time; FAULTS_SEED=N draws others, FAULTS_ALL=1 tries all."""
import os
import random
import tempfile
import time

from faults import FAULTS, Crowd, cells, run_cell, take_back
from harness import Daemon, RpcError, equal, main, note, octarcd, test, tiny, wait_until
from sim_cards import Faults, environment

CARDS = 8
TOKENS = 24
DRAWN = 20
CONFIG = "[service]\ndrill = yes\ncard_silence = 2\ncard_faults = 64\n"
DEATHS = r"is gone: (card \d+|was killed by signal|ze\w+: )"  # of the log: what a card does to an engine

# What befalls a card, in the words of the driver.  A card that is wedged ends every process that polls it.
WORDS = {"lost": "lose=%d", "silent": "hang=%d", "wedged": "abort=%d", "broken": "broken=%d"}


def table(faults):
    """What each fault of a cell does."""
    own = {name: lambda daemon, card, word=word: faults.strike(word % card)
           for name, word in WORDS.items()}
    return {**own, "kill-engine": FAULTS["kill-engine"], "drain": FAULTS["drain"]}


def left_by(fault, works):
    """One without work may never be asked for anything."""
    states = {"lost": {"lost"}, "silent": {"fenced", "lost"}, "wedged": {"lost"}, "broken": {"lost"},
              "kill-engine": {"online", "drained"}, "drain": {"drained"}}[fault]
    return states if works else states | {"online"}


def chosen():
    all_cells = cells(CARDS, (*WORDS, "kill-engine", "drain"))
    if os.environ.get("FAULTS_ALL"):
        return all_cells
    return random.Random(int(os.environ.get("FAULTS_SEED", "1"))).sample(all_cells, DRAWN)


def serve(folder, options, *more):
    faults = Faults(folder)
    return faults, Daemon("--backend", "level_zero", "--context", "512", *more, model=tiny(),
                          env=environment("%s memory=256M faults=%s" % (options, faults.path)),
                          deaths=DEATHS, config=CONFIG)


@test
def no_fault_of_a_card_at_any_moment_changes_an_answer():
    with tempfile.TemporaryDirectory() as folder:
        faults, daemon = serve(folder, "cards=%d" % CARDS, "--split", "layer")
        with daemon:
            crowd = Crowd(daemon, TOKENS, words=1)
            want = [s.transcript() for s in crowd.run()]
            begin = time.monotonic()
            for cell in chosen():
                run_cell(crowd, cell, want, table(faults), left_by)
                faults.strike("")
                take_back(daemon)
            note("%d cells in %.1f s" % (len(chosen()), time.monotonic() - begin))


if __name__ == "__main__":
    main()
