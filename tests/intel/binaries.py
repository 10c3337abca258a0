# SPDX-License-Identifier: Apache-2.0
"""What Intel's offline compiler made of the kernels, read from what `ocloc disasm` writes: a folder a
module with .ze_info, .symtab and an assembly text a kernel."""
import collections
import os
import re

LOAD = re.compile(r"// .*\bload(_block2d)?\.(ugm|slm)\.([\w.]+)")
DPAS = re.compile(r"\bdpas\.8x(\d)\b")  # eight deep: 32 bytes
JUMP = re.compile(r"\b(?:jmpi|goto|while|call)\b.*?\b(L\d+)")
# Names that the driver fills in when it loads a module.
PATCHED = "__INTEL_PATCH_"


class Kernel:
    """One kernel: its name, and numbers of what it needs and does."""

    def __init__(self, name):
        self.name = name
        self.simd = self.registers = self.spill = self.private = self.shared = 0
        self.instructions = self.dpas = self.dp4a = 0
        self.loads = collections.Counter()  # block, half, gathered, uniform
        self.dpas_rows = []  # of input, that its matrix instructions have
        self.atom = self.eight = 0  # instructions of the loop over weights for one row and for eight
        self.passes = []  # of each loop over weights that one row takes: bytes in blocks, gathers

    def as_dict(self):
        return {key: value for key, value in vars(self).items() if key not in ("name", "passes")}


def read_info(text):
    """.ze_info is YAML; what is wanted of it stands on lines of their own."""
    fields = {"simd_size": "simd", "grf_count": "registers", "spill_size": "spill",
              "private_size": "private", "slm_size": "shared"}
    kernels, current, listed = {}, None, False
    for line in text.splitlines():
        if re.match(r"\w", line):
            listed = line.startswith("kernels:")
        name = re.match(r"  - name: +'?([\w.]+)", line)
        if name and listed:
            current = kernels[name.group(1)] = Kernel(name.group(1))
        field = re.match(r"      (\w+): +(\d+)$", line)
        if field and listed and current and field.group(1) in fields:
            setattr(current, fields[field.group(1)], int(field.group(2)))
    # A symbol table's own entry is no kernel of ours.
    return {name: k for name, k in kernels.items() if not name.startswith("Intel_Symbol_Table")}


def kind_of(load, block):
    """What has a t has one address for the sub-group, and loads what is beside it: a register, half of one,
    or some value that is the same for every lane.  What has none has an address a lane."""
    if block:
        return "block"
    vector = re.match(r"d(\d+)x(\d+)t", load)
    if not vector:
        return "gathered"
    bits = int(vector.group(1)) * int(vector.group(2))
    return "block" if bits >= 512 else "half" if bits == 256 else "uniform"


def a_pass(lines, first, last):
    """What a loop loads in blocks of 16 bytes and more, and how many times an address a lane."""
    size = gathers = 0
    for line in lines[first:last + 1]:
        load = LOAD.search(line)
        vector = load and re.match(r"d(\d+)x(\d+)t", load.group(3))
        if vector:
            n = int(vector.group(1)) * int(vector.group(2)) // 8
            size += n if n >= 16 else 0
        elif load and load.group(2) == "ugm":
            gathers += 1
    return [size, gathers]


def innermost_of(found):
    return [(a, b) for a, b in found if not any(a <= c and d < b for c, d in found)]


def loops(lines):
    """(first, last) of each stretch that a jump backwards closes."""
    at = {line[:-1]: i for i, line in enumerate(lines) if re.match(r"L\d+:$", line)}
    found = []
    for i, line in enumerate(lines):
        jump = JUMP.search(line)
        if jump and at.get(jump.group(1), i) < i:
            found.append((at[jump.group(1)], i))
    return found


def is_instruction(line):
    return bool(re.match(r"(\(\S+\) +|\s+)[a-z]", line))


def count(lines, first, last):
    return sum(is_instruction(line) for line in lines[first:last + 1])


def read_assembly(kernel, text):
    lines = text.splitlines()
    kernel.instructions = count(lines, 0, len(lines) - 1)
    for line in lines:
        load = LOAD.search(line)
        if load and load.group(2) == "ugm":
            kernel.loads[kind_of(load.group(3), load.group(1))] += 1
        matrix = DPAS.search(line)
        if matrix:
            kernel.dpas += 1
            kernel.dpas_rows = sorted({*kernel.dpas_rows, int(matrix.group(1))})
        kernel.dp4a += " dp4a" in line
    if kernel.dpas:
        kernel.atom, kernel.eight = (innermost(lines, "dpas.8x%d " % rows) for rows in (1, 8))
        alone = innermost_of([(a, b) for a, b in loops(lines) if any("dpas.8x1 " in l for l in lines[a:b])])
        kernel.passes = [a_pass(lines, a, b) for a, b in alone]
    else:
        find_atom(kernel, lines)


def innermost(lines, word):
    """Instructions of the shortest loop that has the word; 0: none has."""
    return min((count(lines, a, b) for a, b in loops(lines) if any(word in l for l in lines[a:b])), default=0)


def find_atom(kernel, lines):
    """The innermost loop that loads weights and multiplies, with the one over rows of the input in it."""
    work = [(a, b) for a, b in loops(lines) if any(re.search(r"\b(dp4a|dpas|mad)\b", l) for l in lines[a:b])]
    atoms = [(a, b) for a, b in work if any(re.search(r"load\.ugm\.d32x(8|16|64)t", l) for l in lines[a:b])
             and any((a < c and d < b) for c, d in work)]
    if atoms:
        kernel.passes = [a_pass(lines, a, b) for a, b in innermost_of(atoms)]
        a, b = min(atoms, key=lambda loop: loop[1] - loop[0])
        kernel.atom = count(lines, a, b)
        row = max(count(lines, *loop) for loop in work if a < loop[0] and loop[1] < b)
        kernel.eight = kernel.atom + 7 * row


def undefined(text):
    """Names in .symtab that nothing defines."""
    names = []
    for line in text.splitlines()[1:]:
        fields = [field.strip() for field in line.split(",")]
        if len(fields) > 2 and fields[2] == "UNDEF" and fields[1] not in ("", "UNDEF"):
            names.append(fields[1])
    return [name for name in names if not name.startswith(PATCHED)]


def read_module(folder):
    """The kernels of a module, and what it leaves undefined."""
    with open(os.path.join(folder, ".ze_info")) as f:
        kernels = read_info(f.read())
    for name, kernel in kernels.items():
        with open(os.path.join(folder, ".text.%s.asm" % name)) as f:
            read_assembly(kernel, f.read())
    with open(os.path.join(folder, ".symtab")) as f:
        return kernels, undefined(f.read())
