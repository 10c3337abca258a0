#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every fault at every moment on every card, under sixteen streams, both ways of changing over: no request
is lost and every transcript is that of a quiet day.

A hang takes its deadline, a second, so of those only some are tried, at each moment on one card and another;
FAULTS_ALL=1 tries all, FAULTS_SEED=N as many that are drawn by chance."""
import os
import random
import time

from crowd import SILENT, WAYS
from faults import FAULTS, Crowd, cells, run_cell, take_back
from harness import Daemon, main, note, test, tiny

CARDS = 8
TOKENS = 24
HANGS = 6  # of each way
ARCHITECTURES = ("qwen2", "qwen3", "gemma2", "gemma3", "fused", "mistral3", "qwen3moe", "mixtral",
                 "qwen2moe", "gpt-oss", "gpt-oss-mxfp4")  # of the tiny models
DRAWN = 18  # and two silent cards: twenty faults on each architecture
STRIDE = 7  # from one to the next: no multiple of the cards, so that both card and moment change
CONFIG = "[service]\ncard_silence = 1\ncard_faults = 64\n"


def chosen(faults):
    all_cells = cells(CARDS, faults)
    if faults != ("hang",) or os.environ.get("FAULTS_ALL"):
        return all_cells
    if os.environ.get("FAULTS_SEED"):
        return random.Random(int(os.environ["FAULTS_SEED"])).sample(all_cells, HANGS)
    return all_cells[::STRIDE][:HANGS]


def run_cells(todo, way, split, model):
    with Daemon("--cards", str(CARDS), "--context", "512", "--split", split, model=model,
                rebalance=way, deaths=SILENT, config=CONFIG) as daemon:
        crowd, early = Crowd(daemon, TOKENS, words=3), 0
        want = [s.transcript() for s in crowd.run()]
        begin = time.monotonic()
        for cell in todo:
            run_cell(crowd, cell, want)
            early += cell[1] == "prefill" and crowd.early
            take_back(daemon)
        seconds = time.monotonic() - begin
        prefills = sum(cell[1] == "prefill" for cell in todo)
        note("%s, %s, %s: %d cells in %.1f s, %.2f s each; %d of %d came before the first token" % (
            os.path.basename(model), way, split, len(todo), seconds, seconds / len(todo), early,
            prefills))


def run_all(faults, split):
    for way in WAYS:
        run_cells(chosen(faults), way, split, tiny())


def quick():
    return tuple(f for f in FAULTS if f != "hang")


@test
def no_fault_at_any_moment_changes_an_answer_where_layers_are_split():
    run_all(quick(), "layer")


@test
def no_fault_at_any_moment_changes_an_answer_where_tensors_are_split():
    run_all(quick(), "tensor")


@test
def no_silence_at_any_moment_changes_an_answer():
    run_all(("hang",), "tensor")


@test
def twenty_faults_change_no_answer_of_any_architecture():
    for i, name in enumerate(ARCHITECTURES):
        draw = random.Random(int(os.environ.get("FAULTS_SEED", "0")) + i)
        todo = draw.sample(cells(CARDS, quick()), DRAWN) + draw.sample(
            cells(CARDS, ("hang",)), 20 - DRAWN)
        run_cells(todo, WAYS[i % 2], ("layer", "tensor")[i // 2 % 2], tiny("tiny-" + name))


if __name__ == "__main__":
    main()
