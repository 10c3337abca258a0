#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""octarc models: what a model file says and what it would need."""
import json
import math
import os
import subprocess
import sys
import tempfile

from harness import BUILD, ROOT, STRETCH, complain, equal, main, shared, test, tiny

sys.path.insert(0, os.path.join(ROOT, "tests", "golden"))
import gguf_file  # noqa: E402

NONE = ("--config", os.devnull)
MIB = 1 << 20


def run(*words, **environment):
    """(exit status, stdout, stderr); no service is there."""
    done = subprocess.run([os.path.join(BUILD, "octarc"), *words], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=30 * STRETCH,
                          env=dict(os.environ, OCTARC_SOCKET="/nonexistent/socket", **environment))
    complain(done.stderr)
    return done.returncode, done.stdout, done.stderr


def inspect(path, *words):
    status, out, err = run("--json", "models", "inspect", path, *NONE, *words)
    equal((status, err, out.count("\n")), (0, "", 1), "octarc models inspect %s" % path)
    return json.loads(out)


def damaged(folder, old, new):
    """The tiny model with bytes of its header replaced by as many others."""
    path = os.path.join(folder, "damaged.gguf")
    with open(tiny(), "rb") as f:
        raw = f.read()
    assert len(old) == len(new) and raw.count(old) > 0, old
    with open(path, "wb") as f:
        f.write(raw.replace(old, new))
    return path


# --- What a file says -----------------------------------------------------------------------------

@test
def every_key_and_tensor_is_told_as_another_reader_reads_it():
    file, told = gguf_file.File(tiny()), inspect(tiny())
    equal((told["file"], told["bytes"], told["served"]), (tiny(), os.path.getsize(tiny()), True))
    equal(list(told["metadata"]), list(file.keys), "the keys, in their order")
    for key, value in file.keys.items():
        if isinstance(value, list) and len(value) > 16:
            value = {"elements": len(value)}
        if isinstance(value, float):
            assert math.isclose(told["metadata"][key], value, rel_tol=1e-6), key
        else:
            equal(told["metadata"][key], value, key)
    tensors = {t["name"]: (t["shape"][::-1], t["offset"]) for t in told["tensors"]}
    equal(tensors, {name: (list(dims), at) for name, (dims, _, at) in file.tensors.items()})
    equal(sum(t["tensors"] for t in told["types"]), len(file.tensors))
    equal(sum(t["bytes"] for t in told["types"]), sum(t["bytes"] for t in told["tensors"]))


@test
def a_tokenizer_is_read_though_nothing_runs_its_architecture():
    path = shared("goldens", "vocab", "ggml-vocab-bert-bge.gguf")
    equal(inspect(path)["served"], False)
    status, out, err = run("models", "inspect", path, *NONE)
    equal((status, err), (0, ""))
    for part in ("NO: ", "architecture 'bert' is not supported", "vocabulary: 30522 tokens"):
        assert part in out, out


@test
def the_least_memory_is_what_a_plan_needs_and_no_less():
    words = ("--context", "128", "--max-sequences", "4")

    def pages(cards, bytes_each):
        """Of the plan; 0: the model does not fit."""
        status, out, err = run("--json", "plan", tiny(), *NONE, *words, "--host-spill", "0",
                               "--cards", str(cards), "--card-memory", str(bytes_each))
        equal(status, 0 if json.loads(out)["fits"] else 1, err)
        return json.loads(out).get("kv_pages", 0)

    needs = inspect(tiny(), *words)["needs"]
    equal([need["cards"] for need in needs], list(range(1, 9)))
    for need in needs:
        cards, least, full = need["cards"], need["least_bytes"], need["full_bytes"]
        enough = pages(cards, 1 << 36)
        assert 0 < pages(cards, least), need
        assert least <= MIB or pages(cards, least - MIB) == 0, need
        equal(pages(cards, full), enough, need)
        assert full <= MIB or pages(cards, full - MIB) < enough, need


@test
def people_see_types_needs_metadata_and_the_template():
    status, out, err = run("models", "inspect", tiny(), *NONE)
    equal((status, err), (0, ""))
    for part in ("served here: yes", "CARDS", "LEAST", "TYPE", "F32", "general.architecture = llama",
                 " in all]", "chat template:"):
        assert part in out, (part, out)


@test
def a_model_that_is_not_served_is_shown_with_the_reason():
    with tempfile.TemporaryDirectory() as folder:
        path = damaged(folder, b"llama", b"lambs")
        told = inspect(path)
        equal((told["served"], "needs" in told), (False, False))
        assert "'lambs' is not supported" in told["reason"], told["reason"]
        equal(len(told["tensors"]), len(gguf_file.File(tiny()).tensors))
        status, out, _ = run("models", "inspect", path, *NONE)
        assert status == 0 and "served here: NO: " in out and "CARDS" not in out, out


@test
def what_is_no_model_is_one_clear_error():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "text.gguf")
        with open(path, "w") as f:
            f.write("no model at all")
        for words, status, part in (((path,), 1, "not a GGUF file"),
                                    ((folder + "/none",), 1, "No such file"),
                                    ((folder,), 1, "is not a file"),
                                    ((tiny(), "--split", "x"), 2, "--split"),
                                    ((tiny(), "--context", "0x"), 2, "context")):
            got, out, err = run("models", "inspect", *words, *NONE)
            equal((got, out), (status, ""), "%r: %s" % (words, err))
            assert part in err, (part, err)
    for words in (("models", "inspect"), ("models", "list"), ("models", "forget", "x")):
        equal(run(*words)[0], 2, " ".join(words))


if __name__ == "__main__":
    main()
