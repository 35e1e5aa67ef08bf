# SPDX-License-Identifier: BSD-3-Clause
"""Rotations on a GPU: the cases of every tier, and the patterns that rotate q and k themselves."""

import functools

import pytest
import torch

import gpu_support
import inputs
import longattn
import rotary_cases
import rotated
from gpu_support import FromGpu, ToGpu, moved, on_gpu
from rotary_cases import CASES, FARTHEST

pytestmark = gpu_support.marks

DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def runs(case) -> bool:
    """Rows of 16 bytes, and nothing that would have to be read from positions on the GPU."""
    reads = case.positions != "none" and case.seq_len is None
    return case.head_dim % 8 == 0 and not (reads and (case.xpos or case.rope.depends_on_length))


@pytest.fixture
def ours_on_gpu(monkeypatch):
    """rotary_cases.compare, with the reference where it was."""
    call, positions_of = rotary_cases.call, rotary_cases.positions_of

    def positions_on_gpu(case):
        positions = positions_of(case)
        if isinstance(positions, tuple):
            return tuple(map(moved, positions))
        return moved(positions)

    def call_on_gpu(case, tensors, dtype, reference_twin, **keywords):
        if reference_twin:
            return call(case, tensors, dtype, True, **keywords)
        there = {name: ToGpu.apply(tensor) for name, tensor in tensors.items()}
        with monkeypatch.context() as patch:
            patch.setattr(rotary_cases, "positions_of", positions_on_gpu)
            results = call(case, there, dtype, False, **keywords)
        return tuple(map(FromGpu.apply, results))

    monkeypatch.setattr(rotary_cases, "call", call_on_gpu)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", [case for case in (*CASES, FARTHEST) if runs(case)], ids=str)
def test_case(ours_on_gpu, case, dtype):
    rotary_cases.compare(case, dtype, grain=8)


def test_positions_that_would_have_to_be_read_are_refused():
    q = gpu_support.random(1, 20, 2, 16)
    positions = torch.arange(20, device=gpu_support.DEVICE)
    with pytest.raises(ValueError, match="seq_len"):
        longattn.apply_rotary(q, q, longattn.RotaryEmbedding.xpos(16), positions)


PATTERNS = {
    "ReRoPE": ("rerope_attention", dict(window=20)),
    "Leaky": ("rerope_attention", dict(window=20, leak=3.3)),
    "Self-Extend": ("rerope_attention", dict(window=21, leak=4, floor=True)),
    "LM-Infinite": ("lm_infinite_attention", dict(window=20, sink_tokens=3, distance_ceiling=20)),
    "LM-Infinite, true distances": ("lm_infinite_attention", dict(window=20, sink_tokens=3)),
}


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("case", rotated.CASES, ids=str)
def test_pattern(case, pattern, dtype, monkeypatch):
    name, own = PATTERNS[pattern]
    monkeypatch.setattr(longattn, name, on_gpu(getattr(longattn, name)))
    monkeypatch.setattr(inputs, "qkv", functools.partial(inputs.qkv, grain=8))
    rotated.compare(name, case, dtype, **own)
