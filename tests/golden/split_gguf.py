# SPDX-License-Identifier: Apache-2.0
"""Cuts a GGUF file into parts, NAME-00001-of-000NN.gguf: the first has the keys, each has tensors."""
import os
import struct

import gguf_file
from gguf_file import pad

U16 = 2


def key(name, kind, raw):
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + raw


def split_keys(no, count, n_tensors):
    return [key("split.no", U16, struct.pack("<H", no)),
            key("split.count", U16, struct.pack("<H", count)),
            key("split.tensors.count", gguf_file.I32, struct.pack("<i", n_tensors))]


def write(path, raw_keys, n_keys, tensors):
    """tensors: [(name, dims, type's number, bytes)]."""
    infos, data = b"", b""
    for name, dims, number, raw in tensors:
        infos += struct.pack("<Q", len(name)) + name.encode()
        infos += struct.pack("<I%dQIQ" % len(dims), len(dims), *dims, number, len(data))
        data += raw + bytes(pad(len(raw)))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), n_keys) + raw_keys + infos
    with open(path, "wb") as f:
        f.write(head + bytes(pad(len(head))) + data)


def tensors_of(file):
    found = []
    for name, (dims, number, begin) in file.tensors.items():
        _, block, size = gguf_file.TYPES[gguf_file.TYPE_OF_NUMBER[number]]
        n = dims[0] // block * size
        for d in dims[1:]:
            n *= d
        found.append((name, dims, number, file.raw[begin:begin + n]))
    return found


def split(path, folder, count, empty_first=False):
    """The paths of the parts, the first one first.  Neighbours in the file may lie in other parts."""
    file = gguf_file.File(path)
    tensors = tensors_of(file)
    stem = os.path.join(folder, os.path.splitext(os.path.basename(path))[0])
    holders = range(1, count) if empty_first else range(count)
    groups = {part: tensors[i::len(holders)] for i, part in enumerate(holders)}
    paths = []
    for part in range(count):
        raw, n = (file.raw[24:file.end_of_keys], len(file.keys)) if part == 0 else (b"", 0)
        own = split_keys(part, count, len(tensors))
        paths.append("%s-%05d-of-%05d.gguf" % (stem, part + 1, count))
        write(paths[-1], raw + b"".join(own), n + len(own), groups.get(part, []))
    return paths
