# SPDX-License-Identifier: BSD-3-Clause
"""The functions that rotate, on the CUDA kernels: rotations and bands of keys in the emulator."""

import functools

import pytest
import torch

import comparison
import inputs
import longattn
from cases import Case
from longattn import RotaryEmbedding, reference
from longattn.masks import Causal
from rotated import ROPES

XPOS = RotaryEmbedding.xpos(32, scale_base=2.0)  # 36 positions a chunk in float16, 128 in bfloat16
CALLS = {
    "rerope": ("rerope_attention", ROPES["plain"], dict(window=20)),
    "leaky": ("rerope_attention", ROPES["partial YaRN"], dict(window=20, leak=3.3)),
    "Self-Extend": ("rerope_attention", ROPES["plain"], dict(window=21, leak=4, floor=True)),
    "logn": ("rerope_attention", ROPES["plain"], dict(window=20, q_scale=longattn.LogN(30))),
    "lm_infinite": (
        "lm_infinite_attention", ROPES["YaRN"], dict(window=20, sink_tokens=3, distance_ceiling=20),
    ),
    "no ceiling": ("lm_infinite_attention", ROPES["plain"], dict(window=20, sink_tokens=3)),
    "xpos": ("xpos_attention", XPOS, {}),
    "xpos in blocks": ("xpos_attention", XPOS, dict(block=33)),
}  # fmt: skip
CASES = [
    Case("grouped heads", Causal(), 97, 173, q_heads=4, kv_heads=2, value_dim=24),
    Case("decode", Causal(), 1, 150, batch=2, q_heads=4, kv_heads=2),
    Case("rows that see nothing", Causal(), 90, 40, q_heads=4, kv_heads=2),
    Case("packed, other keys", Causal(), q_lengths=(5, 64, 1, 0), kv_lengths=(70, 20, 129, 4)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_against_the_reference(simt, name, case):
    """Outputs, lse and gradients of raw q, k and v; each in one of the two types."""
    function, rope, own = CALLS[name]
    dtype = (torch.bfloat16, torch.float16)[(list(CALLS).index(name) + CASES.index(case)) % 2]
    slack = torch.finfo(dtype).eps * (2 if "xpos" in name else 0)  # each chunk's query is rounded

    def call(module, **more):
        attend = functools.partial(getattr(module, function), **own, **more)
        return lambda q, k, v, **arguments: attend(q, k, v, rope, **arguments)

    comparison.compare(
        call(longattn, backend="simt"),
        call(reference),
        inputs.qkv(case, dtype, grain=8),
        inputs.call_arguments(case),
        f"{name} {case}",
        slack,
        rounding=torch.finfo(dtype).eps,
    )
