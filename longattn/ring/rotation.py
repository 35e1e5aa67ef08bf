# SPDX-License-Identifier: BSD-3-Clause
"""`plan.apply_rotary`: rows of a shard rotate as in the whole sequence."""

from __future__ import annotations

import torch

from longattn import checks
from longattn.ring.pieces import Geometry, pieces_of
from longattn.rope import RotaryEmbedding
from longattn.rotary import apply_rotary


def positions(geometry: Geometry, rank: int, device) -> torch.Tensor:
    """int64 [rows], counted from the beginning of the document."""
    pieces = [
        torch.arange(p.length, device=device) * p.step + p.start for p in pieces_of(geometry, rank)
    ]
    return torch.cat([torch.zeros(0, dtype=torch.int64, device=device), *pieces])


def rotate(geometry: Geometry, rank: int, q, k, rope, keywords: dict) -> tuple:
    """-> (q, k) of a rank."""
    for name in ("positions", "seq_len"):
        if name in keywords:
            raise TypeError(f"plan.apply_rotary() takes no {name}: the plan has its own")
    for name, x in (("q", q), ("k", k)):
        checks.check_is_tensor(name, x)
        if x.dim() != 4 or x.shape[1] != geometry.length(rank):
            raise ValueError(
                f"{name} must have the {geometry.length(rank)} rows of rank {rank}, "
                f"[batch, rows, heads, dim], got shape {tuple(x.shape)}"
            )
    if geometry.borders and isinstance(rope, RotaryEmbedding) and rope.depends_on_length:
        raise NotImplementedError(
            "plan.apply_rotary cannot rotate packed documents by a rope that depends on the "
            "length, which each of them has for itself"
        )
    borders = geometry.borders or (0, geometry.seq_len)
    longest = max(end - begin for begin, end in zip(borders, borders[1:]))
    own = positions(geometry, rank, q.device)
    return apply_rotary(q, k, rope, own, seq_len=max(longest, 1), **keywords)
