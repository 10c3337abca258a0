#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""octarc plan: what would lie where, without a service; and that the service then does just that."""
import json
import os
import re
import struct
import subprocess
import tempfile
import xml.etree.ElementTree

from harness import BUILD, ROOT, STRETCH, Daemon, complain, equal, main, octarcd, test, tiny

BOXES = os.path.join(ROOT, "daemon", "placement", "topology")
NONE = ("--config", os.devnull)
SVG = "{http://www.w3.org/2000/svg}"


def box(name):
    return os.path.join(BOXES, name + ".json")


def run(*words, program="octarc"):
    """(exit status, stdout, stderr); no service is there."""
    done = subprocess.run([os.path.join(BUILD, program), *words], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=30 * STRETCH,
                          env=dict(os.environ, OCTARC_SOCKET="/nonexistent/socket"))
    complain(done.stderr)
    return done.returncode, done.stdout, done.stderr


def plan(*words, model=None):
    status, out, err = run("--json", "plan", model or tiny(), *NONE, *words)
    equal((status, err, out.count("\n")), (0, "", 1), "octarc plan %s" % " ".join(words))
    return json.loads(out)


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def large_model(folder):
    """The header of a 70 billion parameter model and a hole of 75 GB: nothing is loaded."""
    layers, embd, heads, kv, ff, vocab = 80, 8192, 64, 8, 28672, 128256
    path = os.path.join(folder, "large.gguf")
    keys = [text("general.architecture") + struct.pack("<I", 8) + text("llama"),
            text("general.name") + struct.pack("<I", 8) + text("Large <&> \u00e9")]
    for name, value in (("block_count", layers), ("embedding_length", embd), ("context_length", 131072),
                        ("attention.head_count", heads), ("attention.head_count_kv", kv),
                        ("feed_forward_length", ff), ("vocab_size", vocab),
                        ("rope.dimension_count", embd // heads)):
        keys.append(text("llama." + name) + struct.pack("<II", 4, value))
    keys.append(text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5))
    tensors, offset = [], 0

    def add(name, *dims):
        nonlocal offset
        vector = len(dims) == 1
        tensors.append(text(name) + struct.pack("<I", len(dims)) +
                       struct.pack("<%dQ" % len(dims), *dims) +
                       struct.pack("<IQ", 0 if vector else 8, offset))
        values = dims[0] * (1 if vector else dims[1])
        offset += -(-(values * 4 if vector else values // 32 * 34) // 32) * 32
    add("token_embd.weight", embd, vocab)
    for i in range(layers):
        for part, dims in (("attn_norm", (embd,)), ("attn_q", (embd, embd)),
                           ("attn_k", (embd, embd // heads * kv)),
                           ("attn_v", (embd, embd // heads * kv)), ("attn_output", (embd, embd)),
                           ("ffn_norm", (embd,)), ("ffn_gate", (embd, ff)), ("ffn_up", (embd, ff)),
                           ("ffn_down", (ff, embd))):
            add("blk.%d.%s.weight" % (i, part), *dims)
    add("output_norm.weight", embd)
    add("output.weight", embd, vocab)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys + tensors)
    head += b"\0" * (-len(head) % 32)
    with open(path, "wb") as f:
        f.write(head)
        f.truncate(len(head) + offset)
    return path


@test
def the_service_does_what_was_planned():
    for split in ("tensor", "hybrid"):
        does_as_planned("--cards", "3", "--card-memory", "4M,2M,4M", "--context", "128", "--split",
                        split)


def does_as_planned(*words):
    planned = plan(*words)
    with Daemon(*words, model=tiny()) as own:
        answer = own.rpc("cards")
        equal(answer["split"], planned["split"])
        for real, thought in zip(answer["cards"], planned["cards"]):
            for key in ("layers", "lanes", "heads", "kv_heads", "planned", "reason"):
                equal(real[key], thought[key], key)
            equal(real["actual"], thought["planned"], "bytes")
        for link in answer["links"]:
            del link["carried_bytes"]  # what nobody plans
        equal(answer["links"], planned["links"])


def two_pairs(folder):
    """Four cards of 1 MiB on two switches, between which there is no direct link."""
    path = os.path.join(folder, "two-pairs.json")
    slots = (("18", 0), ("1c", 0), ("58", 1), ("5c", 1))
    with open(path, "w") as f:
        json.dump({"description": "two pairs", "host": {"memory_mib": 65536, "peer_access": "numa"},
                   "kinds": [{"kind": "small", "name": "card", "memory_mib": 1}],
                   "cards": [{"kind": "small", "slot": "0000:%s:00.0" % slot, "numa": numa}
                             for slot, numa in slots]}, f)
    return path


@test
def groups_hold_what_neither_layers_nor_lanes_can():
    with tempfile.TemporaryDirectory() as folder:
        words = ("--topology", two_pairs(folder), "--context", "384", "--host-spill", "0")
        for split in ("layer", "tensor"):
            status, out, err = run("plan", tiny(), *NONE, *words, "--split", split)
            equal((status, out), (1, ""), split)
            assert "it would fit with split = hybrid" in err, err
        answer = plan(*words)
        equal((answer["fits"], answer["split"]), (True, "hybrid"))
        assert "neither whole layers nor lanes of all" in answer["reason"], answer["reason"]
        groups = {tuple(c["layers"]) for c in answer["cards"]}
        equal((len(groups), {c["lanes"][1] - c["lanes"][0] for c in answer["cards"]} & {0, 8}),
              (2, set()), "runs, and cards without or with all lanes")
        does_as_planned(*words)
        said = []
        for options in (words, ("--cards", "1", "--context", "384")):
            with Daemon(*options, model=tiny()) as own:
                said.append(own.complete("Once upon a time", 24)["choices"][0]["text"])
        equal(said[0], said[1], "on groups, on one card")


@test
def what_the_user_places_lies_there_in_every_split():
    words = ("--cards", "3", "--card-memory", "4M", "--context", "128")
    layers = ("--place", "blk.0.ffn* = card 0", "--place", "blk.0.* = card 2")
    for split in ("layer", "hybrid"):
        planned = plan(*words, "--split", split, *layers, "--place", "output* = card 1")
        for r in planned["ranges"]:
            want = 2 if r["tensor"].startswith("blk.0.") else 1 if r["tensor"].startswith("output") \
                else r["card"]
            equal(r["card"], want, r["tensor"])
        assert "placed by 'blk.0.*'" in planned["cards"][2]["reason"], planned["cards"]
        assert "placed by 'output*'" in planned["cards"][1]["reason"], planned["cards"]
    planned = plan(*words, "--split", "tensor", "--place", "output.weight = card 1")
    equal({r["card"] for r in planned["ranges"] if r["tensor"].startswith("output")}, {1})
    equal(sum(c["lanes"][0] < c["lanes"][1] for c in planned["cards"]), 3, "cards with lanes")
    does_as_planned(*words, "--split", "layer", *layers)
    does_as_planned(*words, "--split", "tensor", "--place", "output.weight = card 1")


@test
def what_cannot_be_placed_is_refused_by_name():
    words = ("plan", tiny(), *NONE, "--cards", "3", "--card-memory", "4M", "--context", "128")
    for status, place, said in (
            (1, ("bla.* = card 1",), "place = bla.* = card 1 matches no tensor"),
            (1, ("blk.0.* = card 1", "blk.1.* = card 0", "blk.2.* = card 1"),
             "fits, but not as it is placed: it would without place = blk.2.* = card 1"),
            (2, ("blk.0.* = card 3",), "place = blk.0.* = card 3: there is none; the last is card 2"),
            (2, ("blk.0.*",), "'blk.0.*' is not PATTERN = card N")):
        got, out, err = run(*words, *(word for p in place for word in ("--place", p)))
        equal((got, out), (status, ""))
        assert said in err, err
    gone = plan(*words[4:], "--without", "2", "--place", "blk.0.* = card 2", "--place",
                "blk.1.* = card 1")
    assert "'blk.0.*' is dropped" in gone["cards"][2]["reason"], gone["cards"]
    assert "placed by 'blk.1.*'" in gone["cards"][1]["reason"], gone["cards"]


@test
def the_text_has_a_row_a_card_and_adds_up():
    with tempfile.TemporaryDirectory() as folder:
        status, out, err = run("plan", large_model(folder), *NONE, "--topology",
                               box("mixed-b50-b60-b70"), "--split", "tensor")
    equal((status, err), (0, ""))
    table = out.split("\n\n")[1].splitlines()
    equal(len(table), 8, "rows")
    for i, (row, name) in enumerate(zip(table[1:7], ["B50", "B50", "B60", "B60", "B70", "B70"])):
        assert row.split()[:4] == [str(i), "Arc", "Pro", name], row
    assert table[7].startswith(" all "), table[7]
    assert "tensor split: as configured" in out and "predicted" in out, out
    assert re.search(r"decode: \d+\.?\d* tokens/s, \d+\.\d % of the time for exchanges", out), out
    assert "30 direct, 0 staged" in out and "none measured" in out, out


@test
def the_json_holds_every_range_once():
    with tempfile.TemporaryDirectory() as folder:
        path = large_model(folder)
        for split in ("layer", "tensor", "hybrid"):
            answer = plan("--topology", box("eight-b60-two-switches"), "--split", split, model=path)
            equal((answer["fits"], answer["split"]), (True, split))
            homes = {}
            for r in answer["ranges"]:
                if not r["copy"]:
                    area = (r["rows"][1] - r["rows"][0]) * (r["columns"][1] - r["columns"][0])
                    homes[r["tensor"]] = homes.get(r["tensor"], 0) + area
            equal(len(homes), answer["model"]["tensors"], "tensors")
            equal(homes["blk.79.ffn_down.weight"], 28672 * 8192)
            equal(homes["output.weight"], 128256 * 8192)
            for i, card in enumerate(answer["cards"]):
                held = sum(r["bytes"] for r in answer["ranges"] if r["card"] == i)
                equal(card["planned"]["weights_bytes"], held + 65536 * (held > 0), "weights")
                used = sum(card["planned"].values())
                equal(card["free_bytes"], 24 * 2**30 - used)
            for key in ("weights_bytes", "kv_bytes", "scratch_bytes"):
                equal(answer["totals"][key], sum(c["planned"][key] for c in answer["cards"]), key)
            # Reading all weights but the embedding's once is the least a token can take.
            least = answer["totals"]["weights_bytes"] - 128256 * 8192 * 9 // 8
            rate = answer["predicted"]["decode_tokens_per_s"]
            most = 456e9 / least * (1 if split == "layer" else 4)  # cards behind one switch
            assert 0.3 * most < rate <= most, (split, rate, most)


@test
def the_split_that_is_predicted_to_decode_fastest_is_taken():
    with tempfile.TemporaryDirectory() as folder:
        path = large_model(folder)
        for name in ("one-bad-link", "eight-b60-two-switches", "mixed-b50-b60-b70"):
            rates = {split: plan("--topology", box(name), "--split", split, model=path)["predicted"]
                     ["decode_tokens_per_s"] for split in ("layer", "tensor", "hybrid")}
            answer = plan("--topology", box(name), model=path)
            equal(answer["predicted"]["decode_tokens_per_s"], max(rates.values()), name)
            equal(answer["split"], max(rates, key=rates.get))
            assert "predicted to decode fastest" in answer["reason"], answer["reason"]
            layers = sorted(c["layers"] for c in answer["cards"] if c["lanes"][0] < c["lanes"][1])
            if name == "one-bad-link":
                assert not all(answer["cards"][c]["lanes"][1] for c in (2, 5)), "the bad pair"
            equal((layers[0][0], layers[-1][1]), (0, 80))


@test
def without_a_card_the_others_hold_it_all():
    answer = plan("--cards", "4", "--without", "1", "--without=3")
    equal([c["online"] for c in answer["cards"]], [True, False, True, False])
    equal([c["planned"]["weights_bytes"] > 0 for c in answer["cards"]], [True, False, True, False])
    equal(answer["cards"][1]["reason"], "not online")


@test
def what_does_not_fit_is_refused_with_what_would():
    words = ("--cards", "1", "--card-memory", "1400K", "--host-spill", "0", "--context")
    status, out, err = run("plan", tiny(), *NONE, *words, "256")
    equal((status, out), (1, ""))
    assert "does not fit" in err and "it would fit with" in err and err.count("\n") == 1, err
    context = re.search(r"a context of (\d+) tokens", err)
    assert context, err
    plan(*words, context.group(1))
    status, out, err = run("--json", "plan", tiny(), *NONE, *words, "256")
    answer = json.loads(out)
    equal((status, answer["fits"]), (1, False))
    assert answer["reason"] in err and "it would fit with" in answer["reason"]


@test
def the_picture_is_well_formed_and_needs_nothing_else():
    with tempfile.TemporaryDirectory() as folder:
        path = large_model(folder)
        status, out, err = run("plan", path, *NONE, "--svg", "--topology", box("one-bad-link"),
                               "--without", "6", "--split", "layer")
        equal((status, err), (0, ""))
        root = xml.etree.ElementTree.fromstring(out.encode())
        equal(root.tag, SVG + "svg")
        titles = [t.text for t in root.iter(SVG + "title")]
        equal(titles[0], "Large <&> \u00e9")
        for layer in range(80):
            equal(sum(("layer %d," % layer) in t for t in titles), 1, "layer %d" % layer)
        equal(sum(" to card " in t for t in titles), 56, "links")
        equal(sum("pattern test failed" in t for t in titles), 1, "the bad one")
        for word in ("href", "script", "style", "url(", "import"):
            assert word not in out, word


@test
def bad_options_are_one_error():
    missing = "/nonexistent/model.gguf"
    for words, status, part in (
            (("plan",), 2, "MODEL"), (("plan", "a", "b"), 2, "too many"),
            (("plan", missing), 1, missing), (("plan", "/dev/null"), 1, "/dev/null"),
            (("plan", tiny(), "--cards", "9"), 2, "'9'"),
            (("plan", tiny(), "--cards", "2", "--without", "2"), 2, "cards 0 to 1"),
            (("plan", tiny(), "--without", "8"), 2, "'8'"),
            (("plan", tiny(), "--without", "x"), 2, "'x'"),
            (("plan", tiny(), "--without", "0"), 1, "online"),
            (("plan", tiny(), "--split", "half"), 2, "'half'"),
            (("plan", tiny(), "--context", "1000000"), 1, "1000000"),
            (("plan", tiny(), "--nonsense"), 2, "nonsense"),
            (("plan", tiny(), "--topology", "/dev/null"), 78, "/dev/null: byte 0"),
            (("plan", tiny(), "--json", "--svg"), 2, "one of them"),
            (("plan", tiny(), "--cards", "2", "--topology", box("one-bad-link")), 2, "cards = 2")):
        got, out, err = run(*words, *NONE)
        equal((got, out), (status, ""), "octarc %s: %s" % (" ".join(words), err))
        assert part in err and len(err.splitlines()) <= 2, err
    for words, part in ((("--json",), "--plan"), (("--svg",), "--plan"), (("--without", "1"), "--plan"),
                        (("--plan", "a", "--model", "b"), "both"),
                        (("--inspect", "a", "--model", "b"), "both"), (("--plan",), "needs a value")):
        status, err = octarcd(*NONE, *words)
        equal(status, 2, err)
        assert part in err, err
    with open("/dev/full", "w") as full:
        done = subprocess.run([os.path.join(BUILD, "octarcd"), *NONE, "--plan", tiny()], stdout=full,
                              stderr=subprocess.PIPE, text=True)
    equal((done.returncode, "cannot write" in done.stderr), (1, True), done.stderr)


@test
def octarcd_is_found_beside_octarc_or_in_the_path():
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "octarc")
        with open(os.path.join(BUILD, "octarc"), "rb") as a, open(copy, "wb") as b:
            b.write(a.read())
        os.chmod(copy, 0o755)
        for path, status in ((BUILD, 0), ("/nonexistent", 1)):
            done = subprocess.run([copy, "plan", tiny(), *NONE], capture_output=True, text=True,
                                  env=dict(os.environ, PATH=path))
            equal(done.returncode, status, done.stderr)
        assert "no octarcd" in done.stderr, done.stderr


if __name__ == "__main__":
    main()
