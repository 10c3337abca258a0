# SPDX-License-Identifier: Apache-2.0
"""harness.py - start an octarcd of one's own on a private socket and talk to it.

Nothing but the standard library.  Every process is ended by its id; the system's octarcd is never
touched.  Environment: OCTARC_BUILD (the programs), OCTARC_TINY (the tiny models), SAN (times are
stretched), OCTARC_SHARED (reference data that is not part of the project; may be absent).

What a daemon or its engines said is read when it ends.  A sanitizer's report or an engine that died of
itself fails the test that ran then, though the service recovered and every answer was right; of
daemons that tests share it is a failed test of its own.
"""
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("OCTARC_BUILD", os.path.join(ROOT, "build", "release"))
TINY = os.environ.get("OCTARC_TINY", os.path.join(ROOT, "build", "tiny"))
SAN = os.environ.get("SAN", "")
SHARED = os.environ.get("OCTARC_SHARED", "")
# A loaded machine is slow, one with a sanitizer slower; only what hangs may meet a limit.
STRETCH = 16 if SAN else 6
tests = []
problems = []  # what daemons that have ended had to complain about

SANITIZER = re.compile(r"ERROR: (Address|Leak|Thread|Memory)Sanitizer|WARNING: ThreadSanitizer|"
                       r"AddressSanitizer|LeakSanitizer|UndefinedBehavior|: runtime error: ")
# Tests end engines with SIGKILL, and the service does; nothing else may end one.
DEATH = re.compile(r"is gone: (?!.*\b(killed|ended) by signal 9\b)(?!card \d+ was lost)|"
                   r"said something that is not of the channel|speaks version \d+ of the channel")
ANY_DEATH = re.compile(r"the engine of generation \d+ is gone|" + DEATH.pattern)


class Skip(Exception):
    pass


class RpcError(Exception):
    def __init__(self, error):
        super().__init__(error["message"])
        self.error, self.name = error, error.get("data", {}).get("name")


def test(function):
    """Mark a test; its name is a sentence."""
    tests.append(function)
    return function


def note(text):
    for line in str(text).splitlines():
        print("# " + line, flush=True)


def attempt(run):
    """Run a test: (whether it passed, why it was skipped)."""
    passed, skipped = True, ""
    try:
        run()
    except Skip as why:
        skipped = " # SKIP %s" % why
    except Exception:
        note(traceback.format_exc())
        passed = False
    for text in problems:
        note(text)
        passed = False
    problems.clear()
    return passed, skipped


def shared_daemons_end_in_good_order_and_had_no_complaint():
    for daemon in Daemon.kept.values():
        daemon.stop()


def main():
    """Run the tests, or those that the arguments name."""
    unknown = set(sys.argv[1:]) - {t.__name__ for t in tests}
    if unknown:
        sys.exit("there is no test %s" % ", ".join(sorted(unknown)))
    chosen = [t for t in tests if len(sys.argv) < 2 or t.__name__ in sys.argv[1:]]
    if not os.path.exists(os.path.join(BUILD, "octarcd")):
        sys.exit("%s holds no octarcd: set OCTARC_BUILD" % BUILD)
    failed = number = 0
    for number, run in enumerate(chosen, 1):
        failed += not tell(number, run, *attempt(run))
    problems.extend(Daemon.crashed)
    if Daemon.kept or problems:
        number += 1
        run = shared_daemons_end_in_good_order_and_had_no_complaint
        failed += not tell(number, run, *attempt(run))
    print("1..%d" % number)
    sys.exit(failed != 0)


def tell(number, run, passed, skipped):
    print("%sok %d - %s%s" % ("" if passed else "not ", number, run.__name__.replace("_", " "),
                              skipped), flush=True)
    return passed


def equal(got, want, what="value"):
    if got != want:
        raise AssertionError("%s is %.600r, want %.600r" % (what, got, want))


def wait_until(condition, seconds, what):
    """What the condition gave when it came true."""
    end = time.monotonic() + seconds * STRETCH
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError("%s did not happen in %d s" % (what, seconds * STRETCH))
        time.sleep(0.02)
    return found


def tiny(name="tiny-f32"):
    return os.path.join(TINY, name + ".gguf")


def shared(*parts):
    path = os.path.join(SHARED, *parts)
    if not SHARED or not os.path.exists(path):
        raise Skip("OCTARC_SHARED names no folder with %s" % os.path.join(*parts))
    return path


def default_model():
    """The small real model; fetched once for all tests and runs."""
    fetch = os.path.join(ROOT, "models", "catalog", "fetch")
    done = subprocess.run([fetch], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        unless_unreachable("the default model", done.stderr)
    return done.stdout.strip()


def cached_model(name):
    """A larger real model of the catalog, where somebody has fetched it before."""
    fetch = os.path.join(ROOT, "models", "catalog", "fetch")
    done = subprocess.run([fetch, "--cached", name], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    if done.returncode == 3:
        raise Skip("models/catalog/fetch %s was not run" % name)
    equal(done.returncode, 0, "status of fetch: " + done.stderr)
    return done.stdout.strip()


def unless_unreachable(what, said):
    """pip failed: skip where the registry cannot be reached; anything else is a failure."""
    last = (said.strip().splitlines() or ["no reason given"])[-1]
    if re.search(r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|"
                 r"ProxyError|Network is unreachable|No route to host", said):
        raise Skip("%s: the registry cannot be reached: %s" % (what, last))
    raise AssertionError("%s cannot be had: %s" % (what, said[-2000:]))


class Lines:
    """A JSON-RPC connection."""

    def __init__(self, path, timeout):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")
        self.last_id = 0

    def send(self, method, params=None):
        self.last_id += 1
        text = json.dumps({"jsonrpc": "2.0", "id": self.last_id, "method": method,
                           "params": params or {}})
        self.socket.sendall(text.encode() + b"\n")
        return self.last_id

    def receive(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("the service closed the connection")
        return json.loads(line)

    def call(self, method, params=None):
        number = self.send(method, params)
        message = self.receive()
        if "error" in message:
            raise RpcError(message["error"])
        equal(message["id"], number, "id")
        return message["result"]

    def stream(self, method, params):
        """Yields the chunks."""
        number = self.send(method, dict(params, stream=True))
        while True:
            message = self.receive()
            if "error" in message:
                raise RpcError(message["error"])
            if "id" in message:
                equal((message["id"], message["result"]), (number, {"done": True}), "the end")
                return
            equal(message["params"]["id"], number, "id")
            yield message["params"]["chunk"]

    def close(self):
        self.file.close()
        self.socket.close()


class UnixHttp(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    """An octarcd.  As a context manager it is stopped in good order, and that must work."""

    kept = {}     # those that tests share
    crashed = []  # what is to be said about shared ones that ended by themselves

    def __init__(self, *options, model=None, wait=True, config="", deaths=None,
                 rebalance="restart", measure_links=None, env=None, popen=subprocess.Popen):
        """deaths: a pattern of what the log may say of engines that end as the test wants.
        rebalance, measure_links: the keys' values, unless config has them; links of simulated cards
        are measured only where a test wants it.  popen: what starts the process.
        env: beside the own environment, in which systemd says not to watch the machine's memory:
        that would be a matter of chance."""
        self.rebalance = rebalance
        self.deaths = re.compile(deaths) if deaths else None
        self.folder = tempfile.TemporaryDirectory(prefix="octarc-e2e-")
        self.socket = os.path.join(self.folder.name, "sock")
        self.log_path = os.path.join(self.folder.name, "log")
        self.config = os.path.join(self.folder.name, "octarc.conf")
        with open(self.config, "w") as f:  # never the system's
            f.write("[engine]\nrebalance = %s\n" % rebalance)
            if measure_links or "ZE_ENABLE_ALT_DRIVERS" in (env or {}):
                f.write("measure_links = %s\n" % (measure_links or "never"))
            f.write(config)
        command = [os.path.join(BUILD, "octarcd"), "--listen", self.socket, "--config", self.config,
                   "--backend", "cpu"]  # whatever cards this machine has; options may say else
        if model:
            command += ["--model", model]
        with open(self.log_path, "wb") as log:
            self.process = popen(
                command + list(options), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env=surroundings(env))
        self.timeout = 60 * STRETCH
        self.is_shared, self.is_read = False, False
        try:
            if wait:
                self.wait_ready(with_model=model is not None)
        except BaseException:
            self.kill()
            raise

    @classmethod
    def shared(cls, *options, model):
        """One for all tests of a file that want the same.  Where it has ended, the tests that
        follow get a new one."""
        key = (options, model)
        if key in cls.kept and cls.kept[key].process.poll() is not None:
            dead = cls.kept.pop(key)
            cls.crashed.append("a shared octarcd ended with status %d:\n%s" % (
                dead.process.returncode, "\n".join(dead.log().splitlines()[-30:])))
            dead.kill()
        if key not in cls.kept:
            cls.kept[key] = cls(*options, model=model)
            cls.kept[key].is_shared = True
        return cls.kept[key]

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind:
            self.show_log()
            self.kill()
        else:
            self.stop()

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def show_log(self):
        with contextlib.suppress(OSError):
            note("\n".join(self.log().splitlines()[-60:]))

    def wait_ready(self, with_model=True):
        want = "ready" if with_model else "no_model"

        def is_ready():
            if self.process.poll() is not None:
                raise AssertionError("octarcd ended with %s: %s" % (self.process.returncode,
                                                                    self.log()))
            try:
                return self.rpc("status")["state"] == want
            except OSError:
                return False
        wait_until(is_ready, 60, "state " + want)

    def stop(self):
        """SIGTERM; it must end with 0 and leave no socket behind."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(40 * STRETCH)
            equal(status, 0, "octarcd's exit status")
            equal(os.path.exists(self.socket), False, "the socket is left behind")
        except BaseException:
            self.show_log()
            raise
        finally:
            self.kill()

    def kill(self):
        for pid in [*self.engines(), self.process.pid]:
            with contextlib.suppress(OSError):
                if self.process.poll() is None:
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.read_log()
        self.folder.cleanup()

    def read_log(self):
        """Once, at the end: what nobody may overlook becomes a problem of the test that runs."""
        if not self.is_read:
            self.is_read = True
            said = self.log()
            if self.deaths:
                said = "\n".join(line for line in said.splitlines() if not self.deaths.search(line))
            complain(said, ANY_DEATH if self.is_shared else DEATH)

    def engines(self):
        """The ids of the engine processes below this octarcd."""
        processes = {}
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError, ValueError):
                with open("/proc/%s/stat" % entry) as f:
                    name, rest = f.read().rsplit(")", 1)
                state, parent = rest.split()[:2]
                processes[int(entry)] = (int(parent), name.split("(", 1)[1], state)
        below, more = set(), {self.process.pid}
        while more:
            below |= more
            more = {p for p, (parent, _, _) in processes.items() if parent in below} - below
        return [p for p in below if p in processes and processes[p][1].startswith("octarc-engine")
                and processes[p][2] != "Z"]

    @contextlib.contextmanager
    def held(self):
        """The engines stand still meanwhile, so that what is under way cannot end."""
        pids = self.engines()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def kill_engine(self):
        """Those of a changeover may end by themselves first; one is killed at least.  How many were."""
        def killed():
            n = 0
            for pid in self.engines():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    n += 1
            return n
        return wait_until(killed, 20, "an engine to kill")

    def connect(self):
        return Lines(self.socket, self.timeout)

    def is_listening(self):
        """The socket's name is there a moment before anybody listens."""
        try:
            self.connect().close()
            return True
        except OSError:
            return False

    def rpc(self, method, params=None):
        lines = self.connect()
        try:
            return lines.call(method, params)
        finally:
            lines.close()

    def rpc_error(self, method, params=None):
        """The name of the error the call must end with."""
        try:
            answer = self.rpc(method, params)
        except RpcError as error:
            return error.name
        raise AssertionError("%s %.200r was answered: %.200r" % (method, params, answer))

    def raw_line(self, line):
        """Send bytes, return the first line that comes back."""
        lines = self.connect()
        try:
            lines.socket.sendall(line)
            return json.loads(lines.file.readline() or "{}")
        finally:
            lines.close()

    def http(self, verb, path, body=None, headers=None):
        """(status, parsed JSON or bytes)"""
        connection = UnixHttp(self.socket, self.timeout)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(verb, path, data,
                           {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        with contextlib.suppress(ValueError):
            return answer.status, json.loads(text)
        return answer.status, text

    def sse(self, path, body):
        """Yields the data lines of a stream; the last one must be [DONE]."""
        connection = UnixHttp(self.socket, self.timeout)
        connection.request("POST", path, json.dumps(dict(body, stream=True)).encode())
        answer = connection.getresponse()
        equal(answer.status, 200, "status")
        equal(answer.getheader("Content-Type").split(";")[0], "text/event-stream", "type")
        done = False
        for line in answer:
            if line.startswith(b"data: "):
                assert not done, "data after [DONE]"
                done = line.strip() == b"data: [DONE]"
                if not done:
                    yield json.loads(line[6:])
        assert done or path == "/completion", "the stream ended without [DONE]"
        connection.close()

    def client(self, *words, stdin=None, env=None):
        """Run octarc; (exit status, stdout, stderr)."""
        done = subprocess.run([os.path.join(BUILD, "octarc"), "--socket", self.socket, *words],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=self.timeout,
                              input=b"" if stdin is None else stdin,
                              env=dict(os.environ, **(env or {})))
        complain(done.stderr.decode())
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def complete(self, prompt, n=16, **fields):
        return self.rpc("complete", dict({"prompt": prompt, "max_tokens": n, "temperature": 0},
                                         **fields))


def complain(said, deaths=DEATH):
    """Take the lines that tell of a sanitizer's report or of an engine's unwanted death."""
    lines = said.splitlines()
    for i, line in enumerate(lines):
        if SANITIZER.search(line):
            problems.append("a sanitizer complained:\n" + "\n".join(lines[i:i + 40]))
            return
    problems.extend(line for line in lines if deaths.search(line))


def surroundings(env=None):
    """An octarcd's environment: whether this machine's memory is short is no matter of a test."""
    return dict(os.environ, **{"MEMORY_PRESSURE_WATCH": "/dev/null", **(env or {})})


def octarcd(*options, seconds=30, env=None, deaths=DEATH, **more):
    """Run octarcd where it must end by itself: (exit status, stderr)."""
    done = subprocess.run([os.path.join(BUILD, "octarcd"), *options], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=seconds * STRETCH, env=surroundings(env), **more)
    complain(done.stderr, deaths)
    return done.returncode, done.stderr


def in_parallel(functions):
    """Run them at once; their results in order."""
    results = [None] * len(functions)

    def run(i):
        try:
            results[i] = functions[i]()
        except Exception as error:
            results[i] = error
    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results
