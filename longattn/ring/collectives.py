# SPDX-License-Identifier: BSD-3-Clause
"""From the whole sequence to shards and back."""

from __future__ import annotations

import torch

from longattn import transforms
from longattn.ring.communicator import Communicator
from longattn.ring.pieces import Geometry


def take(x: torch.Tensor, geometry: Geometry, rank: int, dim: int) -> torch.Tensor:
    """The rank's rows of a whole sequence; a copy."""
    return torch.cat(_views(x, geometry, rank, dim), dim)


def unshard(
    shards: list, geometry: Geometry, ranks: Communicator, dim: int, call: str
) -> torch.Tensor:
    """call: the same words on all ranks."""
    return _Unshard.apply(geometry, ranks, dim % shards[0].dim(), call, *shards)


class _Unshard(torch.autograd.Function):
    @staticmethod
    def forward(ctx, geometry, ranks, dim, call, *shards):
        ctx.geometry, ctx.ranks, ctx.dim, ctx.call = geometry, ranks, dim, call
        longest = max(geometry.length(rank) for rank in range(ranks.world_size))
        padded = [_padded(shard, longest, dim) for shard in shards]
        whole = shards[0].new_empty(
            [geometry.seq_len if d == dim else n for d, n in enumerate(shards[0].shape)]
        )
        with ranks.in_call(call, whole.device):
            everyones = ranks.all_gather(padded)
        for rank, shard in enumerate(everyones):
            rows = shard.narrow(dim, 0, geometry.length(rank))
            views = _views(whole, geometry, rank, dim)
            for view, part in zip(views, rows.split([v.shape[dim] for v in views], dim)):
                view.copy_(part)
        return whole

    @staticmethod
    def backward(ctx, gradient):
        if torch.is_grad_enabled():
            raise NotImplementedError(
                "plan.unshard has no second derivatives: leave create_graph at False"
            )
        if len(ctx.ranks.ranks) < ctx.ranks.world_size:  # every rank has a copy of the whole
            with ctx.ranks.in_call(f"the backward pass of {ctx.call}", gradient.device):
                [gradient] = ctx.ranks.all_reduce([gradient])
        shards = [take(gradient, ctx.geometry, rank, ctx.dim) for rank in ctx.ranks.ranks]
        return None, None, None, None, *shards

    jvp = transforms.refuse_forward_mode("plan.unshard")


def _views(x, geometry: Geometry, rank: int, dim: int) -> list:
    before = (slice(None),) * (dim % x.dim())
    return [
        x[(*before, slice(start, start + step * length, step))]
        for start, step, length in geometry.runs(rank)
    ]


def _padded(shard, length: int, dim: int):
    if shard.shape[dim] == length:
        return shard.contiguous()
    shape = [length if d == dim else n for d, n in enumerate(shard.shape)]
    padded = shard.new_zeros(shape)
    padded.narrow(dim, 0, shard.shape[dim]).copy_(shard)
    return padded
