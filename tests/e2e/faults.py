# SPDX-License-Identifier: Apache-2.0
"""faults.py - what may happen to a card or an engine, at which moment, and the crowd it happens to.

A cell is (fault, moment, card).  It is run under sixteen streams, which have to end as on a quiet day;
afterwards all cards are taken back, so that one service runs all cells."""
import itertools
import re
import threading
import time

from harness import RpcError, equal, in_parallel, wait_until

STREAMS = 16
PROMPT = "Once upon a time in a small village by the sea there lived an old man who told stories. "
KINDS = ({"temperature": 0}, {"temperature": 0.9, "seed": 7, "top_k": 40},
         {"temperature": 0.8, "seed": 9, "n": 2}, {"temperature": 0.7, "seed": 3, "logprobs": 2})
# Every kind of fault is a line here; each one is tried at every moment.
FAULTS = {
    "lose": lambda daemon, card: daemon.rpc("drill", {"fault": "lose", "card": card}),
    "hang": lambda daemon, card: drill_serving(daemon, "hang", card),
    "corrupt": lambda daemon, card: drill_serving(daemon, "corrupt", card),
    "kill-engine": lambda daemon, card: daemon.rpc("drill", {"fault": "kill-engine"}),
    "drain": lambda daemon, card: daemon.rpc("drain", {"card": card}),
}
MOMENTS = ("load", "prefill", "first token", "mid decode", "rebalance")


def cells(n_cards, faults=tuple(FAULTS)):
    """An engine's end is no card's, so it has one cell for each moment."""
    return [(fault, moment, card) for fault, moment in itertools.product(faults, MOMENTS)
            for card in (range(n_cards) if fault != "kill-engine" else (0,))]


def drill_serving(daemon, fault, card):
    """What befalls a card in what an engine has it do, so there has to be one.  daemon.drilled is when the
    one that took it was told: what it has to say is late only from then on."""
    end = time.monotonic() + 30
    while True:
        daemon.drilled = time.monotonic()
        try:
            return daemon.rpc("drill", {"fault": fault, "card": card})
        except RpcError as error:
            if "holds no weights" in str(error):
                return None  # there are no bits that could flip
            if not re.search("no engine is serving|no engine serves|was lost", str(error)) or time.monotonic() > end:
                raise
        time.sleep(0.002)


class Stream:
    """What came of one request, and when."""

    def __init__(self):
        self.choices, self.times, self.error = {}, [], None

    def take(self, chunk):
        self.times.append(time.monotonic())
        if "error" in chunk:
            self.error = chunk["error"]
            return
        for c in chunk["choices"]:
            own = self.choices.setdefault(c["index"], {"text": "", "probs": [], "reason": None})
            own["text"] += c["text"]
            own["reason"] = c["finish_reason"] or own["reason"]
            if c.get("logprobs"):
                own["probs"] += c["logprobs"]["token_logprobs"]

    def transcript(self):
        return [self.choices[k] for k in sorted(self.choices)]

    def gap(self, since=0.0):
        """The longest one between two pieces, of those that had not ended by then."""
        return max((b - a for a, b in zip(self.times, self.times[1:]) if b > since), default=0.0)


class Crowd:
    """Sixteen streams of so many tokens; strike() happens once, at its moment."""

    def __init__(self, daemon, tokens, words=1):
        self.daemon, self.tokens, self.words = daemon, tokens, words
        self.lock, self.reached = threading.Lock(), {}

    def body(self, i):
        return dict(KINDS[i % len(KINDS)], prompt=PROMPT * self.words + "%d" % i,
                    max_tokens=self.tokens, ignore_eos=True)

    def read(self, i, stream):
        with self.lock:
            self.sent += 1
            if self.sent == STREAMS // 2:
                self.reached["prefill"].set()
        for chunk in self.daemon.sse("/v1/completions", self.body(i)):
            stream.take(chunk)
            with self.lock:
                self.count += 1
                if self.count == 1:
                    self.reached["first token"].set()
                if self.count == STREAMS * self.tokens // 2:
                    self.reached["mid decode"].set()

    def wait_moment(self, moment):
        event = self.reached[{"load": "prefill", "rebalance": "mid decode"}.get(moment, moment)]
        assert event.wait(self.daemon.timeout), "%s never came" % moment

    def run(self, moment=None, strike=lambda: None):
        """The streams, oldest first; self.struck is when strike() began."""
        self.sent, self.count, self.struck, self.early = 0, 0, None, None
        self.reached = {m: threading.Event() for m in ("prefill", "first token", "mid decode")}
        streams = [Stream() for _ in range(STREAMS)]

        def strike_in_time():
            self.wait_moment(moment)
            self.struck, self.early = time.monotonic(), self.count == 0
            strike()
        tasks = [lambda i=i: self.read(i, streams[i]) for i in range(STREAMS)]
        in_parallel(([strike_in_time] if moment else []) + tasks)
        return streams


def strike(daemon, cell, table):
    """What the cell says, by a table as FAULTS.  A load and a rebalance are made, for the fault to come into."""
    fault, moment, card = cell
    if moment == "load":
        daemon.rpc("drill", {"fault": "kill-engine"})
    if moment == "rebalance":
        daemon.rpc("drain", {"card": (card + 1) % daemon.rpc("status")["cards"]})
    try:
        table[fault](daemon, card)
    except RpcError as error:  # between two engines there is none to kill
        if fault != "kill-engine" or "no engine" not in str(error):
            raise


def take_back(daemon):
    """All cards, for the next cell."""
    for card in daemon.rpc("cards")["cards"]:
        if card["state"] != "online":
            daemon.rpc("online", {"card": card["card"], "wait": True})
    wait_until(lambda: daemon.rpc("status")["state"] == "ready", 30, "ready")


def left_by(fault, works):
    """The states that the card may be in afterwards.  One without work never gets to be silent."""
    return {"lose": {"lost"}, "drain": {"drained"}, "kill-engine": {"online", "drained"},
            "corrupt": {"online"},
            "hang": {"fenced"} if works else {"fenced", "online"}}[fault]


def run_cell(crowd, cell, want, table=FAULTS, left=left_by):
    """The streams of the cell, which lost nothing and changed nothing.  A card that hung when all was over
    is found out by those who come next.  table, left: as FAULTS and left_by(), of other faults."""
    daemon = crowd.daemon
    fault, moment, card = cell
    plan = daemon.rpc("cards")["cards"][card]["planned"]
    before = daemon.rpc("status")
    streams = crowd.run(moment, lambda: strike(daemon, cell, table))
    wait_until(lambda: daemon.rpc("status")["state"] == "ready", 30, "ready")
    states = left(fault, sum(plan.values()) > 0)
    if fault not in ("lose", "drain") and daemon.rpc("cards")["cards"][card]["state"] not in states:
        equal([s.transcript() for s in crowd.run()], want, "transcripts after %s" % (cell,))
    wait_until(lambda: daemon.rpc("cards")["cards"][card]["state"] in states, 10,
               "%s of %s" % (" or ".join(sorted(states)), cell))
    equal([s.error for s in streams], [None] * STREAMS, "errors, %s" % (cell,))
    equal([s.transcript() for s in streams], want, "transcripts, %s" % (cell,))
    after = daemon.rpc("status")
    equal(after["requests"]["failed"], before["requests"]["failed"], "failed, %s" % (cell,))
    return streams
