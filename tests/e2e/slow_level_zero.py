#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""octarcd with the level_zero backend, by the real loader, on simulated cards that execute its kernels
(tests/sim_level_zero): what a client gets is what the cpu backend answers."""
import functools
import json
import os
import re
import subprocess
import tempfile

import spill
from harness import BUILD, STRETCH, Daemon, RpcError, equal, main, octarcd, test, tiny, wait_until
from sim_cards import Faults, environment, with_nodes

PROMPTS = ["Hello there", "one two three", "The"]
N = 24


def texts(daemon):
    answers = [daemon.complete(prompt, N, logprobs=3) for prompt in PROMPTS]
    return [{"choices": answer["choices"]} for answer in answers]


@functools.cache
def of_cpu():
    with Daemon(model=tiny()) as daemon:
        return texts(daemon)


def serve(options, *more, model=None, config=""):
    return Daemon("--backend", "level_zero", "--context", "256", *more, model=model or tiny(),
                  env=environment(options), config=config)


def uuid(bus):
    """Of the card on that bus, as the driver makes it."""
    return "uuid:868011e273696d00%02x00000000000000" % bus


@test
def two_cards_that_share_layers_answer_as_the_cpu_does():
    want = of_cpu()
    with serve("cards=2 memory=256M", "--split", "tensor") as daemon:
        equal(texts(daemon), want)
        status = daemon.rpc("status")
        equal((status["backend"], status["cards_online"]), ("level_zero", 2))
        listed = daemon.rpc("cards")["cards"]
        equal([card["identity"] for card in listed], [uuid(3), uuid(4)])


@test
def experts_answer_as_on_the_cpu():
    model = tiny("tiny-qwen2moe")
    with Daemon(model=model) as daemon:
        want = texts(daemon)
    with serve("cards=3 memory=256M", "--split", "tensor", model=model) as daemon:
        equal(texts(daemon), want)


@test
def layers_that_stay_in_host_memory_answer_as_on_the_cpu():
    with spill.start("--cards", "1") as daemon:
        want = texts(daemon)
    with serve("cards=2 memory=256M", "--card-memory", "2600K", "--split", "layer",
               model=spill.MODEL) as daemon:
        equal(texts(daemon), want)
        equal(spill.spilled(daemon), 0)
        daemon.rpc("drain", {"card": 1, "wait": True})
        wait_until(lambda: spill.spilled(daemon) > 0, 30, "a plan that spills")
        equal(texts(daemon), want)
        spill.spills_without_a_fault(daemon)


@test
def a_card_lost_in_mid_answer_changes_no_answer():
    want = of_cpu()[0]["choices"][0]["text"]
    with tempfile.TemporaryDirectory() as folder:
        faults = Faults(folder)
        with serve("cards=3 memory=256M faults=" + faults.path, "--split", "layer") as daemon:
            lines, text = daemon.connect(), ""
            for i, chunk in enumerate(lines.stream("complete", {
                    "prompt": PROMPTS[0], "max_tokens": N, "temperature": 0})):
                text += chunk["choices"][0]["text"]
                if i == 3:
                    faults.strike("lose=1")
            lines.close()
            equal(text, want)
            equal([card["state"] for card in daemon.rpc("cards")["cards"]],
                  ["online", "lost", "online"])
            assert daemon.rpc("status")["generation"] == 2


@test
def a_card_that_dies_while_the_model_is_loaded_is_done_without():
    want = of_cpu()
    for call in (100, 130):  # when links were tried
        with serve("cards=3 memory=256M lose=1@%d" % call, "--split", "tensor") as daemon:
            equal([card["state"] for card in daemon.rpc("cards")["cards"]],
                  ["online", "lost", "online"], "lost at call %d" % call)
            equal(texts(daemon), want)


@test
def so_is_one_that_cannot_be_opened_again():
    with tempfile.TemporaryDirectory() as folder:
        faults = Faults(folder)
        with serve("cards=3 memory=256M faults=" + faults.path, "--split", "layer",
                   config="[service]\ndrill = yes\n") as daemon:
            faults.strike("broken=2")
            daemon.rpc("drill", {"fault": "kill-engine"})
            wait_until(lambda: daemon.rpc("status")["generation"] == 3, 30, "a plan without it")
            daemon.wait_ready()
            equal([card["state"] for card in daemon.rpc("cards")["cards"]],
                  ["online", "online", "lost"])
            equal(texts(daemon), of_cpu())


@test
def one_that_is_broken_from_the_start_is_lost_from_then_on():
    with serve("cards=3 memory=256M broken=1", "--split", "layer") as daemon:
        cards = daemon.rpc("cards")["cards"]
        equal([card["identity"] for card in cards], [uuid(3), "slot:0000:04:00.0", uuid(5)])
        equal([card["state"] for card in cards], ["online", "lost", "online"])
        equal(texts(daemon), of_cpu())


@test
def a_card_found_lost_while_nothing_runs_is_named_and_replaced():
    want = of_cpu()
    with tempfile.TemporaryDirectory() as folder:
        faults = Faults(folder)
        with serve("cards=3 memory=256M faults=" + faults.path, "--split", "layer") as daemon:
            faults.strike("lose=2")
            try:
                daemon.rpc("check")
            except RpcError:
                pass  # it may end with the engine
            wait_until(lambda: daemon.rpc("status")["generation"] == 2, 30, "a new engine")
            daemon.wait_ready()
            equal(texts(daemon), want)
            equal([card["state"] for card in daemon.rpc("cards")["cards"]],
                  ["online", "online", "lost"])


def serve_svm(options, *more, model=None, storage="svm"):
    return Daemon("--backend", "level_zero", "--context", "256", "--storage", storage, *more,
                  model=model or tiny(), env=with_nodes(options))


def lie_at_home(daemon):
    for card in daemon.rpc("cards")["cards"]:
        assert card["prefetched_bytes"] > 0, card
        equal(card["resident_bytes"], card["prefetched_bytes"])


@test
def weights_in_shared_virtual_memory_answer_as_on_the_cpu_and_lie_on_their_cards():
    want = of_cpu()
    for storage in ("svm", "auto"):
        for split in ("layer", "tensor"):
            with serve_svm("cards=2 memory=256M system=0xf", "--split", split,
                           storage=storage) as daemon:
                equal(texts(daemon), want)
                status = daemon.rpc("status")
                equal((status["storage"], status["storage_why"]), ("svm", None))
                equal((status["products"], status["products_why"]), ("xmx", None))
                # It says nothing of its cards' version, or octarc has no images: either is a reason.
                assert status["kernels"] == "spirv" and status["kernels_why"], status
                lie_at_home(daemon)
                daemon.rpc("check")


@test
def a_card_lost_with_its_weights_in_shared_virtual_memory_changes_no_answer():
    want = of_cpu()[0]["choices"][0]["text"]
    with tempfile.TemporaryDirectory() as folder:
        faults = Faults(folder)
        with serve_svm("cards=3 memory=256M system=0xf faults=" + faults.path, "--split",
                       "layer") as daemon:
            lines, text = daemon.connect(), ""
            for i, chunk in enumerate(lines.stream("complete", {
                    "prompt": PROMPTS[0], "max_tokens": N, "temperature": 0})):
                text += chunk["choices"][0]["text"]
                if i == 3:
                    faults.strike("lose=1")
            lines.close()
            equal(text, want)
            equal(daemon.rpc("status")["storage"], "svm")


@test
def where_it_is_not_there_auto_says_why_and_svm_is_refused():
    """So does a card without a matrix engine, whose answers are the same."""
    with serve_svm("cards=2 memory=256M xmx=no", storage="auto") as daemon:
        equal(texts(daemon), of_cpu())
        status = daemon.rpc("status")
        equal(status["storage"], "usm")
        assert "no5lvl" in status["storage_why"], status
        told = [e for e in daemon.rpc("events")["events"] if e["kind"] == "storage"]
        equal(len(told), 1)
        code, said, _ = daemon.client("status")
        assert code == 0 and "Storage: usm: card 0: " in said, said
        equal(status["products"], "dp4a")
        assert "says nothing of a matrix engine" in status["products_why"], status
        assert "Products: dp4a: " in said, said
        assert "Kernels: spirv: " + status["kernels_why"] in said, said
    status, err = octarcd("--config", os.devnull, "--backend", "level_zero", "--model", tiny(),
                          "--storage", "svm", env=with_nodes("cards=2 memory=256M"),
                          deaths=re.compile("signal"))
    assert status != 0 and "storage svm" in err and "no5lvl" in err, (status, err)


@test
def without_a_card_the_service_does_not_start_and_says_why():
    status, err = octarcd("--config", os.devnull, "--backend", "level_zero", "--model", tiny(),
                          env=environment("cards=0"))
    assert status != 0 and "backend = level_zero" in err, (status, err)


@test
def a_drained_card_that_ends_whoever_opens_it_is_not_opened():
    """By no engine, not by what tries the cards before it, and not where numbers are shifted."""
    for shifted in ("", " ordinal=1"):
        with tempfile.TemporaryDirectory() as folder:
            faults = Faults(folder)
            with serve("cards=3 memory=256M%s faults=%s" % (shifted, faults.path), "--split", "layer",
                       config="[service]\ndrill = yes\n") as daemon:
                daemon.rpc("drain", {"card": 1, "wait": True})
                faults.strike("touchy=1")
                for _ in range(2):
                    before = daemon.rpc("status")["generation"]
                    daemon.rpc("drill", {"fault": "kill-engine"})
                    wait_until(lambda: daemon.rpc("status")["generation"] > before, 60, "another engine")
                    equal(texts(daemon), of_cpu())
                equal(daemon.rpc("status")["generation"], before + 1)
                equal([c["state"] for c in daemon.rpc("cards")["cards"]], ["online", "drained", "online"])
                faults.strike("")
                daemon.rpc("online", {"card": 1, "wait": True})
                equal(texts(daemon), of_cpu())
                equal([c["state"] for c in daemon.rpc("cards")["cards"]], ["online"] * 3)


@test
def a_bench_of_cards_is_of_one_service_that_has_all():
    command = [os.path.join(BUILD, "octarc"), "bench", "--quick", "--json", "--backend", "level_zero", tiny()]
    got = json.loads(subprocess.check_output(
        command, env=dict(os.environ, **environment("cards=2 memory=64M")), timeout=300 * STRETCH))
    equal((got["machine"]["backend"], got["machine"]["isa"]), ("level_zero", "xmx"))
    for key in ("decode_tokens_per_s", "ttft_ms", "fraction_of_bandwidth", "fraction_of_int8_peak",
                "read_bytes_per_s", "int8_ops_per_s"):
        assert got[key]["min"] > 0, key
    assert got["shared_weights"]["bytes"] >= got["token_bytes"], got["shared_weights"]
    for key in ("private_weights", "private_read_bytes_per_s", "sharding"):
        assert key not in got, key
    assert "cards" in got["no_sharding"], got["no_sharding"]
    equal(sorted(got["ready_ms"]), ["cold", "warm"])


main()
