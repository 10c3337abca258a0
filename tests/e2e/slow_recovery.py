#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Engines die and cards are lost while requests run: every answer equals the undisturbed one."""
import ctypes
import mmap
import os
import signal
import tempfile
import threading
import time

from harness import (Daemon, Skip, default_model, equal, in_parallel, main, test, tiny,
                     wait_until)

PROMPT = "Once upon a time in a small village by the sea there lived"
LONG = 100

# Each kind of request that has to survive; streamed and whole.
REQUESTS = {
    "greedy": {},
    "sampled": {"temperature": 0.9, "seed": 7, "top_k": 50, "top_p": 0.95},
    "penalties": {"temperature": 0.7, "seed": 8, "frequency_penalty": 0.5, "presence_penalty": 0.2},
    "logprobs": {"logprobs": 3},
    "choices": {"temperature": 0.8, "seed": 9, "n": 2},
    "bias": {"logit_bias": {"12": 3, "13": -100}},
}


def start(*options, model=None):
    return Daemon("--cards", "8", "--context", "1024", *options, model=model or default_model())


def whole(daemon, fields):
    answer = daemon.rpc("complete", dict({"prompt": PROMPT, "max_tokens": LONG,
                                          "temperature": 0}, **fields))
    return [(c["index"], c["text"], c["logprobs"], c["finish_reason"])
            for c in sorted(answer["choices"], key=lambda c: c["index"])]


def streamed(daemon, fields, on_chunk=lambda count: None):
    """The same, put together from the pieces of a stream; no piece twice, none missing."""
    body = dict({"prompt": PROMPT, "max_tokens": LONG, "temperature": 0}, **fields)
    choices, count = {}, 0
    for chunk in daemon.sse("/v1/completions", body):
        for c in chunk["choices"]:
            text, probs, reason = choices.get(c["index"], ("", None, None))
            piece = c.get("logprobs")
            if piece:
                probs = ({k: probs[k] + piece[k] for k in probs} if probs else piece)
            choices[c["index"]] = (text + c["text"], probs, c["finish_reason"] or reason)
        count += 1
        on_chunk(count)
    return [(i, *choices[i]) for i in sorted(choices)]


def recoveries(daemon):
    return daemon.rpc("status")["generation"]


@test
def an_engine_killed_in_mid_answer_changes_no_answer():
    with start() as daemon:
        for name, fields in REQUESTS.items():
            want = whole(daemon, fields)
            before, kills = recoveries(daemon), []

            def strike(count):
                if count in (5, 60):
                    kills.append(count)
                    daemon.kill_engine()
            got = streamed(daemon, fields, strike)
            assert kills, "nothing was killed"
            wait_until(lambda: recoveries(daemon) > before, 30, "a new generation")
            equal([g[1] for g in got], [w[1] for w in want], name)
            equal(got, want, name)


@test
def a_card_lost_in_mid_answer_changes_no_answer():
    for split in ("layer", "tensor"):
        with start("--split", split) as daemon:
            want = {name: whole(daemon, fields) for name, fields in REQUESTS.items()}
            for card, (name, fields) in zip((3, 0, 7, 5, 1, 2), REQUESTS.items()):
                def strike(count, card=card):
                    if count == 20:
                        with daemon.held():  # in mid answer
                            equal(daemon.client("drill", "lose", str(card))[0], 0, "octarc drill")
                equal(streamed(daemon, fields, strike), want[name], "%s, card %d" % (name, card))
                lost = daemon.rpc("cards")["cards"][card]
                equal((lost["state"], sum(lost["actual"].values())), ("lost", 0), "card %d" % card)
            status = daemon.rpc("status")
            equal((status["cards_online"], status["requests"]["failed"]), (2, 0))
            equal(status["requests"]["recovered"], len(REQUESTS), "recovered")
            equal(whole(daemon, REQUESTS["greedy"]), want["greedy"], "on the two cards left")


@test
def a_loss_that_leaves_a_card_too_small_beside_a_large_one_changes_no_answer():
    for split in ("auto", "tensor"):
        daemon = Daemon("--cards", "3", "--card-memory", "400M,40M,400M", "--context", "1024",
                        "--split", split, model=default_model())
        with daemon:
            fields = REQUESTS["greedy"]
            want = whole(daemon, fields)
            for card in (2, 1):
                def strike(count, card=card):
                    if count == 20:
                        daemon.rpc("drill", {"fault": "lose", "card": card})
                equal(streamed(daemon, fields, strike), want, "%s, card %d" % (split, card))
            cards = daemon.rpc("cards")["cards"]
            equal([c["state"] for c in cards], ["online", "lost", "lost"])


@test
def sixteen_requests_survive_a_kill_and_a_loss_together():
    with start() as daemon:
        prompts = [PROMPT + " number %d" % i for i in range(16)]
        want = [daemon.complete(p, 60)["choices"][0]["text"] for p in prompts]
        done = threading.Event()

        def a_crowd_runs(generation):
            status = daemon.rpc("status")
            return (status["generation"], status["state"]) == (generation, "ready") and \
                status["requests"]["running"] > 4

        def strike():
            for turn in range(3):
                # Not the one that was killed a moment ago, whose end is not yet known.
                wait_until(lambda: a_crowd_runs(turn + 1) or done.is_set(), 30, "a crowd")
                time.sleep(0.1)
                if turn == 1:
                    daemon.rpc("drill", {"fault": "lose", "card": 4})
                else:
                    daemon.kill_engine()
        thread = threading.Thread(target=strike)
        thread.start()
        got = in_parallel([lambda p=p: daemon.complete(p, 60)["choices"][0]["text"]
                           for p in prompts])
        done.set()
        thread.join()
        equal(got, want)
        assert recoveries(daemon) >= 3, "nothing happened"
        counts = daemon.rpc("status")["requests"]
        equal((counts["failed"], counts["running"], counts["queued"]), (0, 0, 0))


@test
def chat_and_completion_survive_too():
    with start() as daemon:
        messages = [{"role": "user", "content": "Tell me about the sea."}]
        chat = {"messages": messages, "max_tokens": LONG, "temperature": 0}
        raw = {"prompt": PROMPT, "n_predict": LONG, "temperature": 0, "return_tokens": True,
               "n_probs": 2}
        want_chat = daemon.http("POST", "/v1/chat/completions", chat)[1]["choices"]
        want_raw = daemon.http("POST", "/completion", raw)[1]

        def strike():
            time.sleep(0.5)
            daemon.kill_engine()
        for _ in range(2):
            thread = threading.Thread(target=strike)
            thread.start()
            got_chat, got_raw = in_parallel([
                lambda: daemon.http("POST", "/v1/chat/completions", chat)[1]["choices"],
                lambda: daemon.http("POST", "/completion", raw)[1]])
            thread.join()
            equal(got_chat, want_chat)
            for key in ("content", "tokens", "completion_probabilities", "stop_type"):
                equal(got_raw[key], want_raw[key], key)


@test
def stop_strings_work_across_a_kill():
    with start() as daemon:
        text = whole(daemon, {})[0][1]
        stop = text[len(text) * 3 // 4:][:6]
        want = whole(daemon, {"stop": [stop]})
        equal(want[0][3], "stop")
        assert stop not in want[0][1]
        got = streamed(daemon, {"stop": [stop]},
                       lambda count: count == 10 and daemon.kill_engine())
        equal(got, want)


@test
def with_the_last_card_gone_requests_wait_and_then_end_by_name():
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as config:
        config.write("[service]\nno_card_wait = 1\n")
        config.flush()
        lose_both(config.name)


def lose_both(config):
    with Daemon("--config", config, "--cards", "2", model=tiny()) as daemon:
        daemon.complete(PROMPT)
        for card in (0, 1):
            daemon.rpc("drill", {"fault": "lose", "card": card})
            time.sleep(0.5)
        equal(daemon.rpc_error("complete", {"prompt": PROMPT, "max_tokens": 5}), "no_device")
        equal(daemon.rpc("status")["cards_online"], 0)


@test
def memory_that_survived_is_used_again_without_the_file():
    with start("--split", "tensor") as daemon:
        daemon.complete(PROMPT)
        daemon.kill_engine()
        wait_until(lambda: daemon.rpc("status")["state"] == "ready" and recoveries(daemon) == 2, 30,
                   "the next generation")
        equal({c["reused"] for c in daemon.rpc("cards")["cards"]}, {True})


def holds(pid, name):
    """Whether a process has a descriptor or a mapping of that name."""
    folder = "/proc/%d/fd" % pid
    with open("/proc/%d/maps" % pid) as maps:
        return name in maps.read() or any(
            name in os.readlink(os.path.join(folder, fd)) for fd in os.listdir(folder))


def huge_of_process(pid):
    """Bytes of all its memory on huge pages, as the kernel has them."""
    with open("/proc/%d/smaps_rollup" % pid) as f:
        return sum(int(line.split()[1]) << 10 for line in f
                   if line.startswith(("AnonHugePages:", "ShmemPmdMapped:")))


def huge_pages_are_had(size=64 << 20):
    """Whether this process gets at least half of what it asks for: what is allowed, and what is left."""
    before = huge_of_process(os.getpid())
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.madvise(mmap.MADV_HUGEPAGE)
        for at in range(0, size, 4096):
            area[at] = 1
        return huge_of_process(os.getpid()) - before >= size // 2


def huge_pages_are_made(size=64 << 20):
    """Whether the kernel makes them of shared memory when it is asked: of a mapping that begins on one."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    huge, fixed, collapse = 2 << 20, 0x10, 25
    raw = libc.mmap(None, size + huge, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    at = (raw + huge - 1) // huge * huge
    fd = os.memfd_create("control")
    try:
        os.ftruncate(fd, size)
        libc.mmap(at, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | fixed, fd, 0)
        ctypes.memset(at, 1, size)
        return libc.madvise(at, size, collapse) == 0
    finally:
        libc.munmap(raw, size + huge)
        os.close(fd)


@test
def shared_weights_lie_on_huge_pages_in_every_engine():
    if not huge_pages_are_made():
        raise Skip("this kernel makes no huge pages of shared memory")
    with Daemon("--cards", "2", "--split", "layer", model=default_model()) as daemon:
        def most_is_huge():
            status = daemon.rpc("status")
            assert status["huge_bytes"] > status["weights_bytes"] // 2, status
            assert daemon.rpc("measure")["huge_bytes"] > status["weights_bytes"] // 2
            return status
        want = most_is_huge()["weights_bytes"]
        os.kill(daemon.engines()[0], signal.SIGKILL)
        wait_until(lambda: daemon.rpc("status")["generation"] == 2 and
                   daemon.rpc("status")["state"] == "ready", 30, "the next engine")
        equal(daemon.rpc("status")["reused_bytes"] > want // 2, True, "the same memory")
        daemon.rpc("measure")
        assert huge_of_process(daemon.engines()[0]) > want // 2, "the next engine has small pages"


@test
def private_weights_lie_on_huge_pages_where_the_kernel_has_them():
    if not os.path.exists("/sys/kernel/mm/transparent_hugepage/enabled"):
        raise Skip("this kernel has no transparent huge pages")
    if not huge_pages_are_had():
        raise Skip("this kernel gives no huge pages, or has none left")
    with Daemon("--cards", "2", "--weights", "private", model=default_model()) as daemon:
        status, cards = daemon.rpc("status"), daemon.rpc("cards")["cards"]
        huge, whole_bytes = status["huge_bytes"], status["weights_bytes"]
        equal(sum(c["huge_bytes"] for c in cards), huge, "huge pages of all cards")
        assert 0 < huge <= whole_bytes or not huge_pages_are_had(), status
        assert huge <= huge_of_process(daemon.engines()[0]), "more than the kernel says"
        now = daemon.rpc("measure")["huge_bytes"]
        assert 0 < now <= whole_bytes or not huge_pages_are_had(), now
        assert " on huge pages" in daemon.client("status")[1]
        assert "HUGE" in daemon.client("-v", "cards")[1].splitlines()[0]
        daemon.rpc("drill", {"fault": "lose", "card": 1})
        wait_until(lambda: daemon.rpc("status")["generation"] == 2 and
                   daemon.rpc("status")["state"] == "ready", 30, "the card that is left")
        equal(daemon.rpc("cards")["cards"][1]["huge_bytes"], 0)


@test
def private_weights_are_read_again_and_no_answer_changes():
    with start("--split", "tensor") as daemon:
        want = {name: whole(daemon, fields) for name, fields in REQUESTS.items()}
        equal(daemon.rpc("status")["weights"], "shared")
        assert holds(daemon.process.pid, "octarc-weights"), "the front has no weights"
    with start("--split", "tensor", "--weights", "private") as daemon:
        equal([daemon.rpc(m)["weights"] for m in ("status", "cards")], ["private"] * 2)
        for pid in (daemon.process.pid, *daemon.engines()):
            assert not holds(pid, "octarc-weights"), "weights are shared by %d" % pid
        for card, (name, fields) in enumerate(REQUESTS.items()):
            def strike(count, card=card):
                if count == 5:
                    daemon.kill_engine()
                if count == 60:
                    # A loss during the load would be one generation with the kill.
                    wait_until(lambda: recoveries(daemon) == 2 * card + 2, 30, "the next generation")
                    daemon.wait_ready()
                    daemon.rpc("drill", {"fault": "lose", "card": card})
            equal(streamed(daemon, fields, strike), want[name], "%s, card %d" % (name, card))
        wait_until(lambda: daemon.rpc("status")["state"] == "ready", 30, "ready")
        status, cards = daemon.rpc("status"), daemon.rpc("cards")["cards"]
        equal((status["cards_online"], status["requests"]["failed"]), (2, 0))
        equal((status["requests"]["recovered"], status["generation"]),
              (len(REQUESTS), 1 + 2 * len(REQUESTS)))
        equal([c["reused"] for c in cards], [False] * 8)
        equal([sum(c["actual"].values()) > 0 for c in cards], [False] * 6 + [True] * 2)


if __name__ == "__main__":
    main()
