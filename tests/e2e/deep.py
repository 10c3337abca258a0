# SPDX-License-Identifier: Apache-2.0
"""deep.py - a model of many small layers, which are what moves from card to card; made once a process."""
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))

from make_tiny import write_model  # noqa: E402

LAYERS = 16
KINDS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
_folder = tempfile.TemporaryDirectory(prefix="octarc-deep-")


def deep():
    """Its path.  One KV head: every card of a tensor split has K and V of all layers."""
    path = os.path.join(_folder.name, "tiny-many.gguf")
    if not os.path.exists(path):
        types = {"blk.%d.%s" % (i, kind): "Q8_0" for i in range(LAYERS) for kind in KINDS}
        types.update({"token_embd": "Q8_0", "output": "Q8_0"})
        write_model({"file": "tiny-many.gguf", "seed": 29, "layers": LAYERS, "embd": 256, "heads": 8, "kv": 1,
                     "head_dim": 32, "ff": 512, "base": 10000.0, "tied": False, "types": types}, path)
    return path
