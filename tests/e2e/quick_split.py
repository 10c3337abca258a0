#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A model in several files answers as it does in one; and what is wrong with one of them is named."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

from harness import BUILD, ROOT, STRETCH, Daemon, complain, equal, main, test, tiny, wait_until
from manager import Manager

sys.path.insert(0, os.path.join(ROOT, "tests", "golden"))
import split_gguf  # noqa: E402

PROMPT = "Once upon a time in a small village by the sea"
NONE = ("--config", os.devnull)
NAME = re.compile(r"([^/]*?)(-00001-of-\d{5})?\.gguf$")
ODD = [(1, "layer"), (3, "tensor"), (8, "layer"), (8, "tensor")]


def run(*words):
    done = subprocess.run([os.path.join(BUILD, "octarc"), *words], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=30 * STRETCH,
                          env=dict(os.environ, OCTARC_SOCKET="/nonexistent/socket"))
    complain(done.stderr)
    return done.returncode, done.stdout, done.stderr


def transcript(daemon):
    answer = daemon.complete(PROMPT, 24, logprobs=3, ignore_eos=True)
    return [(c["text"], c["logprobs"], c["finish_reason"]) for c in answer["choices"]]


def answers(model, cards, split):
    with Daemon("--cards", str(cards), "--split", split, "--context", "256", model=model) as daemon:
        equal(daemon.rpc("status")["model"], NAME.search(model).group(1))
        return transcript(daemon)


@test
def parts_answer_as_the_whole_file_on_any_cards():
    for name, count, empty_first in (("tiny-mixed", 3, False), ("tiny-fused", 4, True)):
        with tempfile.TemporaryDirectory() as folder:
            first = split_gguf.split(tiny(name), folder, count, empty_first)[0]
            want = answers(tiny(name), 1, "layer")
            for cards, split in ODD:
                equal(answers(first, cards, split), want, "%s, %d cards, %s split" % (name, cards, split))


@test
def as_many_parts_as_the_channel_carries_and_no_more():
    """Some of them hold no tensor."""
    with tempfile.TemporaryDirectory() as folder:
        first = split_gguf.split(tiny(), folder, 64)[0]
        equal(answers(first, 8, "tensor"), answers(tiny(), 1, "layer"))
        start_fails(split_gguf.split(tiny(), folder, 65)[0],
                    "key 'split.count' is 65; a model of at most 64 parts is read")


@test
def what_a_plan_and_an_inspection_say_is_the_same():
    with tempfile.TemporaryDirectory() as folder:
        paths = split_gguf.split(tiny(), folder, 3)
        told = {}
        for path in (tiny(), paths[0]):
            status, out, err = run("--json", "models", "inspect", path, *NONE)
            equal((status, err), (0, ""))
            told[path] = json.loads(out)
        whole, parts = told[tiny()], told[paths[0]]
        equal((whole["parts"], parts["parts"], parts["served"]), (1, 3, True))
        equal(parts["bytes"], sum(os.path.getsize(p) for p in paths))
        equal(parts["needs"], whole["needs"])
        equal({t["name"]: (t["shape"], t["bytes"]) for t in parts["tensors"]},
              {t["name"]: (t["shape"], t["bytes"]) for t in whole["tensors"]})
        equal({t["part"] for t in parts["tensors"]}, {1, 2, 3})
        plans = []
        for path in (tiny(), paths[0]):
            status, out, err = run("--json", "plan", path, *NONE, "--cards", "3", "--card-memory", "64M")
            equal((status, err), (0, ""))
            plans.append(json.loads(out)["cards"])
        equal(plans[1], plans[0], "the plan")
        status, out, err = run("models", "inspect", paths[0], *NONE)
        assert out.startswith(paths[0]) and " in 3 parts\n" in out, out


def start_fails(path, *said):
    """octarcd ends, and says these."""
    daemon = Daemon("--cards", "2", "--context", "256", model=path, wait=False)
    equal(daemon.process.wait(60 * STRETCH) != 0, True, "octarcd ended with an error")
    log = daemon.log()
    daemon.kill()
    for part in said:
        assert part in log, "%r is not in %s" % (part, log)


@test
def what_is_wrong_with_a_part_is_said_with_its_path():
    with tempfile.TemporaryDirectory() as folder:
        first, second, third = split_gguf.split(tiny(), folder, 3)
        start_fails(second, "part 2 of 3", "open the first, " + first)
        os.rename(third, third + ".away")
        start_fails(first, "cannot open part 3 of 3 of the model, %s: No such file" % third)
        with open(third + ".away", "rb") as f:
            raw = f.read()
        with open(third, "wb") as f:
            f.write(raw[:-100])
        start_fails(first, third + ": tensor '", "cut short?")
        shutil.copy(second, third)
        start_fails(first, third + ": key 'split.no' is 1; 2 was expected")
        other = tempfile.mkdtemp(dir=folder)
        shutil.copy(split_gguf.split(tiny("tiny-qwen2"), other, 3)[2], third)
        start_fails(first, third + ": key 'split.tensors.count'", "a part of another model")


@test
def a_part_that_changes_while_it_is_served_is_named():
    with tempfile.TemporaryDirectory() as folder:
        paths = split_gguf.split(tiny(), folder, 2, empty_first=True)
        with Daemon("--cards", "2", "--context", "256", model=paths[0],
                    deaths="changed since it was opened") as daemon:
            with open(paths[1], "r+b") as f:
                rest = f.read()
                f.seek(0)
                f.write(bytes(b ^ 1 for b in rest))
            equal(daemon.client("drill", "corrupt", "1")[::2], (0, ""))
            wait_until(lambda: "-00002-of-00002.gguf changed since it was opened" in daemon.log(), 30,
                       "the name of the part")


@test
def weights_that_were_left_are_of_all_parts_as_they_are_now():
    with Manager() as manager, tempfile.TemporaryDirectory() as folder:
        paths = split_gguf.split(tiny(), folder, 3)

        def start():
            return Daemon("--cards", "2", "--card-memory", "64M", "--context", "256", model=paths[0],
                          popen=manager.start)

        def reused(daemon):
            return [c["reused"] for c in daemon.rpc("cards")["cards"]]

        with start() as daemon:
            want = transcript(daemon)
            wait_until(lambda: len(manager.names()) == 3, 10, "keeping the weights")
        with start() as daemon:
            equal((reused(daemon), transcript(daemon)), ([True, True], want))
        info = os.stat(paths[1])
        os.utime(paths[1], ns=(info.st_atime_ns, info.st_mtime_ns + 1))
        with start() as daemon:
            equal((reused(daemon), transcript(daemon)), ([False, False], want))
            assert "are not of this model file as it is now" in daemon.log()


if __name__ == "__main__":
    main()
