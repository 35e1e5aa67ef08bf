# SPDX-License-Identifier: BSD-3-Clause
"""Rotary embeddings as Hugging Face's models write them, and a copy as their yardstick.

Tensors are [batch, heads, length, dim]. In float64 the same code is the truth."""

from __future__ import annotations

import torch

from bench.contenders.base import Absent, Contender

EAGER = "Hugging Face's rotation, eager"
COMPILED = "Hugging Face's rotation, compiled"
CLONE = "a copy (clone)"


def tables(positions, rope, dtype, device):
    """cos and sin [length, dim], in halves; angles in single precision as there, for float64 in
    double."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    inv_freq = rope.inv_freq.to(device, wide)
    angles = positions.to(device, wide)[:, None] * inv_freq
    angles = torch.cat([angles, angles], 1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate_half(x):
    first, second = x.chunk(2, -1)
    return torch.cat([-second, first], -1)


def turned(x, cos, sin):
    return x * cos + rotate_half(x) * sin


def turned_to(x, positions, rope):
    return turned(x, *tables(positions, rope, x.dtype, x.device))


def rotations(case, rope) -> tuple:
    """Of q and k. Hugging Face makes its tables once for all layers: here before the clock runs."""

    def eager():
        cos, sin = tables(torch.arange(case.length), rope, case.torch_dtype, case.device)
        return lambda q, k: (turned(q, cos, sin), turned(k, cos, sin))

    def compiled():
        torch.compiler.reset()
        return torch.compile(eager(), fullgraph=True, dynamic=False)

    def clone():
        return lambda q, k: (q.clone(), k.clone())

    return (
        Contender(EAGER, eager),
        Contender(COMPILED, compiled),
        Contender(CLONE, clone, baseline=True),
    )


def rotated_sdpa(rope, attend, name) -> Contender:
    """Hugging Face's rotation, then attend(q, k, v)."""

    def call(q, k, v):
        positions = torch.arange(q.shape[2])
        cos, sin = tables(positions, rope, q.dtype, q.device)
        return attend(turned(q, cos, sin), turned(k, cos, sin), v)

    def prepare():
        if rope.interleaved:
            raise Absent("Hugging Face's rotation pairs halves, not neighbours")
        return call

    return Contender(name, prepare)
