# SPDX-License-Identifier: BSD-3-Clause
"""Ranks in two dimensions: rings, and across them groups that deal out heads among themselves."""

from __future__ import annotations

import contextlib

import torch

from longattn.ring.communicator import Communicator, Traffic


class Mesh(Communicator):
    """Rank ring_rank * heads + place stands at `place` of the heads of its ring rank. What all
    ranks do together goes along one dimension and then the other.

    rings: {place: communicator of the ring there}, those with ranks in this process.
    across: {ring rank: communicator of the ranks that share it}, likewise.
    """

    def __init__(self, rings: dict, across: dict):
        self.rings, self.across = rings, across
        self.heads = next(iter(across.values())).world_size
        self.world_size = next(iter(rings.values())).world_size * self.heads
        self.ranks = tuple(
            sorted(r * self.heads + place for place, ring in rings.items() for r in ring.ranks)
        )
        self.traffic = Traffic()  # of both dimensions
        for communicator in (*rings.values(), *across.values()):
            communicator.traffic = self.traffic

    def along_rings(self, function, values: list) -> list:
        """values: one for each of `ranks`. function(place, ring, values of the ring's ranks here)
        -> a result for each of those. -> a result for each of `ranks`."""
        return self._along(self.rings, lambda rank: rank % self.heads, function, values)

    def along_heads(self, function, values: list) -> list:
        """The same with function(ring rank, communicator, values)."""
        return self._along(self.across, lambda rank: rank // self.heads, function, values)

    def _along(self, groups: dict, group_of, function, values: list) -> list:
        results = list(values)
        for key, group in groups.items():
            here = [i for i, rank in enumerate(self.ranks) if group_of(rank) == key]
            found = function(key, group, [values[i] for i in here])
            for i, result in zip(here, found, strict=True):
                results[i] = result
        return results

    @contextlib.contextmanager
    def in_call(self, call, device):
        with contextlib.ExitStack() as calls:
            for communicator in (*self.across.values(), *self.rings.values()):
                calls.enter_context(communicator.in_call(call, device))
            yield

    def exchange(self, rank, sends, receives):
        raise NotImplementedError(
            "ranks of a mesh send messages along one of its dimensions: use a group or a 1-D mesh"
        )

    def all_gather(self, tensors):
        ring, rows = self._once_a_ring_rank(
            lambda group, mine: torch.stack(group.all_gather(mine)), tensors
        )
        return [x for row in ring.all_gather(rows) for x in row.unbind()]

    def gather_objects(self, values):
        ring, rows = self._once_a_ring_rank(
            lambda group, mine: group.gather_objects(mine), values
        )
        return [value for row in ring.gather_objects(rows) for value in row]

    def _once_a_ring_rank(self, gather, values: list) -> tuple:
        """-> (one of the rings, for each of its ranks here what `gather` makes of the values of all
        that share that ring rank)."""
        gathered = self.along_heads(
            lambda _, group, mine: [gather(group, mine)] * len(mine), values
        )
        place, ring = next(iter(self.rings.items()))
        return ring, [x for rank, x in zip(self.ranks, gathered) if rank % self.heads == place]

    def all_reduce(self, tensors, operation="sum"):
        def reduce(_, group, mine):
            return group.all_reduce(mine, operation)

        return self.along_rings(reduce, self.along_heads(reduce, tensors))
