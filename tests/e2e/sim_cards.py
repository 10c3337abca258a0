# SPDX-License-Identifier: Apache-2.0
"""sim_cards.py - cards that execute kernels, by the real loader and tests/sim_level_zero."""
import os

from harness import BUILD, Skip

DRIVER = os.path.join(BUILD, "tests/sim_level_zero/libze_sim.so")
NODES = os.path.join(BUILD, "tests/sim_level_zero/nodes/nodes.so")
RUNTIME = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),
                       "octarc/opencl/current/vendors")


def environment(options):
    """Of whoever is to find a box of cards: SIM_ZE's words."""
    if not os.path.exists(DRIVER):
        raise Skip("the simulated driver is not built")
    if not os.path.isdir(RUNTIME):
        raise Skip("no OpenCL runtime for CPUs: tests/sim_level_zero/fetch-runtime gets it")
    return {"ZE_ENABLE_ALT_DRIVERS": DRIVER, "OCL_ICD_VENDORS": RUNTIME, "SIM_ZE": options}


def with_nodes(options):
    """The same, and the cards' nodes: calls on them go to the model of the kernel in the driver."""
    if os.environ.get("SAN"):
        raise Skip("a sanitizer's runtime has to come before what is preloaded")
    return dict(environment(options), LD_PRELOAD=NODES)


class Faults:
    """The file of what goes wrong, which the driver reads anew when it is replaced."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "faults")
        self.strike("")

    def strike(self, words):
        with open(self.path + ".new", "w") as f:
            f.write(words)
        os.rename(self.path + ".new", self.path)
