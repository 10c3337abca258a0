#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The verbs of octarc, their output and their exit statuses, against a tiny model."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from harness import BUILD, STRETCH, Daemon, Skip, equal, main, test, tiny, wait_until

PROMPT = "The cat sat on the mat and"


def daemon():
    return Daemon.shared("--cards", "4", "--context", "256", model=tiny())


def say(*words, **more):
    """What octarc prints on success."""
    status, out, err = daemon().client(*words, **more)
    equal((status, err), (0, ""), "status and stderr of octarc %s" % " ".join(words))
    return out


@test
def complete_prints_the_text_and_a_newline():
    want = daemon().complete(PROMPT)["choices"][0]["text"]
    equal(say("complete", "--max-tokens", "16", "--temperature", "0", PROMPT), want + "\n")


@test
def reasoning_is_for_those_who_watch():
    """The tiny model, told by its template that all it says is reasoning."""
    end, start = b"'<|im_start|>assistant\n'", b"'</think>'[:0]+'<think>'"
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "thinks.gguf")
        with open(tiny(), "rb") as f:
            raw = f.read()
        equal((raw.count(end), len(start)), (1, len(end)))
        with open(path, "wb") as f:
            f.write(raw.replace(end, start))
        with Daemon("--context", "256", model=path) as own:
            words = ("chat", "-n", "8", "-t", "0", "Hello")
            message = json.loads(own.client("--json", *words)[1])["choices"][0]["message"]
            equal((message["content"], bool(message["reasoning_content"].strip())), ("", True))
            equal(own.client(*words), (0, "\n", ""), "the answer alone")
            status, out, err = own.client("-v", *words)
            equal((status, out), (0, "\n"))
            assert message["reasoning_content"].split()[0] in err, (message, err)


@test
def complete_takes_the_prompt_from_stdin_without_its_last_newline():
    want = say("complete", "-n", "16", "-t", "0", PROMPT)
    equal(say("complete", "-n", "16", "-t", "0", stdin=(PROMPT + "\n").encode()), want)
    equal(say("complete", "-n", "16", "-t", "0", "-", stdin=PROMPT.encode()), want)
    equal(say("complete", "-n", "16", "-t", "0", *PROMPT.split(" ")), want, "joined words")


@test
def complete_json_is_the_object_of_v1_completions_on_one_line():
    out = say("--json", "complete", "-n", "5", "-t", "0", "--logprobs", "2", PROMPT)
    equal(out.count("\n"), 1, "lines")
    answer, want = json.loads(out), daemon().complete(PROMPT, 5, logprobs=2)
    equal(answer["object"], "text_completion")
    equal(answer["choices"], want["choices"])
    equal(answer["usage"]["completion_tokens"], 5)


@test
def sampling_options_reach_the_service():
    again = [say("complete", "-n", "12", "--seed", "18446744073709551615", "--top-k", "40",
                 "--top-p", "0.9", "--min-p", "0.01", "-t", "1.5", PROMPT) for _ in range(2)]
    equal(again[0], again[1], "the same seed")
    other = say("complete", "-n", "12", "--seed", "18446744073709551614", "--top-k", "40",
                "--top-p", "0.9", "--min-p", "0.01", "-t", "1.5", PROMPT)
    assert other != again[0], "another seed gives the same"
    text = say("complete", "-n", "16", "-t", "0", PROMPT)
    stop = text[2:4]
    equal(say("complete", "-n", "16", "-t", "0", "--stop", stop, PROMPT), text[:text.index(stop)] + "\n")
    two = json.loads(say("--json", "complete", "-n", "4", "--n", "2", "-t", "1", PROMPT))
    equal(len(two["choices"]), 2)


@test
def chat_and_run_answer_one_message():
    body = {"messages": [{"role": "system", "content": "Be kind."},
                         {"role": "user", "content": "Hello"}], "max_tokens": 8, "temperature": 0}
    want = daemon().rpc("chat", body)["choices"][0]["message"]["content"]
    for verb in ("chat", "run"):
        equal(say(verb, "-n", "8", "-t", "0", "--system", "Be kind.", "Hello"), want + "\n")
    answer = json.loads(say("--json", "chat", "-n", "8", "-t", "0", "--system", "Be kind.", "Hello"))
    equal(answer["object"], "chat.completion")


@test
def status_cards_ps_and_version_are_readable_and_json():
    equal(json.loads(say("--json", "status"))["state"], "ready")
    assert "ready" in say("status").splitlines()[0]
    cards, links = say("cards").split("\n\n")
    cards = cards.splitlines()
    equal(len(cards), 5, "lines of cards")
    equal(len({len(line) for line in cards[1:]}), 1, "widths")
    assert "direct" in links.splitlines()[1], links
    equal(len(say("--no-legend", "cards").splitlines()), 4)
    assert "layer" in say("-v", "cards"), "no reasons"
    equal(len(json.loads(say("--json", "cards"))["cards"]), 4)
    equal(json.loads(say("--json", "ps")), {"requests": []})
    assert say("ps").startswith("ID ")
    equal(len(set(json.loads(say("--json", "version")).values())), 1, "versions")


@test
def tokenize_prints_the_ids_and_with_v_the_pieces():
    want = daemon().rpc("tokenize", {"content": "the cat"})["tokens"]
    equal(say("tokenize", "the cat").split(), [str(t) for t in want])
    equal([int(line.split()[0]) for line in say("-v", "tokenize", "the cat").splitlines()], want)
    equal(json.loads(say("--json", "tokenize", "the cat"))["tokens"], want)


@test
def call_reaches_every_method():
    equal(json.loads(say("call", "health")), {"status": "ok"})
    tokens = json.loads(say("call", "tokenize", '{"content":\n "the"}'))["tokens"]
    equal(json.loads(say("call", "detokenize", json.dumps({"tokens": tokens})))["content"], "the")
    lines = say("call", "--stream", "complete",
                json.dumps({"prompt": PROMPT, "max_tokens": 3, "temperature": 0})).splitlines()
    text = "".join(json.loads(line)["choices"][0]["text"] for line in lines)
    equal(text, daemon().complete(PROMPT, 3)["choices"][0]["text"])


@test
def a_request_that_fails_exits_with_1_and_says_why():
    for words, part in ((("call", "nonsense"), "nonsense"),
                        (("complete", "-n", "-3", "x"), "max_tokens"),
                        (("complete", "--model", "other", "x"), "other"),
                        (("complete", "word " * 2000), "256")):
        status, out, err = daemon().client(*words)
        equal((status, out), (1, ""), "octarc %.40r: %s" % (words, err))
        assert err.startswith("octarc: %s: " % words[0]) and err.count("\n") == 1, err
        assert part in err, err


@test
def wrong_words_exit_with_2_before_anything_is_sent():
    for words in ((), ("nonsense",), ("cards", "extra"), ("complete", "--nonsense", "x"),
                  ("complete", "--max-tokens", "x", "y"), ("complete", "--max-tokens"),
                  ("complete", "--seed", "-1", "x"), ("call",), ("call", "status", "[]"),
                  ("drill",), ("drill", "lose", "9"), ("drill", "lose"),
                  ("drill", "kill-engine", "2"), ("--json=yes", "ps"), ("status", "--wait", "x"),
                  ("complete", "--logprobs", "2", "x")):
        status, _, err = daemon().client(*words)
        equal(status, 2, "exit status of %r" % (words,))
        assert not words or err.startswith("octarc: "), err


@test
def no_service_exits_with_3():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "none")
        for words in (("status",), ("complete", "x"), ("status", "--wait", "0.2")):
            done = subprocess.run([os.path.join(BUILD, "octarc"), "-S", path, *words],
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True)
            equal(done.returncode, 3, "exit status of %r" % (words,))
            assert path in done.stderr, done.stderr
        done = subprocess.run([os.path.join(BUILD, "octarc"), "version"], text=True,
                              capture_output=True, env=dict(os.environ, OCTARC_SOCKET=path))
        equal((done.returncode, "not running" in done.stdout), (0, True), "version")


def octarc(*words, stdout=subprocess.PIPE, **more):
    """(exit status, stdout, stderr) of octarc with these words and nothing else."""
    done = subprocess.run([os.path.join(BUILD, "octarc"), *words], stdin=subprocess.DEVNULL,
                          stdout=stdout, stderr=subprocess.PIPE, text=True, **more)
    return done.returncode, done.stdout, done.stderr


@test
def a_path_that_is_too_long_is_wrong_usage_for_every_verb():
    for words in (("status",), ("complete", "x"), ("status", "--wait", "60"), ("version",)):
        status, _, err = octarc("-S", "/" + "a" * 200, *words)
        equal((status, "the most is 107" in err), (2, True), "%r: %s" % (words, err))


@test
def who_may_not_connect_is_told_who_may():
    if os.geteuid() != 0:
        raise Skip("needs root, to become somebody else")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            os.chmod(folder, 0o711)
            os.chmod(path, 0o660)
            copy = shutil.copy(os.path.join(BUILD, "octarc"), folder)
            for words in (("status",), ("status", "--wait", "0.2")):
                done = subprocess.run([copy, "-S", path, *words], stdin=subprocess.DEVNULL,
                                      capture_output=True, text=True, user=65534, group=65534,
                                      extra_groups=[])
                equal(done.returncode, 1, "exit status of %r" % (words,))
                assert "Permission denied; members of the group octarc may" in done.stderr, done


@test
def output_that_cannot_be_written_is_a_failure_that_says_why():
    for words in (("complete", "-n", "8", PROMPT), ("--json", "complete", "-n", "8", PROMPT),
                  ("complete", "-n", "2", "--n", "2", PROMPT), ("cards",), ("--json", "status"),
                  ("status",), ("help",), ("tokenize", PROMPT), ("call", "version"),
                  ("call", "--stream", "complete", json.dumps({"prompt": PROMPT}))):
        with open("/dev/full", "w") as full:
            status, _, err = octarc("-S", daemon().socket, *words, stdout=full)
        equal((status, err), (1, "octarc: %s: cannot write: No space left on device\n" %
                              [w for w in words if w[0] != "-"][0]), "%r" % (words,))


@test
def the_state_is_told_once():
    first = say("status").splitlines()[0]
    assert ": ready, serving " in first and "((" not in first and "))" not in first, first
    equal(first.count("("), 1, "parentheses in %r" % first)
    status, out, err = daemon().client("status", "--wait", "5")
    equal((status, err), (0, ""), "it was ready before")
    equal(out.splitlines()[0], first)
    with Daemon() as own:
        assert own.client("status")[1].splitlines()[0].endswith(": no_model"), own.client("status")


@test
def the_json_of_status_is_the_services_own():
    def shape(text):
        return re.sub(r"\d+", "0", text)
    for words in (("status",), ("status", "--wait", "1")):
        equal(shape(say("--json", *words)), shape(say("call", "status")))


@test
def a_card_with_one_lane_has_one_lane():
    with Daemon("--cards", "8", "--split", "tensor", "--context", "128", model=tiny()) as own:
        reasons = [c["reason"] for c in own.rpc("cards")["cards"]]
        assert any(r.startswith("lane ") for r in reasons), reasons
        assert not any(re.search(r"(\d+) to \1\b", r) for r in reasons), reasons


@test
def the_environment_names_the_socket():
    done = subprocess.run([os.path.join(BUILD, "octarc"), "call", "health"], text=True,
                          capture_output=True, env=dict(os.environ, OCTARC_SOCKET=daemon().socket))
    equal((done.returncode, done.stderr), (0, ""))


@test
def an_interrupt_cancels_the_request_and_exits_with_130():
    before = daemon().rpc("status")["requests"]["cancelled"]
    with daemon().held():  # it does not end by itself
        process = subprocess.Popen([os.path.join(BUILD, "octarc"), "-S", daemon().socket,
                                    "complete", "-n", "200", "-t", "1", "--n", "8", PROMPT],
                                   text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        wait_until(lambda: daemon().rpc("ps")["requests"], 10, "the request")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30 * STRETCH)
    equal((process.returncode, err), (130, ""), "status and stderr")
    wait_until(lambda: not daemon().rpc("ps")["requests"], 10, "its end")
    assert daemon().rpc("status")["requests"]["cancelled"] > before, "it was not cancelled"


@test
def the_help_names_every_verb_and_the_completion_too():
    out = say("help")
    verbs = [line.split()[0] for line in out.split("\n\n")[2].splitlines()]
    equal(verbs, sorted(verbs), "order of the verbs")
    script = open(os.path.join(os.path.dirname(__file__), "../../client/octarc.bash")).read()
    for verb in verbs:
        assert say("help", verb).startswith("octarc " + verb), verb
        assert " %s " % verb in script.replace("'", " "), "%s is not completed" % verb


@test
def a_drill_is_seen_in_cards():
    with Daemon("--cards", "2", "--context", "256", model=tiny()) as own:
        equal(own.client("drill", "lose", "1"), (0, "", ""))
        own.complete(PROMPT, 4)
        time.sleep(0.1)
        status, out, _ = own.client("--no-legend", "cards")
        equal((status, [line.split()[1] for line in out.splitlines()]), (0, ["online", "lost"]))


@test
def top_looks_again_and_again():
    screens = say("top", "--count", "2", "-i", "0.1").split("octarcd ")[1:]
    equal(len(screens), 2, "looks")
    assert " 4 of 4 cards online" in screens[0] and "tokens: " in screens[0], screens
    assert " out/s" not in screens[0] and " 0.0 out/s\n" in screens[1], screens
    for screen in screens:
        assert "CARD" in screen and "REPLAYS" in screen, screen
    looks = [json.loads(line) for line in say("--json", "top", "--count", "2", "-i", "0.1").splitlines()]
    equal([sorted(look) for look in looks], [["cards", "ps", "status"]] * 2)
    for option, value in (("--count", "0"), ("--count", "x"), ("-i", "0"), ("-i", "")):
        status, out, err = daemon().client("top", option, value)
        equal((status, out), (2, ""), err)
        assert "must be a number from" in err, err


if __name__ == "__main__":
    main()
