#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""K and V on cards outlive the engine that computed them: octarcd holds that memory, and the next engine takes over
every full page of it that is what it was, so a replay computes less than a page.  On simulated cards
(tests/sim_level_zero)."""
import contextlib
import random
import threading

from harness import RpcError, equal, main, test
from sim_cards import Box, all_held

PAGE = 32
PROMPT = "Once upon a time in a small village there lived a tailor who had three sons and one goat. " * 4
LONG = 120


class Stream:
    """An answer that is heard as it comes, in which something strikes once so many tokens are there."""

    def __init__(self, box, strike=None, after=40, **fields):
        self.text, self.usage, count = "", None, 0
        for chunk in box.daemon.sse("/v1/completions", dict({
                "prompt": PROMPT, "max_tokens": LONG, "temperature": 0,
                "stream_options": {"include_usage": True}}, **fields)):
            self.text += "".join(c["text"] for c in chunk["choices"])
            self.usage = chunk.get("usage") or self.usage
            count += 1
            if strike and count >= after:
                strike()
                strike = None
        if strike:  # several tokens may have come at once
            strike()
        self.prompt = self.usage["prompt_tokens"]
        self.cached = self.usage["prompt_tokens_details"]["cached_tokens"]


def kept(box, generation):
    """Tokens of which that generation took K and V over."""
    said = box.events("kept_kv", generation)
    equal(len(said), 1, "said once")
    equal(said[0]["text"], "K and V of %d tokens that the engine before left are used" % said[0]["tokens"])
    equal(said[0]["tokens"] % PAGE, 0)
    return said[0]["tokens"]


def counted(box):
    """All tokens of which K and V were taken over, as the metrics have it."""
    line = [m for m in box.daemon.http("GET", "/metrics")[1].decode().splitlines() if m.startswith("octarc_kv_kept_tokens_total ")]
    return int(line[0].split()[1])


def boxed(*options, words="cards=2 memory=256M", split="tensor", **fields):
    return Box(words, "--split", split, "--context", "512", *options, **fields)


def less_than_a_page_is_computed_anew(cards, split, model):
    with boxed(words="cards=%d memory=256M" % cards, split=split, model=model) as box:
        want = Stream(box)
        equal(want.cached, 0)
    with boxed(words="cards=%d memory=256M" % cards, split=split, model=model) as box:
        box.spoil_the_file()  # nothing of it is read again either
        got = Stream(box, box.daemon.kill_engine, after=40)
        equal(got.text, want.text)
        box.serves(2)
        taken = kept(box, 2)
        # Of the prompt all, of what was generated all full pages: at most the open one is computed.
        assert want.prompt - PAGE < got.cached <= want.prompt, (got.cached, want.prompt)
        assert want.prompt + 40 - PAGE <= taken < want.prompt + LONG, (taken, want.prompt)
        equal(counted(box), taken)
        equal(box.held(), all_held(box))
        equal(box.events("unkept_kv"), [])
        # It is a prefix for whoever asks next, and outlives the next engine, too.
        again = Stream(box, box.daemon.kill_engine, after=100)
        equal(again.text, want.text)
        box.serves(3)
        assert kept(box, 3) >= taken
        equal(counted(box), taken + kept(box, 3))


@test
def less_than_a_page_is_computed_anew_of_a_long_prompt():
    less_than_a_page_is_computed_anew(2, "tensor", "tiny-f32")


@test
def nor_in_a_pipeline_with_experts():
    less_than_a_page_is_computed_anew(3, "layer", "tiny-qwen2moe")


@test
def answers_are_the_same_whenever_an_engine_is_killed():
    """Several at once, some of which have a beginning in common, and some of which want no pages shared."""
    fields = [{"prompt": PROMPT[:40 * i + 20] + "and"} for i in range(1, 5)]
    fields += [{"prompt": PROMPT, "temperature": 1, "seed": 7}, {"prompt": PROMPT, "cache_prompt": False}]

    def all_of(box, strike=None, after=0):
        texts = [None] * len(fields)

        def one(i):
            texts[i] = Stream(box, strike if i == 0 else None, after, **fields[i]).text
        threads = [threading.Thread(target=one, args=(i,)) for i in range(len(fields))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return texts
    with boxed("--max-sequences", "8") as box:
        want = all_of(box)
    draw = random.Random(5)
    with boxed("--max-sequences", "8") as box:
        for generation in range(2, 8):
            equal(all_of(box, box.daemon.kill_engine, draw.randrange(1, 60)), want)
            box.serves(generation)
            # The whole of a request's prompt may be kept from before, and no request is a suspect for ever.
            assert kept(box, generation) > 0


@test
def nothing_is_used_of_cards_one_of_which_was_lost():
    with boxed() as box:
        want = Stream(box).text
        lose = lambda: box.daemon.rpc("drill", {"fault": "lose", "card": 1})
        equal(Stream(box, lose).text, want)
        box.serves(2)
        equal(box.events("kept_kv"), [])
        equal([e["text"] for e in box.events("unkept_kv")],
              ["the K and V that are held are let go, and computed again: a rehearsed loss"])
        equal(counted(box), 0)
        equal(sorted(set(box.held())), [0])


@test
def nor_of_what_harmed_weights_may_have_made():
    """Bits flip and nobody says so; the next engine finds weights that are not whole."""
    with boxed(config="[engine]\nscrub = 0\n") as box:
        want = Stream(box).text
        box.daemon.rpc("drill", {"fault": "corrupt", "card": 1, "silent": True})
        with contextlib.suppress(AssertionError, RpcError):  # whatever is answered, the bits have flipped then
            box.daemon.complete("and", 1)
        box.kill(2)
        equal(Stream(box).text, want)
        equal([(e["generation"], e["text"]) for e in box.events("unkept_kv")],
              [(2, "K and V that the engine before left are computed again: card 1: the weights that made them "
                   "were not all there and whole")])
        equal(Stream(box, box.daemon.kill_engine).text, want)
        box.serves(3)
        assert kept(box, 3) > 0


@test
def nor_for_a_plan_with_other_places():
    with boxed() as box:
        want = Stream(box).text
        box.daemon.rpc("drain", {"card": 1})
        box.serves(2)
        equal(Stream(box).text, want)
        equal(len(box.events("kept_kv")), 0)
        equal(sorted(set(box.held())), [0, 1])  # of the drained card its weights


@test
def weights_that_are_not_held_hold_no_k_and_v():
    for words, options in (("cards=2 memory=256M noexport=1", ()), ("cards=2 memory=256M", ("--weights", "private"))):
        with boxed(*options, words=words) as box:
            want = Stream(box).text
            equal(Stream(box, box.daemon.kill_engine).text, want)
            box.serves(2)
            equal((box.events("kept_kv"), box.events("unkept_kv"), counted(box)), ([], [], 0))


if __name__ == "__main__":
    main()
