#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is carried over the peer links, and where the cards' memory is."""
import re

from crowd import say
from harness import Daemon, equal, main, test, tiny, wait_until

N_EMBD = {"tiny-f32": 64, "tiny-mixed": 256}
PROMPT = "Once upon a time in a small village by the sea there lived"


def start(cards, split, model=None, **more):
    """What a card holds decides what is carried, and how full it is what it holds: so all have a size,
    which else is a part of what this machine has available."""
    return Daemon("--cards", cards, "--card-memory", "64M", "--context", "256", "--split", split,
                  model=model or tiny(), **more)


def carried(daemon):
    return {(l["from"], l["to"]): l["carried_bytes"] for l in daemon.rpc("cards")["links"]}


def run(daemon, n):
    """So many tokens behind the prompt; the rows that were computed: the last token is not."""
    usage = daemon.http("POST", "/v1/completions", {
        "prompt": PROMPT, "max_tokens": n, "temperature": 0, "ignore_eos": True})[1]["usage"]
    equal(usage["completion_tokens"], n)
    return usage["prompt_tokens"] + n - 1 - usage["prompt_tokens_details"]["cached_tokens"]


def becomes(daemon, want):
    """The engine says what it carried behind the last token, maybe a moment later."""
    try:
        wait_until(lambda: carried(daemon) == want, 10, "the bytes")
    except AssertionError:
        equal(carried(daemon), want, "bytes")
        raise


@test
def a_pipeline_carries_rows_from_neighbour_to_neighbour():
    with start("3", "layer") as daemon:
        pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
        equal(carried(daemon), dict.fromkeys(pairs, 0), "before anything ran")
        equal([c["layers"] for c in daemon.rpc("cards")["cards"]], [[0, 1], [1, 2], [2, 3]])
        rows = run(daemon, 12)
        want = dict.fromkeys(pairs, 0)
        want[0, 1] = want[1, 2] = rows * N_EMBD["tiny-f32"] * 4
        becomes(daemon, want)
        rows += run(daemon, 5)
        want[0, 1] = want[1, 2] = rows * N_EMBD["tiny-f32"] * 4
        becomes(daemon, want)
        text = daemon.http("GET", "/metrics")[1].decode()
        for (a, b), n in want.items():
            assert 'octarc_link_bytes_total{from="%d",to="%d"} %d\n' % (a, b, n) in text, text


@test
def only_rows_with_logits_go_to_a_card_with_the_output_matrix_alone():
    with start("3", "layer", model=tiny("tiny-mixed")) as daemon:
        equal([c["layers"] for c in daemon.rpc("cards")["cards"]], [[0, 1], [1, 2], [2, 2]])
        rows, row = run(daemon, 7), N_EMBD["tiny-mixed"] * 4
        # The embedding is the output matrix.
        becomes(daemon, {(2, 0): rows * row, (0, 1): rows * row, (1, 2): 7 * row,
                         (1, 0): 0, (2, 1): 0, (0, 2): 0})


@test
def a_tensor_group_carries_on_all_links():
    with start("4", "tensor") as daemon:
        run(daemon, 12)
        wait_until(lambda: all(carried(daemon).values()), 10, "bytes on all links")
        top = say(daemon, "top", "--count", "1")
        links = [line.split() for line in top.split("FROM  TO")[1].split("\n\n")[0].splitlines()[1:]]
        equal(len(links), 5, "links that are shown")
        assert all(link[0] != link[1] for link in links), top


@test
def a_rebalance_is_carried_over_links_too():
    with start("3", "layer", rebalance="running") as daemon:
        rows = run(daemon, 12)
        row = N_EMBD["tiny-f32"] * 4
        becomes(daemon, {(0, 1): rows * row, (1, 2): rows * row, (2, 0): 0,
                         (1, 0): 0, (2, 1): 0, (0, 2): 0})
        before = carried(daemon)
        moves = daemon.rpc("drain", {"card": 1, "wait": True})
        equal(moves["state"], "drained")
        told = [e for e in daemon.rpc("events")["events"] if e["kind"] == "rebalanced"]
        assert told and told[0]["moved_bytes"], told

        def moved():
            after = carried(daemon)
            return sum(n - before[link] for link, n in after.items() if link[0] == 1)
        # Layer 1 has left card 1: its weights at least, which no other card held.
        wait_until(lambda: moved() > 100000, 10, "layer 1 over the links of card 1, not %d" % moved())
        after = carried(daemon)
        assert all(after[link] >= n for link, n in before.items()), (before, after)
        equal(daemon.rpc("status")["generation"], 1)


@test
def what_was_prefetched_lies_on_its_card():
    for way in ("shared", "private"):
        with start("2", "tensor", config="weights = %s\n" % way) as daemon:
            run(daemon, 3)
            for card in daemon.rpc("cards")["cards"]:
                actual = card["actual"]
                whole = sum(actual.values()) - (64 << 10)  # all but the weights' header
                equal(card["advised_bytes"], whole)
                equal(card["prefetched_bytes"], whole - actual["kv_bytes"])
                equal(card["resident_bytes"], card["prefetched_bytes"])
            shown = [re.findall("100 %", line) for line in
                     say(daemon, "--no-legend", "cards").splitlines()]
            equal(shown, [["100 %"]] * 2)
            text = daemon.http("GET", "/metrics")[1].decode()
            assert re.search('octarc_card_resident_bytes\\{card="1"\\} [1-9]', text), text


if __name__ == "__main__":
    main()
