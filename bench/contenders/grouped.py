# SPDX-License-Identifier: BSD-3-Clause
"""LongLoRA's groups by reshaping, with SDPA. Tensors are [batch, heads, length, dim]."""

from __future__ import annotations

import torch

from bench.contenders.base import Absent, Contender
from bench.contenders.sdpa import attend

GROUPED = "reshape + SDPA"


def grouped(case) -> Contender:
    def prepare():
        if case.length % case.group_size or case.group_size % 2:
            raise Absent(
                f"it wants groups that divide the length {case.length} and are even, not "
                f"{case.group_size}"
            )
        if case.key_heads != case.q_heads:
            raise Absent("it has one key head for each query head")
        return lambda q, k, v: shifted(q, k, v, case.group_size)

    return Contender(GROUPED, prepare)


def shifted(q, k, v, group_size):
    """The second half of the heads has its borders half a group on; nothing wraps around."""
    half = q.shape[1] // 2
    # Split, not sliced: the gradient of a slice is as long as what it was cut from.
    first, moved = zip(*(x.split([half, x.shape[1] - half], 1) for x in (q, k, v)))
    still = _in_groups(*first, group_size)
    border = group_size // 2
    length = q.shape[2]
    sizes = [size for size in (border, length - 2 * border, border) if size]
    pieces = zip(*(x.split(sizes, 2) for x in moved))
    outs = [_in_groups(*piece, min(group_size, size)) for piece, size in zip(pieces, sizes)]
    return torch.cat([still, torch.cat(outs, 2)], 1)


def _in_groups(q, k, v, size):
    """Causal attention within consecutive groups, which are moved into the batch."""
    batch = q.shape[0]

    def split(x):
        return x.unflatten(2, (-1, size)).transpose(1, 2).flatten(0, 1)

    out = attend(split(q), split(k), split(v), is_causal=True)
    return out.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2, 3)
