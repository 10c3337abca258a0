# SPDX-License-Identifier: Apache-2.0
"""crowd.py - sixteen streams at once over a tiny model, which have to end as on a quiet day."""
import threading

from harness import SAN, Daemon, RpcError, equal, in_parallel, tiny, wait_until

PROMPT = "Once upon a time in a small village by the sea there lived"
LONG = 64 if SAN else 160  # tokens of each; a sanitizer makes them dear, and looks at few as at many
KINDS = ({"temperature": 0}, {"temperature": 0.9, "seed": 7, "top_k": 40},
         {"temperature": 0.8, "seed": 9, "n": 2}, {"temperature": 0.7, "seed": 3, "logprobs": 2})
STREAMS = 16
WAYS = ("running", "restart")
SILENT = r"is gone: card \d+ was silent"  # of the log: what a fenced card's engine ends with


def start(*options, **more):
    return Daemon("--cards", "4", "--card-memory", "64M", "--context", "512", *options, model=tiny(),
                  **more)


class Crowd:
    """Sixteen streams at once.  strike() is called once, when a quarter of what is to come has been
    read here: the daemon may be far ahead."""

    def __init__(self, daemon, strike=lambda: None):
        self.daemon, self.strike, self.count = daemon, strike, 0
        self.lock, self.quarter = threading.Lock(), threading.Event()

    def read(self, i):
        body = dict(KINDS[i % len(KINDS)], prompt="%s %d" % (PROMPT, i), max_tokens=LONG,
                    ignore_eos=True)
        choices = {}
        for chunk in self.daemon.sse("/v1/completions", body):
            assert "error" not in chunk, chunk
            for c in chunk["choices"]:
                own = choices.setdefault(c["index"], {"text": "", "probs": [], "reason": None})
                own["text"] += c["text"]
                own["reason"] = c["finish_reason"] or own["reason"]
                if c.get("logprobs"):
                    own["probs"] += c["logprobs"]["token_logprobs"]
            with self.lock:
                self.count += 1
                if self.count == STREAMS * LONG // 4:
                    self.quarter.set()
        return [choices[k] for k in sorted(choices)]

    def run(self):
        failures = []

        def wait_and_strike():
            try:
                assert self.quarter.wait(self.daemon.timeout), "the streams never came"
                self.strike()
            except Exception as error:
                failures.append(error)
        thread = threading.Thread(target=wait_and_strike)
        thread.start()
        got = in_parallel([lambda i=i: self.read(i) for i in range(STREAMS)])
        thread.join()
        if failures:
            raise failures[0]
        return got


def undisturbed(daemon):
    want = Crowd(daemon).run()
    equal(want[0][0]["reason"], "length")
    equal(len(want[3][0]["probs"]), LONG, "log-probabilities")
    return want


def states(daemon):
    return [c["state"] for c in daemon.rpc("cards")["cards"]]


def say(daemon, *words):
    status, out, err = daemon.client(*words)
    equal((status, err), (0, ""), "octarc " + " ".join(words))
    return out


def hang(daemon, card):
    """A card hangs, and there is a step in which it is silent, though the crowd may be through."""
    say(daemon, "drill", "hang", card)
    daemon.complete(PROMPT, 0, echo=True, cache_prompt=False)


def corrupt(daemon, card):
    """A card reports harm, and there is a step before which it is verified, though the crowd may be
    through."""
    with daemon.held():
        daemon.rpc("drill", {"fault": "corrupt", "card": card})
    daemon.complete(PROMPT, 0, echo=True, cache_prompt=False)


def refused(daemon, method, params):
    """The words of the refusal."""
    try:
        answer = daemon.rpc(method, params)
    except RpcError as error:
        equal(error.name, "bad_field", str(error))
        return str(error)
    raise AssertionError("%s %r was not refused: %r" % (method, params, answer))


def is_whole(daemon, want, strike, what, kills=False):
    """The crowd's answers while strike() happens are those of a quiet day.  kills: an engine ends,
    whatever the way of changing over to other cards."""
    before = daemon.rpc("status")
    equal(Crowd(daemon, strike).run(), want, what)
    changes = "generation" if daemon.rebalance == "restart" or kills else "rebalances"
    wait_until(lambda: daemon.rpc("status")["state"] == "ready" and
               daemon.rpc("status")[changes] > before[changes], 30, "a change, " + what)
    after = daemon.rpc("status")
    if changes == "rebalances":
        equal(after["generation"], before["generation"], "generation, " + what)
    equal(after["requests"]["failed"], 0, "failed requests")
    equal(after["tokens"]["completion"] - before["tokens"]["completion"],
          sum(LONG * KINDS[i % len(KINDS)].get("n", 1) for i in range(STREAMS)), "tokens, " + what)
    return after
