#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Models that are larger than their cards: what has no room stays in host memory, and nobody notices
but for the time.  The tokens are those of one large card, and nothing comes by a fault."""
import re

from crowd import PROMPT, say
from harness import equal, in_parallel, main, octarcd, test, wait_until
from spill import MODEL, OPTIONS, fetches, spilled, spills_without_a_fault, start

PROMPTS = [PROMPT, "The capital of France is", PROMPT * 3, "x"]


def transcript(daemon, prompt):
    answer = daemon.complete(prompt, 24, logprobs=2, ignore_eos=True, temperature=0)
    return [(c["text"], c["logprobs"], c["finish_reason"]) for c in answer["choices"]]


@test
def a_model_larger_than_all_cards_has_the_same_tokens():
    with start("--cards", "1", "--card-memory", "64M") as large:
        want = [transcript(large, p) for p in PROMPTS]
        equal((spilled(large), fetches(large)), (0, (0, 0)))
    for n, memory in (("1", "2300K"), ("3", "1600K")):
        with start("--cards", n, "--card-memory", memory) as small:
            equal(in_parallel([lambda p=p: transcript(small, p) for p in PROMPTS]), want)
            equal([transcript(small, p) for p in PROMPTS], want)
            spills_without_a_fault(small)
            for c in small.rpc("cards")["cards"]:
                equal(c["actual"], c["planned"], "bytes of card %d" % c["card"])
                assert sum(c["planned"].values()) - c["planned"]["spilled_bytes"] <= \
                    c["capacity_bytes"], c


@test
def everybody_is_told():
    with start("--cards", "1", "--card-memory", "2300K") as own:
        transcript(own, PROMPT)
        wait_until(lambda: fetches(own)[0] > 0, 20, "what was fetched")
        status = own.rpc("status")
        equal(status["host_bytes"], spilled(own))
        assert status["host_bytes"] <= status["host_spill"], status
        told = [e for e in own.rpc("events")["events"] if e["kind"] == "spilled"]
        equal(len(told), 1, "events")
        assert "stay in host memory" in told[0]["text"], told
        assert "in host memory, of at most" in say(own, "status")
        assert re.search(r"host memory: .* of weights; .*, 0 faults", say(own, "top", "--count", "1"))
        text = own.rpc("metrics")["text"]
        assert "octarc_host_weights_bytes %d\n" % status["host_bytes"] in text, text
        assert 'octarc_card_fetch_faults_total{card="0"} 0\n' in text, text
        assert int(re.search(r'octarc_card_fetched_bytes_total\{card="0"\} (\d+)\n', text)[1]) > 0


@test
def without_host_memory_it_is_refused_by_that_name():
    status, err = octarcd("--config", "/dev/null", *OPTIONS, "--cards", "1", "--card-memory", "2300K",
                          "--host-spill", "0", "--plan", MODEL)
    equal(status, 1)
    assert "does not fit" in err and re.search(r"host_spill = \d+M instead of 0M", err), err


if __name__ == "__main__":
    main()
