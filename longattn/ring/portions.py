# SPDX-License-Identifier: BSD-3-Clause
"""Who owns which positions on a mesh: a shard of the ring's, cut into portions."""

from __future__ import annotations

from typing import NamedTuple

from longattn.ring.pieces import Geometry


class MeshGeometry(NamedTuple):
    """What `Geometry` is to a ring, for the ranks of a mesh: rank ring_rank * heads + place owns
    portion `place` of the rows of that ring rank's shard; one after another they are the shard."""

    ring: Geometry
    heads: int

    @property
    def seq_len(self) -> int:
        return self.ring.seq_len

    @property
    def layout(self) -> str:
        return self.ring.layout

    @property
    def borders(self) -> tuple:
        return self.ring.borders

    @property
    def world_size(self) -> int:
        return self.ring.world_size * self.heads

    def runs(self, rank: int) -> tuple:
        ring_rank, place = divmod(rank, self.heads)
        begin, end = self._borders(ring_rank)[place : place + 2]
        runs, rows = [], 0  # before this run
        for start, step, length in self.ring.runs(ring_rank):
            first, stop = (min(max(row - rows, 0), length) for row in (begin, end))
            runs.append((start + first * step, step, stop - first))
            rows += length
        return tuple(runs)

    def length(self, rank: int) -> int:
        ring_rank, place = divmod(rank, self.heads)
        return self.portions(ring_rank)[place]

    def portions(self, ring_rank: int) -> list:
        """The number of rows in each."""
        borders = self._borders(ring_rank)
        return [end - begin for begin, end in zip(borders, borders[1:])]

    def _borders(self, ring_rank: int) -> list:
        rows = self.ring.length(ring_rank)
        return [place * rows // self.heads for place in range(self.heads + 1)]
