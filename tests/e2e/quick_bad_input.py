#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bad input of every kind: one clear error that names what and where, and nothing else changes."""
import contextlib
import json
import os
import resource
import socket
import struct
import tempfile

from harness import (Daemon, UnixHttp, equal, main, note, octarcd, test, tiny)

PROMPT = "The cat sat on the mat and"
MIB = 1 << 20


def daemon():
    return Daemon.shared("--cards", "2", "--context", "128", model=tiny())


def unchanged(check):
    """Run the check; the same question must have the same answer before and after."""
    before = daemon().complete(PROMPT, 8)["choices"]
    pid = daemon().process.pid
    check()
    equal(daemon().complete(PROMPT, 8)["choices"], before, "the answer afterwards")
    equal(daemon().process.pid, pid, "the daemon")
    equal(daemon().rpc("status")["generation"], 1, "the engine's generation")


# --- Models ----------------------------------------------------------------------------------------

def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def key(name, kind, data):
    return text(name) + struct.pack("<I", kind) + data


def tensor(name, dims, kind, offset):
    return (text(name) + struct.pack("<I", len(dims)) + struct.pack("<%dQ" % len(dims), *dims) +
            struct.pack("<IQ", kind, offset))


def gguf(keys=(), tensors=(), data=b"", n_tensors=None, n_keys=None, magic=b"GGUF", version=3):
    head = magic + struct.pack("<IQQ", version, len(tensors) if n_tensors is None else n_tensors,
                               len(keys) if n_keys is None else n_keys)
    head += b"".join(keys) + b"".join(tensors)
    return head + b"\0" * (-len(head) % 32) + data


LLAMA = key("general.architecture", 8, text("llama"))


def real():
    with open(tiny(), "rb") as f:
        return f.read()


def models():
    whole = real()
    yield "empty", b"", ("GGUF", "truncated", "bytes", "end", "short")
    yield "wrong magic", b"GGML" + whole[4:], ("GGUF", "magic")
    yield "version 9", whole[:4] + struct.pack("<I", 9) + whole[8:], ("version", "9")
    yield "cut in the header", whole[:700], ("truncated", "end", "beyond", "bytes")
    yield "cut in the weights", whole[:len(whole) - 5000], ("cut short",)
    yield "absurd count of keys", gguf(n_keys=1 << 60), ("keys", "key", "metadata")
    yield "absurd count of tensors", gguf([LLAMA], n_tensors=1 << 60), ("tensors",)
    yield "absurd string", gguf([struct.pack("<Q", 1 << 62)], n_keys=1), ("string", "key", "bytes")
    yield "unknown architecture", gguf([key("general.architecture", 8, text("walrus"))],
                                       [tensor("a", [32], 0, 0)], b"\0" * 128), ("walrus",)
    yield "unknown type", gguf([LLAMA], [tensor("blk.0.x", [32], 77, 0)], b"\0" * 128), (
        "77", "blk.0.x")
    yield "tensor beyond the file", gguf([LLAMA], [tensor("far", [32], 0, 1 << 40)], b"\0" * 128), (
        "far",)
    yield "overlapping tensors", gguf([LLAMA], [tensor("one", [32], 0, 0), tensor("two", [32], 0, 64)],
                                      b"\0" * 256), ("one", "two", "overlap")
    yield "no architecture", gguf([], [tensor("a", [32], 0, 0)], b"\0" * 128), ("architecture",)
    yield "no tensors", gguf([LLAMA]), ("llama", "tensor")


@test
def a_bad_model_is_named_and_exits_with_78():
    with tempfile.TemporaryDirectory() as folder:
        path, where = os.path.join(folder, "bad.gguf"), os.path.join(folder, "sock")
        for name, data, parts in models():
            with open(path, "wb") as f:
                f.write(data)
            status, err = octarcd("--listen", where, "--model", path, "--config", os.devnull)
            if status == 78:
                note(err.strip().splitlines()[-1])
            equal(status, 78, "exit status for '%s': %s" % (name, err))
            last = err.strip().splitlines()[-1]
            assert "bad.gguf" in last, "%s: the file is not named: %s" % (name, err)
            assert any(p in last for p in parts), "%s: none of %s in: %s" % (name, parts, err)
            assert not os.path.exists(where), "%s: the socket is left behind" % name


@test
def a_model_that_is_not_there_is_named():
    with tempfile.TemporaryDirectory() as folder:
        for path in ("/nonexistent/model.gguf", "/", "/dev/null"):
            status, err = octarcd("--listen", os.path.join(folder, "s"), "--model", path,
                                  "--config", os.devnull)
            equal(status, 78, err)
            assert path in err, err


@test
def what_the_machine_lacks_for_a_moment_is_worth_another_try():
    """Too few descriptors: exit status 1, which systemd starts again, and no READY before it."""
    with tempfile.TemporaryDirectory() as folder:
        for limit in range(14, 40):
            status, err = octarcd(
                "--listen", os.path.join(folder, "s"), "--config", os.devnull, "--cards", "8",
                "--model", tiny(),
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
            equal(status, 1, "exit status with %d descriptors: %s" % (limit, err))
            assert "ready" not in err, err
            if "weight memory" in err:
                return
        raise AssertionError("the load never failed")


@test
def too_little_memory_for_the_model_is_refused_with_figures():
    with tempfile.TemporaryDirectory() as folder:
        status, err = octarcd("--listen", os.path.join(folder, "s"), "--config", os.devnull,
                              "--model", tiny(), "--cards", "2", "--card-memory", "1M", "--host-spill", "0",
                              "--context", "512")
        assert status in (1, 78), (status, err)
        assert "card" in err and any(c.isdigit() for c in err), err


# --- Socket and configuration ---------------------------------------------------------------------

@test
def a_socket_that_cannot_be_had_is_named():
    with tempfile.TemporaryDirectory() as folder:
        taken = socket.socket(socket.AF_UNIX)
        taken.bind(os.path.join(folder, "taken"))
        taken.listen()
        with open(os.path.join(folder, "file"), "w") as f:
            f.write("keep")
        for path, part in ((os.path.join(folder, "taken"), "taken"),
                           (os.path.join(folder, "file"), "file"),
                           ("/proc/sock", "/proc/sock"),
                           (os.path.join(folder, "x" * 120), "107")):
            status, err = octarcd("--listen", path, "--config", os.devnull, "--backend", "cpu")
            assert status not in (0, None), (path, status, err)
            assert part in err and len(err.strip().splitlines()) <= 2, err
        equal(open(os.path.join(folder, "file")).read(), "keep")
        assert os.path.exists(os.path.join(folder, "taken"))
        taken.close()


@test
def bad_options_exit_with_2_and_a_bad_file_with_78():
    for options in (("--nonsense",), ("--cards", "9"), ("--cards", "0"), ("--context", "x"),
                    ("--split", "diagonal"), ("--storage", "svm"), ("--probe", "x"),
                    ("--probe=x",), ("--card-memory", "lots"), ("word",)):
        status, err = octarcd(*options, "--config", os.devnull)
        equal(status, 2, "%r: %s" % (options, err))
        assert options[0].lstrip("-").split("=")[0] in err or options[-1] in err, err
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "c.conf")
        for content, part in (("[engine]\ncards = 99\n", "99"), ("[nonsense]\na = b\n", "nonsense"),
                              ("[engine]\nnonsense = 1\n", "nonsense"), ("cards\n", "1")):
            with open(path, "w") as f:
                f.write(content)
            status, err = octarcd("--config", path, "--check-config")
            equal(status, 1, err)
            assert path in err and part in err, err
            status, err = octarcd("--config", path, "--listen", os.path.join(folder, "sock"))
            equal(status, 78, err)
            assert path in err and part in err, err
    equal(octarcd("--config", os.devnull, "--check-config")[0], 0)


# --- Requests --------------------------------------------------------------------------------------

def bodies():
    deep = b'{"prompt":' + b"[" * 500 + b"]" * 500 + b"}"
    ask = '{"prompt":"x",%s}'
    yield b"", "bad_field", "empty"
    yield b"{", "bad_json", "cut"
    yield b'{"prompt":"x"} x', "bad_json", "more behind"
    yield b"{'prompt':'x'}", "bad_json", "single quotes"
    yield b'{"prompt":"\xff\xfe"}', "bad_json", "invalid UTF-8"
    yield b'{"prompt":"\xed\xa0\x80"}', "bad_json", "a surrogate in UTF-8"
    yield b'{"prompt":"a\\u0000b"}', "bad_json", "NUL"
    yield b'{"prompt":"x","prompt":"y"}', "bad_json", "a key twice"
    yield deep, "too_big", "too deep"
    yield b"[]", ("bad_request", "bad_field", "bad_json"), "no object"
    yield b"{}", "bad_field", "no prompt"
    for field in ('"max_tokens":"many"', '"max_tokens":-2', '"max_tokens":1.5', '"temperature":-1',
                  '"temperature":"hot"', '"top_p":2', '"n":0', '"n":1000000', '"logprobs":99',
                  '"stop":[1]', '"stop":7', '"logit_bias":7', '"logit_bias":{"x":1}',
                  '"seed":1.5', '"stream":"yes"', '"nonsense":1', '"presence_penalty":"x"'):
        yield (ask % field).encode(), "bad_field", field
    yield b'{"prompt":5}', "bad_field", "prompt"
    yield b'{"prompt":[1,-2]}', "bad_field", "a negative token"
    yield b'{"prompt":[99999999]}', "bad_field", "a token that is not there"
    yield json.dumps({"prompt": "a b " * 400}).encode(), "prompt_too_long", "too long"
    yield b'{"prompt":"x","model":"other"}', "not_found", "model"


@test
def bad_requests_get_one_error_each_over_http():
    def check():
        for body, name, what in bodies():
            status, answer = daemon().http("POST", "/v1/completions", body)
            if not 400 <= status < 500:
                wrong.append((what, status, answer))
                continue
            error = answer["error"]
            equal(set(error) >= {"code", "message", "type", "param"}, True, what)
            if error["name"] not in (name if isinstance(name, tuple) else (name,)):
                wrong.append((what, error))
            if what.startswith('"') and (error["param"] != what.split('"')[1] or
                                         what.split('"')[1] not in error["message"]):
                wrong.append((what, error))
    wrong = []
    unchanged(check)
    equal(wrong, [])


@test
def bad_requests_get_one_error_each_over_lines():
    wrong = []

    def check():
        for body, name, what in bodies():
            if what in ("empty", "cut", "more behind"):
                continue  # not a line of its own
            line = b'{"jsonrpc":"2.0","id":7,"method":"complete","params":' + body + b"}\n"
            answer = daemon().raw_line(line)
            error = answer.get("error")
            if not error:
                wrong.append((what, answer))
                continue
            if error["data"]["name"] not in (name if isinstance(name, tuple) else (name,)):
                wrong.append((what, error))
            assert error["message"] and error["code"] < 0, error
        equal(wrong, [])
        for line in (b"{\n", b"[]\n", b'{"jsonrpc":"2.0","id":1}\n', b"[1]\n", b"{}}\n",
                     b'{"jsonrpc":"2.0","id":1,"method":5}\n', b'{"id":{},"method":"status"}\n'):
            answer = daemon().raw_line(line)
            answer = answer[0] if isinstance(answer, list) else answer
            assert answer["error"]["data"]["name"] in ("bad_json", "bad_request"), (line, answer)
        equal(daemon().rpc_error("nonsense"), "unknown_method")
        equal(daemon().rpc_error("drill", {"fault": "flood"}), "bad_field")
        equal(daemon().rpc_error("drill", {"fault": "lose", "card": 7}), "bad_field")
        equal(daemon().rpc_error("cancel", {"id": "req-999999"}), "not_found")
    unchanged(check)


@test
def requests_that_are_too_big_are_refused_before_they_are_whole():
    def check():
        http = UnixHttp(daemon().socket, daemon().timeout)
        http.putrequest("POST", "/v1/completions")
        http.putheader("Content-Length", str(1 << 40))
        http.endheaders()
        equal(http.getresponse().status, 413)
        http.close()
        lines = daemon().connect()
        try:
            for _ in range(32):
                lines.socket.sendall(b'{"a":"' + b"x" * MIB)
        except OSError:
            pass  # it stopped reading
        answer = lines.receive()
        equal(answer["error"]["data"]["name"], "too_big")
        lines.close()
    unchanged(check)


def exchange(data, half_close=False):
    """Everything the service says to these bytes until it closes the connection."""
    own, got = socket.socket(socket.AF_UNIX), b""
    own.settimeout(daemon().timeout)
    own.connect(daemon().socket)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before it was whole
        own.sendall(data)
    if half_close:
        own.shutdown(socket.SHUT_WR)
    with contextlib.suppress(ConnectionResetError):
        for more in iter(lambda: own.recv(65536), b""):
            got += more
    own.close()
    return got


@test
def a_request_that_two_could_read_differently_is_refused():
    body = b'{"content":"Hello"}'
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    length, encoding = b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked"

    def request(lines, content):
        return b"\r\n".join([b"POST /tokenize HTTP/1.1", b"Host: x", *lines, b"", content])

    def check():
        for lines, content in (([length], body), ([encoding], chunked)):
            got = exchange(request([*lines, b"Connection: close"], content))
            assert got.startswith(b"HTTP/1.1 200 ") and b'"tokens"' in got, got
        for lines, content in (
                ([length, length], body), ([length, b"Content-Length: 3"], body),
                ([length, encoding], chunked), ([encoding, length], chunked),
                ([encoding, encoding], chunked), ([length.replace(b":", b" :")], body),
                ([length.replace(b":", b"\t:")], body), ([encoding.replace(b":", b" :")], chunked),
                ([length, encoding.replace(b":", b" :")], body),
                ([b"Transfer-Encoding: gzip, chunked"], chunked),
                ([b"Transfer-Encoding: xchunked"], chunked),
                ([b"Transfer-Encoding: identity"], body)):
            got = exchange(request(lines, content) + b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
            assert got.startswith(b"HTTP/1.1 400 ") and b'"version"' not in got, (lines, got)
            head, _, answer = got.partition(b"\r\n\r\n")
            if b"application/json" in head:  # else a newer libmicrohttpd refused it before us
                equal(json.loads(answer)["error"]["name"], "bad_request", lines)
    unchanged(check)


@test
def http_that_is_not_http_is_refused():
    def check():
        equal(exchange(b"GET\r\n\r\n"), b"")
        for data, status in ((b"GET /version\r\n\r\n", 400), (b"G" * 70000, 414),
                             (b"GET /version HTTP/1.1\r\n\r\n", 400),
                             (b"GET /version HTTP/1.1\r\nHost: x\r\nbad line\r\n\r\n", 400),
                             (b"GET /version HTTP/9.0\r\nHost: x\r\n\r\n", 505)):
            got = exchange(data)
            if got == b"" and len(data) > 16384:
                continue  # a newer libmicrohttpd closes without a word
            equal(got.split(b" ")[1:2], [b"%d" % status], data[:40])
        for data in (b"GET /version HTTP/1.1\r\nHo", b"POST /tokenize HTTP/1.1\r\nHost: x\r\n"
                     b"Content-Length: 99\r\n\r\n{"):
            equal(exchange(data, half_close=True), b"")
        for verb, path, status in (("GET", "/nowhere", 404), ("GET", "/v1/completions", 404),
                                   ("DELETE", "/health", 404), ("GET", "/v1/models/other", 404)):
            got, answer = daemon().http(verb, path)
            assert got in (status, 405), (verb, path, got)
            assert answer["error"]["message"], answer
    unchanged(check)


if __name__ == "__main__":
    main()
