# SPDX-License-Identifier: BSD-3-Clause
"""xPos as torchscale writes it: rotate neighbours, grow queries, shrink keys around the middle of
the sequence, then SDPA. Tensors are [batch, heads, length, dim]."""

from __future__ import annotations

import torch

from bench.contenders.base import Absent, Contender
from bench.contenders.sdpa import SDPA, dense_causal

EAGER = f"torchscale's xPos + {SDPA}"


def rotate_every_two(x):
    return torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)


def tables(length: int, rope, dtype, device) -> tuple:
    """cos and sin [length, dim] with the growth of queries, then with that of keys."""
    positions = torch.arange(length, device=device, dtype=torch.float32)
    angles = positions[:, None] * rope.inv_freq.to(device, torch.float32)
    growth = rope.xpos_log_growth.to(device, torch.float32)
    centred = (positions - length // 2)[:, None] * growth
    return tuple(
        (table * (sign * centred).exp()).repeat_interleave(2, 1).to(dtype)
        for sign in (1, -1)
        for table in (angles.cos(), angles.sin())
    )


def eager(case, rope) -> Contender:
    def prepare():
        if case.block is not None:
            raise Absent("torchscale cuts the sequence into blocks by hand, which is not done here")
        q_cos, q_sin, k_cos, k_sin = tables(case.length, rope, case.torch_dtype, case.device)

        def call(q, k, v):
            q = q * q_cos + rotate_every_two(q) * q_sin
            k = k * k_cos + rotate_every_two(k) * k_sin
            return dense_causal(q, k, v)

        return call

    return Contender(EAGER, prepare)
