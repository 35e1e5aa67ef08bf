# SPDX-License-Identifier: BSD-3-Clause
"""Rotary embeddings as Hugging Face's models write them, and a copy as their yardstick.

Tensors are [batch, heads, length, dim]. In float64 the same code is the truth."""

from __future__ import annotations

import torch

from bench.contenders.base import Absent, Contender

EAGER = "Hugging Face's rotation, eager"
COMPILED = "Hugging Face's rotation, compiled"
HALVES = "a rotation of halves, eager"
COPY = "a copy into memory that exists"


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

    def halves():
        if case.torch_dtype.itemsize < 4:
            raise Absent(
                "torch is slower at halves of 16-bit rows than at Hugging Face's whole ones"
            )
        return halves_turned(
            *tables(torch.arange(case.length), rope, case.torch_dtype, case.device)
        )

    return (
        Contender(EAGER, eager),
        Contender(HALVES, halves),
        Contender(COMPILED, compiled),
        Contender(COPY, copied, baseline=True),
    )


def halves_turned(cos, sin):
    """-> the function of q and k that one writes for speed: no half is negated or moved."""
    half = cos.shape[-1] // 2
    short_cos, short_sin = cos[:, :half].contiguous(), sin[:, :half].contiguous()

    def turn(x):
        first, second = x.chunk(2, -1)
        if torch.is_grad_enabled():
            return torch.cat(
                [
                    torch.addcmul(first * short_cos, second, short_sin, value=-1),
                    torch.addcmul(second * short_cos, first, short_sin),
                ],
                -1,
            )
        out = x * cos
        out[..., :half].addcmul_(second, short_sin, value=-1)
        out[..., half:].addcmul_(first, short_sin)
        return out

    return lambda q, k: (turn(q), turn(k))


def copied():
    """The floor of a rotation: one read and one write, and no page is asked for."""
    held = []

    def call(q, k):
        if q.requires_grad:
            raise NotImplementedError("a copy into memory that exists has no backward pass")
        if not held:
            held.extend(torch.empty_like(x) for x in (q, k))
        return tuple(target.copy_(source) for target, source in zip(held, (q, k)))

    return call


def rotated_sdpa(case, rope, attend, name) -> Contender:
    """Hugging Face's rotation, by tables that are there, then attend(q, k, v)."""

    def prepare():
        if rope.interleaved:
            raise Absent("Hugging Face's rotation pairs halves, not neighbours")
        cos, sin = tables(torch.arange(case.length), rope, case.torch_dtype, case.device)
        return lambda q, k, v: attend(turned(q, cos, sin), turned(k, cos, sin), v)

    return Contender(name, prepare)
