#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""octarc bench: every figure is there, nothing is left behind, and errors are named.

The figures themselves are of no interest here: the model is tiny and the machine busy.
"""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

from harness import BUILD, ROOT, STRETCH, equal, main, test, tiny, wait_until

OCTARC = os.path.join(BUILD, "octarc")
STREAMS = ["1", "4", "8", "16"]


class Bench:
    """One run with a folder of its own for everything temporary."""

    def __init__(self, *words, **environment):
        self.folder = tempfile.TemporaryDirectory(prefix="octarc-e2e-")
        self.process = subprocess.Popen(
            [OCTARC, "bench", *words], text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=dict(os.environ, TMPDIR=self.folder.name, **environment))

    def end(self):
        """(status, stdout, stderr); nothing may run on, and no file may be left."""
        out, err = self.process.communicate(timeout=120 * STRETCH)
        equal(self.left(), [], "processes left running")
        equal(os.listdir(self.folder.name), [], "files left behind")
        self.folder.cleanup()
        return self.process.returncode, out, err

    def left(self):
        """The command lines that name the folder."""
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open("/proc/%s/cmdline" % entry, "rb") as f:
                    words = f.read().split(b"\0")
                if any(self.folder.name.encode() in word for word in words):
                    found.append(b" ".join(words))
        return found


def ranges(value, path=""):
    """Every {min, median, max} below a value, with its place."""
    if isinstance(value, dict) and "median" in value:
        yield path, value
    elif isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from ranges(item, "%s/%s" % (path, key))


def check_ranges(value, least):
    found = dict(ranges(value))
    assert len(found) >= least, found.keys()
    for path, r in found.items():
        equal(sorted(r), ["max", "median", "min"], path)
        assert 0 < r["min"] <= r["median"] <= r["max"], (path, r)


def report(*words, **environment):
    status, out, err = Bench("--quick", "--threads", "2", "--json", *words, tiny(),
                             **environment).end()
    equal((status, err), (0, ""), "status and stderr")
    return json.loads(out)


@test
def every_figure_is_told():
    got = report("--runs", "2")
    equal((got["runs"], got["quick"], got["model"]), (2, True, "tiny-f32.gguf"))
    equal(got["version"], subprocess.check_output([OCTARC, "--json", "version"], text=True)
          .split('"client":"')[1].split('"')[0])
    equal(sorted(got["machine"]), ["cpu", "date", "isa", "threads"])
    equal(got["machine"]["threads"], 2)
    equal(sorted(got["prefill_tokens_per_s"]), ["128", "64"])
    equal(list(got["streams"]), STREAMS)
    equal(sorted(got["ready_ms"]), ["cold", "warm"])
    equal([(s["cards"], s["split"]) for s in got["sharding"]],
          [(n, split) for n in (1, 2, 4, 8) for split in ("layer", "tensor")])
    for shard in got["sharding"]:
        equal(sorted(shard), ["cards", "decode_tokens_per_s", "prefill_tokens_per_s", "split"])
    for key in ("decode_tokens_per_s", "ttft_ms", "rss_bytes", "fraction_of_bandwidth",
                "fraction_of_int8_peak", "read_bytes_per_s", "int8_ops_per_s",
                "private_read_bytes_per_s", "private_decode_tokens_per_s"):
        assert "median" in got[key], key
    check_ranges(got, 2 + 4 + 2 + 9 + 16)
    for kind in ("shared_weights", "private_weights"):
        equal(sorted(got[kind]), ["bytes", "huge_bytes"], kind)
        assert 0 <= (got[kind]["huge_bytes"] or 0) <= got[kind]["bytes"], got[kind]
    assert got["rss_bytes"]["min"] > 4 << 20, got["rss_bytes"]
    # A part is what was measured beside it over what was measured before it.
    part = got["fraction_of_bandwidth"]["max"]
    most = got["decode_tokens_per_s"]["max"] * got["token_bytes"] / got["read_bytes_per_s"]["min"]
    assert part <= most * 1.0001, (part, most)


@test
def the_table_has_a_row_for_each():
    status, out, err = Bench("--quick", tiny()).end()
    equal((status, err), (0, ""), "status and stderr")
    for part in ("prefill 128", "decode", "streams 16", "ttft", "ready cold", "rss",
                 "private read", "private decode", "shared weights: ", "private weights: ",
                 "of bandwidth", "of int8 peak", "decode, 1 card, layer", "prefill, 8 cards, tensor",
                 "too short to rely on"):
        assert "\n" + part in out or part in out.split("\n\n")[0], part


@test
def an_interrupt_ends_all_that_was_started():
    for number in (signal.SIGINT, signal.SIGTERM):
        bench = Bench("--quick", "--runs", "100", tiny())
        wait_until(lambda: len(bench.left()) >= 8, 30, "eight services")
        bench.process.send_signal(number)
        equal(bench.end(), (130, "", ""))


@test
def a_bench_that_is_killed_takes_its_services_with_it():
    bench = Bench("--quick", "--runs", "100", tiny())
    wait_until(lambda: len(bench.left()) >= 4, 30, "some services")
    bench.process.kill()
    bench.process.communicate()
    wait_until(lambda: not bench.left(), 10, "their end")
    bench.folder.cleanup()


@test
def what_is_missing_is_named():
    with open(os.path.join(ROOT, "models", "catalog", "smollm2-135m-instruct.json")) as f:
        default = json.load(f)["file"]
    with tempfile.TemporaryDirectory() as folder:
        bad = os.path.join(folder, "bad.gguf")
        with open(bad, "w") as f:
            f.write("no model")
        for words, environment, parts in (
                ((), {"XDG_CACHE_HOME": folder},
                 (folder + "/octarc/models/" + default, "models/catalog/fetch")),
                ((folder + "/none.gguf",), {}, (folder + "/none.gguf", "No such file")),
                ((bad,), {}, ("octarcd ended with status 78", "bad.gguf")),
                ((tiny(),), {"OCTARCD": folder + "/octarcd"}, (folder + "/octarcd",)),
                ((tiny(), "--against", folder), {}, (folder, "llama-bench", "llama-server")),
                ((tiny(),), {"OCTARCD": "/bin/false"}, ("false ended with status 1",))):
            status, out, err = Bench("--quick", *words, **environment).end()
            equal((status, out), (1, ""), "%r: %s" % (words, err))
            for part in ("octarc: bench: ",) + parts:
                assert part in err, (part, err)
    for words in (("--runs", "0"), ("--runs", "101"), ("--runs", "x"), ("--threads", "0"),
                  ("a", "b")):
        status, out, err = Bench(*words).end()
        equal((status, out), (2, ""), "%r: %s" % (words, err))


FAKE_BENCH = """#!%s
import json, sys
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert words["-o"] == "json" and words["-t"] == "2" and words["-r"] == "1", words
tests = [{"n_prompt": int(n), "n_gen": 0, "samples_ts": [10.0, 400.0, 100.0]} for n in words["-p"].split(",")]
print(json.dumps(tests + [{"n_prompt": 0, "n_gen": int(words["-n"]), "samples_ts": [50.0]}]))
"""

FAKE_SERVER = """#!%s
import http.server, json, sys
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert words["-np"] == "16" and int(words["-c"]) >= 16 * 128, words

class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, body):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(b"{}")
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert request["stream"] and request["ignore_eos"] and not request["cache_prompt"]
        self.answer(b'data: {"stop":false}\\n\\n' * request["n_predict"] + %s)
    def log_message(self, *rest):
        pass

http.server.ThreadingHTTPServer.request_queue_size = 64
http.server.ThreadingHTTPServer((words["--host"], int(words["--port"])), Handler).serve_forever()
"""


def put_program(folder, name, text):
    with open(os.path.join(folder, name), "w") as f:
        f.write(text)
    os.chmod(f.name, 0o755)


def draw_page(folder, got):
    """The page about performance is made from a report; what is around the figures stays."""
    docs, copy = os.path.join(ROOT, "docs"), os.path.join(folder, "performance.md")
    with open(os.path.join(folder, "report.json"), "w") as f:
        json.dump(got, f)
    shutil.copy(os.path.join(docs, "performance.md"), copy)
    for _ in range(2):  # a second time replaces the first
        subprocess.run([os.path.join(docs, "performance", "draw"), f.name, copy], check=True)
        with open(copy) as page, open(os.path.join(docs, "performance.md")) as before:
            made, old = page.read(), before.read()
        equal([made.split("<!--")[0], made.split("-->")[-1]],
              [old.split("<!--")[0], old.split("-->")[-1]], "the rest of the page")
        figures = made.split("-->")[1].split("<!--")[0]
    for part in ("| prefill 128 | tokens/s |", "| 16 streams in all |", "](./cards.svg)",
                 "](./streams.svg)", "| llama.cpp | ratio |",
                 "| decode, private weights |", "lie on huge pages: shared "):
        assert figures.count(part) == 1, (part, figures)
    decode = next(row for row in figures.splitlines() if row.startswith("| decode |"))
    equal(decode.split("|")[5].strip(), "50.0", "the peer's figure: " + decode)
    for name, labels in (("cards.svg", ("layer", "tensor", "8")),
                         ("streams.svg", ("octarc", "llama.cpp", "16"))):
        root = xml.etree.ElementTree.parse(os.path.join(folder, name)).getroot()
        said = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
        assert set(labels) <= set(said), (name, said)


@test
def a_peer_is_measured_beside_it():
    with tempfile.TemporaryDirectory() as folder:
        put_program(folder, "llama-bench", FAKE_BENCH % sys.executable)
        put_program(folder, "llama-server", FAKE_SERVER % (
            sys.executable, b'data: {"x":1,"stop":true}\n\n'))
        got = report("--runs", "2", "--against", folder)
        against = got["against"]
        equal(against["skipped"], {})
        equal(against["figures"]["decode_tokens_per_s"], {"min": 50, "median": 50, "max": 50})
        for part in ("figures", "ratio"):
            equal(sorted(against[part]), ["decode_tokens_per_s", "prefill_tokens_per_s",
                                          "ready_ms", "rss_bytes", "streams", "ttft_ms"])
            check_ranges(against[part], 11)
        ratio = got["decode_tokens_per_s"]["max"] / 50
        draw_page(folder, got)
        assert abs(against["ratio"]["decode_tokens_per_s"]["max"] - ratio) < ratio / 1e6, against


@test
def a_peer_that_fails_is_left_out_with_the_reason():
    with tempfile.TemporaryDirectory() as folder:
        put_program(folder, "llama-bench", "#!/bin/sh\necho the peer is ill >&2\nexit 3\n")
        got = report("--runs", "2", "--against", folder)
        skipped = got["against"]["skipped"]
        assert "status 3: the peer is ill" in skipped["llama-bench"], skipped
        assert "there is no llama-server" in skipped["llama-server"], skipped
        equal(got["against"]["ratio"], {})
        check_ranges(got, 20)
        put_program(folder, "llama-server", FAKE_SERVER % (sys.executable, b"data: {}\n\n"))
        skipped = report("--against", folder)["against"]["skipped"]
        equal(skipped["llama-server"], "llama-server broke off an answer")


if __name__ == "__main__":
    main()
