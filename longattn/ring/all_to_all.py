# SPDX-License-Identifier: BSD-3-Clause
"""Rows for heads: ranks that hold a portion of the rows each get all rows of a portion of the
heads (DeepSpeed-Ulysses, Jacobs et al. 2023, arXiv 2309.14509), and back.

Everything is [batch, rows, heads, dim] and sent in the dtype it has: nothing is added up."""

from __future__ import annotations

from typing import NamedTuple

import torch

from longattn import transforms
from longattn.ring import communicator
from longattn.ring.communicator import Communicator, Message
from longattn.ring.mesh import Mesh
from longattn.ring.portions import MeshGeometry
from longattn.spans import span


class Swap(NamedTuple):
    """One direction, for all ranks of this process."""

    mesh: Mesh
    geometry: MeshGeometry
    to_heads: bool  # or back to rows
    call: str  # the same words on all ranks

    @property
    def way(self) -> str:
        return "rows for heads" if self.to_heads else "heads for rows"

    def apply(self, tensors: list, differentiated: bool = False) -> list:
        """tensors: for each rank of this process, a tuple of as many as for every other one.
        Differentiable: the gradient goes the other way. differentiated: it will, even if no tensor
        of this rank wants one, since those of its peers come back through it."""
        count = len(tensors[0])
        anchor = tensors[0][0].new_zeros((), requires_grad=True) if differentiated else None
        return _by_rank(_AllToAll.apply(self, count, anchor, *_flat(tensors)), count)

    def run(self, tensors: list) -> list:
        def trade(ring_rank, group, mine):
            rows = self.geometry.portions(ring_rank)
            ranks = zip(group.ranks, mine, strict=True)
            return communicator.run(
                group,
                f"{self.way} in {self.call}",
                tensors[0][0].device,
                [_trade(group, *one, rows, self.to_heads) for one in ranks],
            )

        return self.mesh.along_heads(trade, tensors)


class _AllToAll(torch.autograd.Function):
    @staticmethod
    def forward(ctx, swap: Swap, count: int, anchor, *tensors):
        ctx.swap, ctx.count = swap, count
        return tuple(_flat(swap.run(_by_rank(tensors, count))))

    @staticmethod
    def backward(ctx, *gradients):
        call = f"the backward pass of {ctx.swap.call}"
        back = ctx.swap._replace(to_heads=not ctx.swap.to_heads, call=call)
        return None, None, None, *_flat(back.run(_by_rank(gradients, ctx.count)))

    jvp = transforms.refuse_forward_mode("plan.attention")


def _trade(group: Communicator, me: int, tensors: tuple, rows: list, to_heads: bool):
    """What one rank does; communicator.py says why it is a generator. One message for each tensor
    and other rank, all of them in one exchange."""
    everyone = range(group.world_size)
    arriving = [
        [part if peer == me else _awaited(part, rows[peer], to_heads) for peer in everyone]
        for part in (_parts(x, rows, to_heads)[me] for x in tensors)
    ]
    leaving = [_parts(x, rows, to_heads) for x in tensors]
    sends, receives = (_messages(side, me) for side in (leaving, arriving))
    wait = group.exchange(me, sends, receives)
    yield
    with span("ring, rows for heads" if to_heads else "ring, heads for rows"):
        wait()
    return tuple(torch.cat(parts, 1 if to_heads else 2) for parts in arriving)


def _parts(x: torch.Tensor, rows: list, to_heads: bool) -> tuple:
    """One for each rank of the group."""
    return x.chunk(len(rows), 2) if to_heads else x.split(rows, 1)


def _awaited(own: torch.Tensor, rows: int, to_heads: bool) -> torch.Tensor:
    """For a peer's part: towards heads it has as many rows as the peer owns, back as many as I."""
    shape = list(own.shape)
    if to_heads:
        shape[1] = rows
    return own.new_empty(shape)


def _messages(sides: list, me: int) -> list:
    return [
        Message(part.contiguous(), peer)
        for parts in sides
        for peer, part in enumerate(parts)
        if peer != me and part.numel()
    ]


def _flat(tensors: list) -> list:
    return [x for one in tensors for x in one]


def _by_rank(tensors, count: int) -> list:
    return [tuple(tensors[i : i + count]) for i in range(0, len(tensors), count)]
