# SPDX-License-Identifier: Apache-2.0
"""sim_cards.py - cards that execute kernels, by the real loader and tests/sim_level_zero."""
import functools
import os
import shutil
import tempfile

from harness import BUILD, Daemon, Skip, tiny, wait_until

DRIVER = os.path.join(BUILD, "tests/sim_level_zero/libze_sim.so")
NODES = os.path.join(BUILD, "tests/sim_level_zero/nodes/nodes.so")
RUNTIME = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),
                       "octarc/opencl/current/vendors")
POCL = "/etc/OpenCL/vendors/pocl.icd"


def runtime():
    """As tests/sim_level_zero/box.h chooses it: what the kernels run on, and what that needs to be told."""
    vendors = os.environ.get("OCL_ICD_VENDORS") or next(filter(os.path.exists, (RUNTIME, POCL)), None)
    if not vendors:
        raise Skip("no OpenCL runtime for CPUs: tests/sim_level_zero/fetch-runtime gets Intel's, "
                   "pocl-opencl-icd is a part of one")
    told = {"POCL_DEVICES": "basic"} if "pocl.icd" in vendors else {}
    return dict(told, OCL_ICD_VENDORS=vendors)


def environment(options):
    """Of whoever is to find a box of cards: SIM_ZE's words."""
    if not os.path.exists(DRIVER):
        raise Skip("the simulated driver is not built")
    return dict(runtime(), ZE_ENABLE_ALT_DRIVERS=DRIVER, SIM_ZE=options)


def with_nodes(options):
    """The same, and the cards' nodes: calls on them go to the model of the kernel in the driver."""
    if os.environ.get("SAN"):
        raise Skip("a sanitizer's runtime has to come before what is preloaded")
    return dict(environment(options), LD_PRELOAD=NODES)


def answers(daemon):
    return [daemon.complete(prompt, 12, logprobs=3)["choices"] for prompt in ("Hello there", "one two")]


@functools.cache
def of_cpu():
    """What cards have to answer, bit for bit."""
    with Daemon(model=tiny()) as daemon:
        return answers(daemon)


class Faults:
    """The file of what goes wrong, which the driver reads anew when it is replaced."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "faults")
        self.strike("")

    def strike(self, words):
        with open(self.path + ".new", "w") as f:
            f.write(words)
        os.rename(self.path + ".new", self.path)


DEATHS = r"is gone: (card \d+|was killed by signal|ended with status 1|ze\w+: )"


class Box:
    """A daemon on cards of its own, with a model of its own to harm, and a file of faults."""

    def __init__(self, words, *options, model="tiny-f32", config="", environment=environment):
        self.folder = tempfile.TemporaryDirectory()
        self.model = os.path.join(self.folder.name, "model.gguf")
        shutil.copy(tiny(model), self.model)
        self.faults = Faults(self.folder.name)
        name = os.path.basename(self.folder.name)
        self.daemon = Daemon("--backend", "level_zero", "--context", "256", *options, model=self.model,
                             env=environment("%s box=%s faults=%s" % (words, name, self.faults.path)),
                             deaths=DEATHS, config="[service]\ndrill = yes\n" + config)

    def __enter__(self):
        self.daemon.__enter__()
        return self

    def __exit__(self, *error):
        self.daemon.__exit__(*error)
        self.folder.cleanup()

    def events(self, kind, generation=None):
        return [e for e in self.daemon.rpc("events", {"since": 0})["events"]
                if e["kind"] == kind and generation in (None, e["generation"])]

    def spoil_the_file(self):
        """Whoever reads a weight of it now finds another, and says so."""
        size = os.path.getsize(self.model)
        with open(self.model, "r+b") as f:
            f.seek(size // 2)
            f.write(b"\x55" * (size - size // 2))

    def serves(self, generation):
        wait_until(lambda: self.daemon.rpc("status")["generation"] >= generation and
                   self.daemon.rpc("status")["state"] == "ready", 60, "generation %d" % generation)

    def kill(self, generation):
        self.daemon.kill_engine()
        self.serves(generation)

    def held(self):
        """What octarcd has open of cards' memory: the cards' numbers."""
        found = []
        folder = "/proc/%d/fd" % self.daemon.process.pid
        for fd in os.listdir(folder):
            try:
                name = os.readlink(os.path.join(folder, fd))
            except FileNotFoundError:
                continue
            if "octarc-sim-ze-card" in name:
                found.append(int(name.split("octarc-sim-ze-card")[1][0]))
        return sorted(found)


def all_held(box):
    """Of each card the weights, and its K and V where it has some."""
    cards = box.daemon.rpc("cards")["cards"]
    return sorted([c["card"] for c in cards] + [c["card"] for c in cards if c["actual"]["kv_bytes"]])
