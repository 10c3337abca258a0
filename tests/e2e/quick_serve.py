#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The main job against a tiny model: every way to ask, streamed and whole, and nothing lost."""
import json
import os
import shutil
import signal
import tempfile
import time

from harness import (SAN, RpcError, Daemon, UnixHttp, equal, in_parallel, main, test, tiny,
                     wait_until)

PROMPT = "The cat sat on the mat and"


def daemon():
    return Daemon.shared("--cards", "3", "--context", "256", model=tiny())


def text_of(answer):
    return answer["choices"][0]["text"]


@test
def the_first_byte_decides_between_lines_and_http():
    equal(daemon().raw_line(b'{"jsonrpc":"2.0","id":"a","method":"health"}\n')["id"], "a")
    equal(daemon().http("GET", "/health"), (200, {"status": "ok"}))
    lines = daemon().connect()
    lines.socket.sendall(b"\x00\x01")
    data = lines.socket.recv(4096)
    assert not data or b"error" in data, data
    lines.close()


@test
def a_stream_is_the_whole_answer_in_pieces():
    want = daemon().complete(PROMPT, 24)
    lines = daemon().connect()
    params = {"prompt": PROMPT, "max_tokens": 24, "temperature": 0}
    got = "".join(text_of(c) for c in lines.stream("complete", params))
    lines.close()
    equal(got, text_of(want), "over lines")
    chunks = list(daemon().sse("/v1/completions", dict(params, stream_options={"include_usage": True})))
    equal("".join(text_of(c) for c in chunks if c["choices"]), text_of(want), "over SSE")
    equal(chunks[-1]["choices"], [])
    equal(chunks[-1]["usage"]["completion_tokens"], want["usage"]["completion_tokens"])
    equal(text_of(daemon().http("POST", "/v1/completions", params)[1]), text_of(want), "over HTTP")


@test
def a_chat_is_the_completion_of_its_template():
    messages = [{"role": "user", "content": "Say 1 + 2 = 3."}]
    prompt = daemon().rpc("apply_template", {"messages": messages})["prompt"]
    equal(prompt, "<|im_start|>user\nSay 1 + 2 = 3.<|im_end|>\n<|im_start|>assistant\n")
    chat = daemon().http("POST", "/v1/chat/completions",
                         {"messages": messages, "max_tokens": 20, "temperature": 0})[1]
    plain = daemon().complete(prompt, 20)
    equal(chat["choices"][0]["message"]["content"], text_of(plain))
    chunks = list(daemon().sse("/v1/chat/completions",
                               {"messages": messages, "max_tokens": 20, "temperature": 0}))
    equal(chunks[0]["choices"][0]["delta"]["role"], "assistant")
    equal("".join(c["choices"][0]["delta"].get("content") or "" for c in chunks), text_of(plain))


@test
def completion_gives_ids_and_probabilities_for_every_token():
    status, answer = daemon().http("POST", "/completion", {
        "prompt": [87, 260, 272], "n_predict": 6, "temperature": 0, "n_probs": 290,
        "return_tokens": True})
    equal(status, 200)
    rows = answer["completion_probabilities"]
    equal([row["id"] for row in rows], answer["tokens"])
    for row in rows:
        equal(len(row["top_logprobs"]), 290)
        equal(row["top_logprobs"][0]["id"], row["id"], "the likeliest")
        equal(row["top_logprobs"][0]["logprob"], row["logprob"])


@test
def echo_gives_the_log_probabilities_of_the_prompt():
    answer = daemon().complete(PROMPT, 0, echo=True, logprobs=1)
    rows = answer["choices"][0]["logprobs"]
    equal(text_of(answer), PROMPT)
    equal(rows["token_logprobs"][0], None)
    assert all(x < 0 for x in rows["token_logprobs"][1:])
    equal(answer["usage"]["completion_tokens"], 0)


@test
def tokens_and_text_turn_into_each_other():
    for text in ("the cat", "It's ä\U0001F600 \n\t x", ""):
        tokens = daemon().http("POST", "/tokenize", {"content": text})[1]["tokens"]
        equal(daemon().http("POST", "/detokenize", {"tokens": tokens}), (200, {"content": text}))


@test
def many_at_once_get_what_each_gets_alone():
    prompts = [PROMPT[:4 + i] for i in range(12)]
    alone = [text_of(daemon().complete(p, 20)) for p in prompts]
    together = in_parallel([lambda p=p: text_of(daemon().complete(p, 20)) for p in prompts])
    equal(together, alone)


@test
def seeds_repeat_and_choices_differ():
    params = {"max_tokens": 16, "temperature": 1.2, "seed": 7, "n": 3}
    first, second = (daemon().rpc("complete", dict(params, prompt=PROMPT)) for _ in range(2))
    texts = [c["text"] for c in first["choices"]]
    equal(texts, [c["text"] for c in second["choices"]])
    equal(len(set(texts)), 3, "different choices")


@test
def a_card_that_is_too_small_holds_nothing_and_is_online():
    want = daemon().complete("one two three", 5)["choices"][0]
    with Daemon("--cards", "3", "--card-memory", "60M,1M,60M", "--context", "256",
                model=tiny()) as own:
        equal(own.complete("one two three", 5)["choices"][0], want)
        cards = own.rpc("cards")["cards"]
        equal({c["state"] for c in cards}, {"online"})
        equal(set(cards[1]["actual"].values()) | set(cards[1]["planned"].values()), {0})
        equal(cards[1]["free_bytes"], 1 << 20)
        assert "nothing" in cards[1]["reason"], cards[1]


@test
def every_count_of_cards_and_split_gives_the_same_bits():
    want = None
    for split in ("layer", "tensor"):
        for cards in ("1", "2", "5", "8"):
            with Daemon("--cards", cards, "--split", split, "--context", "128",
                        model=tiny()) as own:
                got = own.complete(PROMPT, 24, logprobs=3)["choices"]
                want = want or got
                equal(got, want, "%s cards, %s split" % (cards, split))


BUSY = {"prompt": PROMPT, "max_tokens": 160 if SAN else 480, "n": 8, "temperature": 1, "seed": 3,
        "stream": True}


def in_mid_answer(own, ask, strike):
    """ask() for something long and strike() before its end, which the engine cannot come to then.
    A busy machine may need more than one try."""
    for _ in range(6):
        asked = ask(own)
        with own.held():
            if own.rpc("ps")["requests"]:
                strike(asked)
                return asked
    raise AssertionError("the answer was over before anything could happen to it, six times")


def ask_lines(own):
    lines = own.connect()
    lines.send("complete", BUSY)
    lines.receive()
    return lines


def ask_http(own):
    http = UnixHttp(own.socket, own.timeout)
    http.request("POST", "/v1/completions", json.dumps(BUSY))
    wait_until(lambda: own.rpc("ps")["requests"], 5, "the request")
    return http.sock


@test
def a_client_that_leaves_cancels_its_request():
    with Daemon("--context", "512", "--threads", "1", model=tiny()) as own:
        for ask in (ask_lines, ask_http):
            before = own.rpc("status")["requests"]["cancelled"]
            in_mid_answer(own, ask, lambda asked: asked.close())
            wait_until(lambda: own.rpc("status")["requests"]["cancelled"] > before, 5,
                       "the cancel after " + ask.__name__)


def cancel_beside_another(own):
    """How a long request ends that is cancelled when a short one beside it has ended; None: by
    itself, before that."""
    lines = own.connect()
    long = lines.send("complete", dict(BUSY, stream=False))
    short = lines.send("complete", {"prompt": PROMPT, "max_tokens": 1, "temperature": 0})
    equal(lines.receive()["id"], short, "the first to end")
    cancel = lines.send("cancel", {"rpc_id": long})
    answers = {m["id"]: m for m in (lines.receive(), lines.receive())}
    lines.close()
    if "result" in answers[long]:
        return None
    equal(answers[cancel]["result"]["cancelled"], True)
    return answers[long]["error"]["data"]["name"]


@test
def requests_of_one_connection_run_at_once_and_can_be_cancelled():
    with Daemon("--context", "512", model=tiny()) as own:
        ends = (cancel_beside_another(own) for _ in range(6))
        equal(next(filter(None, ends)), "cancelled")


def stream_busy(own, disturb=None):
    """The eight texts of a stream; `disturb(own)` is called after its first pieces."""
    texts, n = [""] * 8, 0
    lines = own.connect()
    for chunk in lines.stream("complete", BUSY):
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["text"]
        n += 1
        if n == 8 and disturb:
            disturb(own)
    lines.close()
    return texts


def disturbed(disturb, **more):
    """A stream during which `disturb` happens must equal one without; the status after it."""
    for _ in range(6):
        with Daemon("--cards", "4", "--context", "512", model=tiny(), **more) as own:
            want = stream_busy(own)
            equal(stream_busy(own, disturb), want, "the transcripts")
            was_disturbed = own.rpc("status")["requests"]["recovered"]
            own.complete(PROMPT, 1)  # else nobody would miss an engine that hangs when all is over
            wait_until(lambda: own.rpc("status")["generation"] == 2, 10, "the next generation")
            if was_disturbed:
                return own.rpc("status")
    raise AssertionError("the stream was over before it was disturbed, six times")


def kill_engine(own):
    equal(own.kill_engine(), 1, "engines")


@test
def a_killed_engine_loses_no_token():
    disturbed(kill_engine)


@test
def an_engine_that_hangs_loses_no_token():
    status = disturbed(lambda own: os.kill(own.engines()[0], signal.SIGSTOP),
                       config="[service]\nengine_silence = 4\n", deaths="said nothing for 4 s")
    assert "said nothing for 4 s" in status["last_event"], status


@test
def the_kill_engine_drill_loses_no_token():
    disturbed(lambda own: own.rpc("drill", {"fault": "kill-engine"}))


@test
def a_lost_card_loses_no_token():
    status = disturbed(lambda own: own.rpc("drill", {"fault": "lose", "card": 2}))
    equal((status["cards"], status["cards_online"]), (4, 3))


@test
def a_killed_engine_is_replaced_while_nothing_runs():
    with Daemon("--cards", "2", "--context", "128", model=tiny()) as own:
        want = text_of(own.complete(PROMPT))
        kill_engine(own)
        wait_until(lambda: own.rpc("status")["generation"] == 2, 10, "the next generation")
        own.wait_ready()
        equal(text_of(own.complete(PROMPT)), want)


@test
def no_card_left_ends_requests_by_name():
    with Daemon("--cards", "1", "--context", "512", model=tiny(),
                config="[service]\nno_card_wait = 1\n") as own:
        lines = in_mid_answer(own, ask_lines,
                              lambda _: own.rpc("drill", {"fault": "lose", "card": 0}))
        name = None
        while name is None:
            message = lines.receive()
            assert "result" not in message or "id" not in message, "it was answered"
            name = message.get("error", {}).get("data", {}).get("name")
        equal(name, "no_device")
        lines.close()
        equal(own.rpc("status")["state"], "no_device")
        equal(own.http("GET", "/health")[0], 503)


@test
def stop_lets_requests_under_way_end():
    own = Daemon("--cards", "2", "--context", "512", model=tiny(),
                 config="[service]\ndrain_timeout = 3600\n")
    try:
        want = stream_busy(own)
        equal(stream_busy(own, lambda d: d.process.send_signal(signal.SIGTERM)), want)
        own.stop()
    finally:
        own.kill()


@test
def the_limits_of_the_machine_are_measured_when_nothing_runs():
    with Daemon("--cards", "2", "--threads", "2", "--context", "128", model=tiny()) as own:
        first, second = own.connect(), own.connect()
        first.send("complete", dict(BUSY, max_tokens=60))
        first.receive()
        second.send("measure")
        limits = second.receive()["result"]
        while "id" not in first.receive():
            pass
        equal(limits["threads"], 2)
        for key in ("read_bytes_per_s", "int8_ops_per_s", "layer_params"):
            assert limits[key] > 0, limits
        actual = sum(card["actual"]["weights_bytes"] for card in own.rpc("cards")["cards"])
        equal(limits["weights_bytes"], actual, "weights_bytes")
        equal(own.rpc("status")["weights_bytes"], actual, "weights_bytes of status")
        if limits["huge_bytes"] is not None:
            assert 0 <= limits["huge_bytes"] <= actual, limits
        assert 0 < limits["token_bytes"] < limits["weights_bytes"], limits
        equal(own.http("POST", "/octarc/v1/measure")[1].keys(), limits.keys())
        first.close()
        second.close()


@test
def without_a_model_it_is_ready_and_says_so():
    with Daemon() as own:
        equal(own.rpc("status")["state"], "no_model")
        equal(own.rpc_error("complete", {"prompt": "x"}), "no_model")
        status, answer = own.http("POST", "/v1/completions", {"prompt": "x"})
        equal((status, answer["error"]["name"]), (503, "no_model"))
        equal(own.http("GET", "/health")[0], 503)
        equal(own.http("GET", "/v1/models")[1]["data"], [])


def spoil(path):
    """Change the file in place, everywhere."""
    with open(path, "r+b") as f:
        f.write(b"XXXX")
        f.seek(os.path.getsize(path) // 3)
        f.write(os.urandom(os.path.getsize(path) // 2))


@test
def a_model_file_edited_in_place_changes_no_answer():
    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copy(tiny(), os.path.join(folder, "edited.gguf"))
        with Daemon("--cards", "3", "--context", "512", model=path,
                    deaths="changed since it was opened") as own:
            want = stream_busy(own)

            def edit_and_kill(own):
                spoil(path)
                kill_engine(own)
            equal(stream_busy(own, edit_and_kill), want, "out of memory that is whole")
            own.rpc("drill", {"fault": "lose", "card": 1})
            wait_until(lambda: own.rpc("status")["state"] != "ready", 10, "the loss")
            try:
                own.complete(PROMPT)
                raise AssertionError("weights of an edited file were used")
            except RpcError as error:
                for part in ("edited.gguf changed since it was opened", "tensor '"):
                    assert part in str(error), error


@test
def private_weights_of_an_edited_file_are_never_served():
    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copy(tiny(), os.path.join(folder, "edited.gguf"))
        with Daemon("--cards", "3", "--context", "512", "--weights", "private", model=path,
                    deaths="changed since it was opened") as own:
            want = stream_busy(own)
            equal(stream_busy(own, kill_engine), want, "read from the file again")
            wait_until(lambda: own.rpc("status")["generation"] == 2, 10, "the next generation")
            own.wait_ready()  # it may have been killed when the stream was over
            spoil(path)
            kill_engine(own)
            try:
                own.complete(PROMPT)
                raise AssertionError("weights of an edited file were used")
            except RpcError as error:
                for part in ("edited.gguf changed since it was opened", "tensor '"):
                    assert part in str(error), error


@test
def who_comes_before_the_model_is_open_waits():
    with Daemon("--cards", "2", "--context", "128", model=tiny(), wait=False) as own:
        wait_until(own.is_listening, 20, "the socket")
        first, second = in_parallel([
            lambda: own.http("POST", "/v1/completions", {"prompt": PROMPT, "max_tokens": 4}),
            lambda: own.rpc("complete", {"prompt": PROMPT, "max_tokens": 4})])
        equal(first[0], 200, first)
        assert text_of(second), second


@test
def a_reload_keeps_the_old_configuration_when_the_new_is_bad():
    with Daemon() as own:
        with open(own.config, "w") as f:
            f.write("[queue]\nmax_queue = many\n")
        try:
            own.rpc("reload")
            raise AssertionError("a bad file was taken")
        except RpcError as error:
            for part in ("octarc.conf", "2", "max_queue", "many"):
                assert part in str(error), error
        os.kill(own.process.pid, signal.SIGHUP)
        time.sleep(0.2)
        equal(own.rpc("status")["state"], "no_model")
        with open(own.config, "w") as f:
            f.write("[queue]\nmax_queue = 3\n")
        equal(own.rpc("reload")["reloaded"], True)


@test
def a_reload_that_needs_a_restart_changes_nothing():
    with Daemon("--cards", "2", "--context", "128", model=tiny()) as own:
        with open(own.config, "w") as f:
            f.write("[service]\ndrill = no\n[engine]\nmax_sequences = 3\n")
        try:
            own.rpc("reload")
            raise AssertionError("a key was changed that needs a restart")
        except RpcError as error:
            assert "max_sequences" in str(error), error
        own.rpc("drill", {"fault": "kill-engine"})  # as before, it may


if __name__ == "__main__":
    main()
