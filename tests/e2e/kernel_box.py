# SPDX-License-Identifier: Apache-2.0
"""kernel_box.py - a box of cards as the kernel would show it: its /sys and /dev, by umockdev."""
import contextlib
import glob
import os
import shutil
import subprocess
import tempfile

from harness import Skip

PRELOAD = glob.glob("/usr/lib/*/libumockdev-preload.so.0")
BARS = "\\n".join(["0x00000000a0000000 0x00000000a0ffffff 0x0000000000140204", "%s", *[
    "0x%016x 0x%016x 0x%016x" % (0, 0, 0)] * 4]) + "\\n"
NONE = "0x%016x 0x%016x 0x%016x" % (0, 0, 0)
LARGE = NONE + "\\n0x0000380000000000 0x00003807ffffffff 0x000000000014220c"
SMALL = NONE + "\\n0x0000000090000000 0x000000009fffffff 0x000000000014220c"


def device(path, vendor, number, kind, **attributes):
    links = attributes.pop("links", {})
    lines = ["P: " + path, "E: SUBSYSTEM=pci", "E: PCI_SLOT_NAME=" + path.rsplit("/", 1)[1]]
    for name, value in dict(attributes, vendor=vendor, device=number, subsystem_vendor="0x8086",
                            subsystem_device="0x1114", **{"class": kind}).items():
        lines.append("A: %s=%s" % (name, value if value.endswith("\\n") else value + "\\n"))
    return "\n".join(lines + ["L: %s=%s" % l for l in links.items()]) + "\n\n"


def node(path, name, minor):
    return ("P: %s/drm/%s\nN: dri/%s\nE: SUBSYSTEM=drm\nE: DEVNAME=/dev/dri/%s\nE: MAJOR=226\n"
            "E: MINOR=%d\nE: DEVTYPE=drm_minor\nA: dev=226:%d\\n\nL: device=../..\n\n" % (
                path, name, name, name, minor, minor))


def pcie(speed, width):
    return {"current_link_speed": speed, "max_link_speed": speed, "current_link_width": width,
            "max_link_width": width}


def make_card(path, i, numa, change):
    """Card i, whose device ends that path; change() may alter what it is."""
    card = {"device": "0xe211", "driver": "xe", "bars": LARGE, "nodes": True}
    change(i, card)
    links = {"driver": "../" * path.count("/") + "bus/pci/drivers/" + card["driver"]} \
        if card["driver"] else {}
    text = device(path, "0x8086", card["device"], "0x030000", resource=BARS % card["bars"],
                  numa_node=str(numa), revision="0x00", links=links,
                  local_cpulist="%d-%d" % (16 * numa, 16 * numa + 15), **pcie("2.5 GT/s PCIe", "1"))
    if card["nodes"]:
        text += node(path, "card%d" % i, i) + node(path, "renderD%d" % (128 + i), 128 + i)
    return text


def slot(i):
    """Of card i of the simulated driver's (tests/sim_level_zero)."""
    return "0000:%02x:00.0" % (3 + i)


def path_of(i):
    return "/devices/pci0000:00/0000:00:%02x.0/%s" % (1 + i, slot(i))


def make_cards(n, change=lambda i, card: None):
    """As many cards where the simulated driver has them, each below a port of its own."""
    text = ""
    for i in range(n):
        port = path_of(i).rsplit("/", 1)[0]
        text += device(port, "0x8086", "0x352a", "0x060400") + make_card(path_of(i), i, 0, change)
    return text


def write(folder, box):
    if not shutil.which("umockdev-run") or not PRELOAD:
        raise Skip("umockdev is not installed")
    path = os.path.join(folder, "box")
    with open(path, "w") as f:
        f.write(box)
    return path


@contextlib.contextmanager
def shown(box):
    """The folder in which umockdev has the box; see seen_in()."""
    with tempfile.TemporaryDirectory(prefix="octarc-box-") as folder:
        keeper = subprocess.Popen(
            ["umockdev-run", "-d", write(folder, box), "--", "sh", "-c",
             'echo "$UMOCKDEV_DIR"; exec cat'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield keeper.stdout.readline().strip()
        finally:
            keeper.stdin.close()
            keeper.wait()
            keeper.stdout.close()


def seen_in(folder, env):
    """The environment of whoever is to see that box."""
    preload = [PRELOAD[0], *filter(None, [env.get("LD_PRELOAD")])]
    return dict(env, LD_PRELOAD=":".join(preload), UMOCKDEV_DIR=folder)
