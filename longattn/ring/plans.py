# SPDX-License-Identifier: BSD-3-Clause
"""A plan: who owns which positions, and attention between them."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cached_property, partial
from typing import Optional

import torch

from longattn import checks, transforms
from longattn.masks import Mask
from longattn.ring import attention, collectives, decode, rotation
from longattn.ring.agreement import Agreement, Rows, call_with, going_backward
from longattn.ring.communicator import Communicator
from longattn.ring.mesh import Mesh
from longattn.ring.pieces import Geometry
from longattn.ring.portions import MeshGeometry


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """Made by `longattn.ring.plan`; immutable. With a VirtualRing or a VirtualMesh, every shard
    below is a list of world_size shards. Ranks of a mesh count along the heads first."""

    geometry: Geometry | MeshGeometry
    communicator: Communicator
    agreement: Agreement

    def __repr__(self) -> str:
        return f"<plan of {self._summary}>"

    @property
    def seq_len(self) -> int:
        return self.geometry.seq_len

    @property
    def layout(self) -> str:
        return self.geometry.layout

    @property
    def world_size(self) -> int:
        return self.geometry.world_size

    @cached_property
    def _summary(self) -> str:
        """What ranks must have in common of a plan, in few words: they go into every call's."""
        positions = f"{self.seq_len} positions over {self.world_size} ranks, {self.layout}"
        if isinstance(self.communicator, Mesh):
            positions += f", {self.communicator.heads} of them share heads"
        if not self.geometry.borders:
            return positions
        digest = hashlib.blake2b(repr(self.geometry.borders).encode(), digest_size=4).hexdigest()
        return f"{positions}, {len(self.geometry.borders) - 1} documents with borders #{digest}"

    @property
    def lengths(self) -> tuple:
        """The number of rows that each rank owns."""
        return tuple(self.geometry.length(rank) for rank in range(self.world_size))

    def shard(self, x: torch.Tensor, dim: int = 1):
        """This rank's rows of x, whose dimension `dim` is the whole sequence: a copy. All ranks
        hold the same x.

        Differentiable; the gradient of x is 0 at the rows of other ranks, and the sum over ranks is
        that of the whole (as for every tensor that all ranks hold)."""
        self._check_length("x", x, dim, self.seq_len)
        return self.communicator.join(
            [collectives.take(x, self.geometry, rank, dim) for rank in self.communicator.ranks]
        )

    def shard_labels(self, labels: torch.Tensor, dim: int = 1, *, fill=-100):
        """This rank's rows of labels moved forward by one: next to each token the one that follows
        it in its document, wherever that lives; `fill` after the last one (-100 is what torch's
        cross_entropy ignores). Loss weights move in the same way, with fill=0.

        Shards may hold different numbers of labels: divide the sum of the losses by the number (or
        the sum of weights) of all ranks, not each by its own."""
        self._check_length("labels", labels, dim, self.seq_len)
        if not labels.is_floating_point() and torch.tensor(fill).to(labels.dtype).item() != fill:
            raise ValueError(
                f"labels of {labels.dtype} cannot hold fill={fill}: convert them, as in "
                "labels.long()"
            )
        moved = torch.full_like(labels, fill)
        borders = self.geometry.borders or (0, self.seq_len)
        for begin, end in zip(borders, borders[1:]):
            if end > begin:
                following = labels.narrow(dim, begin + 1, end - begin - 1)
                moved.narrow(dim, begin, end - begin - 1).copy_(following)
        return self.shard(moved, dim)

    @torch.compiler.disable
    def unshard(self, x, dim: int = 1) -> torch.Tensor:
        """The whole sequence from the shards of all ranks, on every rank.

        Differentiable: the gradient of a shard sums up what all ranks' copies of the whole receive,
        so that a loss must reach the whole on every rank. One that every rank computes of the whole
        counts world_size times; divide it."""
        transforms.refuse_transforms("plan.unshard")
        shards = self.communicator.split(x)
        call = self._agree_to_unshard(shards, dim)
        return collectives.unshard(shards, self.geometry, self.communicator, dim, call)

    def positions(self, device: Optional[torch.device] = None):
        """int64 [rows]: the position of each row of this rank's shard. Global; in packed documents
        counted from the beginning of the document."""
        return self.communicator.join(
            [rotation.positions(self.geometry, rank, device) for rank in self.communicator.ranks]
        )

    def apply_rotary(self, q, k, rope, **keywords) -> tuple:
        """(q, k) of this rank's rows, rotated as `longattn.apply_rotary` rotates those of the whole
        sequence: at their positions, and where the rope depends on it (dynamic NTK and YaRN,
        LongRoPE, xPos) by the length of the whole, which a rank's own positions do not tell.

        Args:
            q, k: [batch, rows, heads, head_dim].
            rope, keywords: as in `longattn.apply_rotary`, but for positions and seq_len.

        Raises:
            As `longattn.apply_rotary`. NotImplementedError for packed documents and a rope that
            depends on the length.
        """
        split = (self.communicator.split(x) for x in (q, k))
        rotated = [
            rotation.rotate(self.geometry, rank, *one, rope, keywords)
            for rank, *one in zip(self.communicator.ranks, *split)
        ]
        return tuple(self.communicator.join(list(side)) for side in zip(*rotated))

    @torch.compiler.disable
    def attention(
        self,
        q,
        k,
        v,
        mask: Mask = None,
        *,
        bias=None,
        softmax_scale=None,
        softcap=None,
        sink_logits=None,
        return_lse=False,
        deterministic=None,
        backend=None,
        **unsupported,
    ):
        """Attention of every position of the sequence to the keys that `mask` shows, wherever they
        live: what `longattn.attention` gives for the whole sequence, in shards.

        All ranks call it with the same mask, keywords and head counts; the backward pass is a
        collective too, so a loss must reach out or lse on every rank. Only keys that somebody
        further on sees are sent; `communicator.traffic` counts.

        Args:
            q, k, v: this rank's rows, [batch, rows, heads, dim] as in `longattn.attention`, already
                rotated (`apply_rotary`).
            bias, sink_logits: every rank holds them. Their gradients here are the part of this
                rank's queries; as for every parameter that all ranks hold, the sum over ranks is
                the whole (what DistributedDataParallel does, but for its division).
            mask and all other keywords: as in `longattn.attention`, in global positions; with
                packed documents in positions of the document. q_start and k_start belong to the
                plan.

        Returns:
            out [batch, rows, q_heads, value_dim], or (out, lse) with lse [batch, q_heads, rows].
            Partials, and the gradients that travel, are float32 (float64 for float64); the result
            is rounded once and does not depend on timing.

        Raises:
            As `longattn.attention`. ValueError on every rank if their first calls differ, and
            RuntimeError if a rank does not answer: both name it.
        """
        if unsupported:
            checks.reject_unknown("plan.attention", unsupported)
        transforms.refuse_transforms("plan.attention")
        shared = dict(
            bias=bias,
            softmax_scale=softmax_scale,
            softcap=softcap,
            sink_logits=sink_logits,
            backend=backend,
        )
        verify = partial(
            *(attention.check_own_part, self.geometry, self.communicator),
            *(q, k, v, sink_logits, backend),
        )
        split = (self.communicator.split(x) for x in (q, k, v))
        description = self._agree("plan.attention", verify, *split, mask=mask, **shared)
        return attention.attention(
            self.geometry,
            self.communicator,
            *(q, k, v, mask),
            return_lse=return_lse,
            deterministic=deterministic,
            description=description,
            **shared,
        )

    @torch.compiler.disable
    def decode(
        self,
        q,
        k,
        v,
        mask: Mask = None,
        *,
        q_start,
        appended=None,
        bias=None,
        softmax_scale=None,
        softcap=None,
        sink_logits=None,
        return_lse=False,
        backend=None,
        **unsupported,
    ):
        """Attention of a few queries that every rank holds, such as those of the next token, to the
        keys of all ranks: the plan's, and those that were appended to a rank's cache since.

        No keys travel: each rank attends to its own, and two all-reductions merge the partials, of
        batch * q_len * q_heads * (value_dim + 2) numbers in the accumulator's dtype. (On the CPU
        two collectives of a few bytes go first, which compare calls and count appended rows.)
        Forward only.

        Args:
            q: [batch, q_len, q_heads, head_dim], the same on every rank (with a VirtualRing too it
                is one tensor, and so is the result).
            k, v: this rank's keys, [batch, rows, kv_heads, dim]: its rows of the plan, then those
                appended. There may be none.
            mask and all other keywords: as in `longattn.attention`, the same on every rank.
            q_start: position of the first query; the others follow it.
            appended: the positions of this rank's appended rows, a range or a list of ranges, from
                seq_len on; each position belongs to one rank. With a VirtualRing a list with one of
                these for each rank.

        Returns:
            out [batch, q_len, q_heads, value_dim], or (out, lse), the same on every rank.

        Raises:
            As `attention`. NotImplementedError for packed documents, and for tensors that require a
            gradient where gradients are enabled.
        """
        if unsupported:
            checks.reject_unknown("plan.decode", unsupported)
        nothing = [()] * len(self.communicator.ranks)
        appended = nothing if appended is None else self.communicator.split(appended)
        shared = dict(
            q_start=q_start,
            bias=bias,
            softmax_scale=softmax_scale,
            softcap=softcap,
            sink_logits=sink_logits,
            backend=backend,
        )
        k, v = self.communicator.split(k), self.communicator.split(v)
        tensors = ([q] * len(k), k, v)
        verify = partial(
            *(decode.check_own_part, self.geometry, self.communicator),
            *(*tensors, appended, sink_logits, backend),
        )
        description = self._agree(
            "plan.decode", verify, *tensors, mask=mask, q_len=_length(q), **shared
        )
        return decode.decode(
            self.geometry,
            self.communicator,
            *(q, k, v, mask),
            appended=appended,
            return_lse=return_lse,
            description=description,
            **shared,
        )

    def _agree_to_unshard(self, shards: list, dim: int) -> str:
        def verify():
            for rank, shard in zip(self.communicator.ranks, shards):
                self._check_length("x", shard, dim, self.geometry.length(rank))

        calls = [
            dict(x=Rows(shard, dim), plan=self._summary, **going_backward(shard))
            for shard in shards
        ]
        call = self.agreement.check("plan.unshard", calls, verify)
        verify()
        return call

    def _agree(self, function: str, verify, q, k, v, **shared) -> str:
        calls = [call_with(*one, plan=self._summary, **shared) for one in zip(q, k, v)]
        return self.agreement.check(function, calls, verify)

    def _check_length(self, name: str, x, dim: int, length: int) -> None:
        checks.check_is_tensor(name, x)
        if not -x.dim() <= dim < x.dim() or x.shape[dim] != length:
            raise ValueError(
                f"dimension {dim} of {name} must have length {length} ({self.layout} layout of "
                f"{self.seq_len} positions over {self.world_size} ranks), got shape "
                f"{tuple(x.shape)}; dim= tells where the sequence lies"
            )


def _length(q):
    return q.shape[1] if isinstance(q, torch.Tensor) and q.dim() > 1 else None
