#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The default model over eight cards, asked with the tools that people have: curl, socat, the
OpenAI client for Python, octarc."""
import json
import os
import shutil
import subprocess
import sys

from harness import (BUILD, ROOT, Daemon, default_model, equal, in_parallel, main, note, test,
                     unless_unreachable, wait_until)

PROMPT = "The capital of France is"
MESSAGES = [{"role": "user", "content": "Name three fruits."}]
# The transport of a Unix socket is httpx's; later clients use another library.
CLIENT = ["openai==1.99.9", "httpx==0.27.2"]
MODEL_CARDS = 8


def daemon():
    return Daemon.shared("--cards", str(MODEL_CARDS), model=default_model())


def run(*words, stdin=b"", seconds=120):
    """(exit status, stdout) of a program."""
    assert shutil.which(words[0]), "%s is not installed; see make deps" % words[0]
    done = subprocess.run(words, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=seconds)
    if done.returncode:
        note(done.stderr.decode(errors="replace"))
    return done.returncode, done.stdout.decode()


@test
def the_model_lies_on_eight_cards_and_is_found_by_name():
    status = daemon().rpc("status")
    equal((status["state"], status["cards"], status["cards_online"]), ("ready", 8, 8))
    equal(status["load"]["done_bytes"], status["load"]["total_bytes"], "loaded")
    cards = daemon().rpc("cards")["cards"]
    equal([c["card"] for c in cards], list(range(MODEL_CARDS)))
    for card in cards:
        equal(card["actual"], card["planned"], "bytes on card %d" % card["card"])
        assert sum(card["actual"].values()) <= card["capacity_bytes"], card
    total = sum(c["actual"]["weights_bytes"] for c in cards)
    assert 90e6 < total < 160e6, "weights of all cards: %d bytes" % total
    models = daemon().http("GET", "/v1/models")[1]["data"]
    equal(len(models), 1)
    meta = models[0]["meta"]
    equal((meta["n_vocab"], meta["n_embd"], meta["n_ctx_train"]), (49152, 576, 8192))
    equal(daemon().http("GET", "/v1/models/" + models[0]["id"])[1]["id"], models[0]["id"])


@test
def planned_bytes_are_the_actual_ones_on_uneven_cards():
    with Daemon("--cards", "5", "--context", "512", "--card-memory", "200M,100M,100M,60M,150M",
                model=default_model()) as own:
        own.complete(PROMPT, 4)
        for card in own.rpc("cards")["cards"]:
            equal(card["actual"], card["planned"], "bytes on card %d" % card["card"])
            assert sum(card["actual"].values()) <= card["capacity_bytes"], card


@test
def it_knows_the_capital_of_france():
    answer = daemon().complete(PROMPT, 4)["choices"][0]["text"]
    assert answer.startswith(" Paris"), answer
    status, out, err = daemon().client("complete", "-n", "4", "-t", "0", PROMPT)
    equal((status, out, err), (0, answer + "\n", ""))
    status, out, err = daemon().client("run", "-t", "0", "-n", "32",
                                       "What is the capital of France? Answer in one sentence.")
    equal((status, err), (0, ""))
    assert "Paris" in out, out


@test
def usage_and_timings_count_every_token():
    body = {"messages": MESSAGES, "max_tokens": 24, "temperature": 0}
    status, whole = daemon().http("POST", "/v1/chat/completions", body)
    equal(status, 200)
    prompt = daemon().rpc("apply_template", {"messages": MESSAGES})["prompt"]
    n_prompt = len(daemon().rpc("tokenize", {"content": prompt})["tokens"])
    equal(whole["usage"]["prompt_tokens"], n_prompt)
    equal(whole["usage"]["total_tokens"], n_prompt + whole["usage"]["completion_tokens"])
    assert whole["timings"]["predicted_n"] == whole["usage"]["completion_tokens"], whole
    chunks = list(daemon().sse("/v1/chat/completions",
                               dict(body, stream_options={"include_usage": True})))
    equal({c["id"] for c in chunks}, {chunks[0]["id"]}, "ids")
    equal(chunks[0]["choices"][0]["delta"].get("role"), "assistant")
    texts = [c["choices"][0]["delta"].get("content") for c in chunks if c["choices"]]
    equal("".join(t or "" for t in texts), whole["choices"][0]["message"]["content"])
    assert "" not in texts[1:], "a chunk carries no text"
    equal(chunks[-2]["choices"][0]["finish_reason"], whole["choices"][0]["finish_reason"])
    for key in ("prompt_tokens", "completion_tokens", "total_tokens"):
        equal(chunks[-1]["usage"][key], whole["usage"][key], key)


@test
def curl_asks_whole_and_streamed():
    def curl(path, body=None, *options):
        data = ["-d", json.dumps(body)] if body else []
        status, out = run("curl", "-sS", "--fail-with-body", "--max-time", "100", "--unix-socket",
                          daemon().socket, *options, *data, "http://localhost" + path)
        return status, out

    status, out = curl("/health")
    equal((status, json.loads(out)), (0, {"status": "ok"}))
    body = {"prompt": PROMPT, "max_tokens": 12, "temperature": 0}
    status, out = curl("/v1/completions", body)
    equal(status, 0)
    want = json.loads(out)["choices"][0]["text"]
    equal(want, daemon().complete(PROMPT, 12)["choices"][0]["text"])
    status, out = curl("/v1/completions", dict(body, stream=True), "-N")
    equal(status, 0)
    events = [e for e in out.split("\n\n") if e and not e.startswith(":")]
    equal(events[-1], "data: [DONE]")
    pieces = [json.loads(e[6:])["choices"][0]["text"] for e in events[:-1]]
    equal("".join(pieces), want)
    status, out = curl("/v1/completions", {"prompt": PROMPT, "nonsense": 1})
    equal(status, 22, "curl's exit status for a 400")
    equal(json.loads(out)["error"]["param"], "nonsense")


@test
def socat_speaks_lines_and_half_closes():
    request = {"jsonrpc": "2.0", "id": "a", "method": "complete",
               "params": {"prompt": PROMPT, "max_tokens": 6, "temperature": 0}}
    # socat closes its sending side at once; the answers must still come.
    status, out = run("socat", "-t", "100", "-", "UNIX-CONNECT:" + daemon().socket,
                      stdin=(json.dumps(request) + "\n").encode())
    equal(status, 0)
    want = daemon().complete(PROMPT, 6)["choices"]
    equal(json.loads(out)["result"]["choices"], want)
    lines = [dict(request, id=1, params=dict(request["params"], stream=True)),
             {"jsonrpc": "2.0", "id": 2, "method": "version"}]
    status, out = run("socat", "-t", "100", "-", "UNIX-CONNECT:" + daemon().socket,
                      stdin="".join(json.dumps(x) + "\n" for x in lines).encode())
    equal(status, 0)
    messages = [json.loads(x) for x in out.splitlines()]
    chunks = [m["params"]["chunk"] for m in messages if m.get("method") == "chunk"]
    equal("".join(c["choices"][0]["text"] for c in chunks), want[0]["text"])
    equal({m["id"] for m in messages if "id" in m}, {1, 2})


def python_with_client():
    """A Python that has the pinned packages, in a folder kept between runs."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.path.join(cache, "octarc", "venv")
    python, stamp = os.path.join(folder, "bin", "python"), os.path.join(folder, "octarc-pins")
    pins = "%s %s" % (sys.version.split()[0], " ".join(CLIENT))
    if os.path.exists(stamp) and open(stamp).read() == pins:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    for command in ([sys.executable, "-m", "venv", folder],
                    [python, "-m", "pip", "-q", "install", "--disable-pip-version-check", *CLIENT]):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=300)
        if done.returncode:
            unless_unreachable(CLIENT[0], done.stdout)
    with open(stamp, "w") as f:
        f.write(pins)
    return python


@test
def the_openai_client_works_over_the_unix_socket():
    program = os.path.join(ROOT, "tests", "e2e", "openai_client.py")
    status, out = run(python_with_client(), program, daemon().socket)
    note(out)
    equal(status, 0, "the client's exit status")
    said = json.loads(out.splitlines()[-1])
    equal(said["completion"], daemon().complete(PROMPT, 8)["choices"][0]["text"])
    chat = daemon().http("POST", "/v1/chat/completions",
                         {"messages": MESSAGES, "max_tokens": 16, "temperature": 0})[1]
    equal(said["chat"], chat["choices"][0]["message"]["content"])
    equal(said["streamed"], said["chat"], "the stream")
    equal(said["several"], [daemon().complete(p, 4)["choices"][0]["text"]
                            for p in ("Once upon", PROMPT)], "a list of prompts")
    equal(said["errors"], [["BadRequestError", "temperature"], ["BadRequestError", "temperature"],
                           ["NotFoundError", "model"]])


@test
def clients_that_leave_free_the_service():
    def leave():
        stream = daemon().sse("/v1/completions", {"prompt": PROMPT, "max_tokens": 2000,
                                                  "temperature": 0, "ignore_eos": True})
        next(stream)
        stream.close()  # closes the connection with it

    before = daemon().rpc("status")["requests"]["cancelled"]
    in_parallel([leave] * 4)
    wait_until(lambda: daemon().rpc("status")["requests"]["cancelled"] >= before + 4, 20,
               "four cancels")
    equal(daemon().rpc("status")["requests"]["running"], 0, "running")
    equal(daemon().rpc("ps")["requests"], [])


@test
def octarc_tells_what_it_is_told():
    exe = os.path.join(BUILD, "octarc")
    pipe = "%s --socket %s complete -n 400 -t 0 --json '%s' | head -c 20" % (
        exe, daemon().socket, PROMPT)
    status, out = run("sh", "-c", pipe)
    equal((status, len(out)), (0, 20))
    status, out, err = daemon().client("tokenize", PROMPT)
    equal((status, out.split(), err), (0, ["504", "3575", "282", "4649", "314"], ""))
    status, out, err = daemon().client("chat", "-n", "16", "-t", "0", "Name three fruits.")
    equal((status, err), (0, ""))
    assert out.strip(), "an empty answer"


if __name__ == "__main__":
    main()
