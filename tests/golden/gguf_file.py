# SPDX-License-Identifier: Apache-2.0
"""GGUF files of version 3, as far as make_tiny.py writes them: types, keys, tensors as floats."""
import math
import struct

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20),
         "Q8_0": (8, 32, 34), "Q6_K": (14, 256, 210), "BF16": (30, 1, 2), "MXFP4": (39, 32, 17)}
# These are written only.
TYPES.update({"Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24), "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110),
              "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176), "IQ4_NL": (20, 32, 18),
              "IQ4_XS": (23, 256, 136)})
TYPE_OF_NUMBER = {number: name for name, (number, _, _) in TYPES.items()}


def pad(n):
    return -n % 32


class File:
    """Keys and tensors of a GGUF file of version 3."""

    SCALARS = "BbHhIif?__Qqd"

    def __init__(self, path):
        with open(path, "rb") as f:
            self.raw = f.read()
        self.at = 4
        _, n_tensors, n_keys = self.take("<IQQ")
        self.keys = {}
        for _ in range(n_keys):
            name = self.string()
            self.keys[name] = self.value(self.take("<I")[0])
        self.end_of_keys = self.at
        infos = [self.tensor_info() for _ in range(n_tensors)]
        start = self.at + pad(self.at)
        self.tensors = {name: (dims, kind, start + offset) for name, dims, kind, offset in infos}

    def take(self, form):
        values = struct.unpack_from(form, self.raw, self.at)
        self.at += struct.calcsize(form)
        return values

    def string(self):
        n = self.take("<Q")[0]
        self.at += n
        return self.raw[self.at - n:self.at].decode()

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            element, n = self.take("<IQ")
            return [self.value(element) for _ in range(n)]
        return self.take("<" + self.SCALARS[kind])[0]

    def tensor_info(self):
        name = self.string()
        n_dims = self.take("<I")[0]
        dims = self.take("<%dQ" % n_dims)
        return (name, dims) + self.take("<IQ")

    def rows(self, name):
        """The tensor as a list of rows of floats; one row for a vector, those of one matrix after
        another where it has three dimensions."""
        dims, number, begin = self.tensors[name]
        kind = TYPE_OF_NUMBER[number]
        _, block, size = TYPES[kind]
        per_row = dims[0] // block * size
        count = math.prod(dims[1:])
        return [expand(kind, self.raw[begin + r * per_row:begin + (r + 1) * per_row])
                for r in range(count)]


def expand(kind, raw):
    if kind == "F32":
        return list(struct.unpack("<%df" % (len(raw) // 4), raw))
    if kind == "F16":
        return list(struct.unpack("<%de" % (len(raw) // 2), raw))
    if kind == "BF16":
        return [struct.unpack("<f", b"\0\0" + raw[i:i + 2])[0] for i in range(0, len(raw), 2)]
    size, values = TYPES[kind][2], []
    for at in range(0, len(raw), size):
        values += BLOCKS[kind](raw[at:at + size])
    return values


def expand_q4_0(b):
    d = struct.unpack("<e", b[:2])[0]
    return [d * ((q & 15) - 8) for q in b[2:]] + [d * ((q >> 4) - 8) for q in b[2:]]


def expand_q4_1(b):
    d, m = struct.unpack("<2e", b[:4])
    return [d * (q & 15) + m for q in b[4:]] + [d * (q >> 4) + m for q in b[4:]]


def expand_q8_0(b):
    d = struct.unpack("<e", b[:2])[0]
    return [d * q for q in struct.unpack("<32b", b[2:])]


def expand_q6_k(b):
    scales, d = struct.unpack("<16b", b[192:208]), struct.unpack("<e", b[208:])[0]
    values = []
    for i in range(256):
        half_of, within = divmod(i, 128)
        quarter, j = divmod(within, 32)
        low = b[half_of * 64 + (quarter % 2) * 32 + j] >> (4 * (quarter // 2)) & 15
        high = b[128 + half_of * 32 + j] >> (2 * quarter) & 3
        values.append(d * scales[i // 16] * ((high << 4 | low) - 32))
    return values


def expand_mxfp4(b):
    # Four bits: a sign, two of an exponent, one of a mantissa; with a power of two for all.
    levels = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    levels += [-level for level in levels]
    scale = 2.0 ** (b[0] - 127)
    return [scale * levels[q & 15] for q in b[1:]] + [scale * levels[q >> 4] for q in b[1:]]


BLOCKS = {"MXFP4": expand_mxfp4, "Q4_0": expand_q4_0, "Q4_1": expand_q4_1, "Q8_0": expand_q8_0, "Q6_K": expand_q6_k}
