# SPDX-License-Identifier: BSD-3-Clause
"""Who owns which positions: a shard is a list of affine pieces, whatever the layout."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from typing import NamedTuple

LAYOUTS = ("contiguous", "zigzag", "striped")


class Piece(NamedTuple):
    """Neighbouring rows of a shard, at positions start, start + step, ... of one document."""

    start: int  # counted from the beginning of the document
    step: int
    length: int
    document: int = 0

    @property
    def last(self) -> int:
        return self.start + (self.length - 1) * self.step

    def rows(self, begin: int, end: int) -> Piece:
        return self._replace(start=self.start + begin * self.step, length=end - begin)

    def rows_within(self, first: int, last: int) -> tuple:
        """Its rows [begin, end) at these positions."""
        begin = min(max(-((self.start - first) // self.step), 0), self.length)
        return begin, min(max((last - self.start) // self.step + 1, begin), self.length)


class Geometry(NamedTuple):
    """How a sequence is dealt out to ranks. Lengths need not divide: shares differ by as little as
    the layout allows."""

    seq_len: int
    world_size: int
    layout: str
    borders: tuple = ()  # cu_seqlens of packed documents: 0, ..., seq_len; () is one document

    @property
    def step(self) -> int:
        """Positions between neighbouring rows of a shard."""
        return self.world_size if self.layout == "striped" else 1

    def runs(self, rank: int) -> tuple:
        """The rank's rows as (start, step, length) in the whole sequence."""
        n, ranks = self.seq_len, self.world_size
        if self.layout == "striped":
            return ((rank, ranks, len(range(rank, n, ranks))),)
        if self.layout == "contiguous":
            return (_run(n, rank, rank + 1, ranks),)
        if rank == ranks - 1:  # its two chunks are neighbours
            return (_run(n, rank, rank + 2, 2 * ranks),)
        mirrored = 2 * ranks - 1 - rank
        return _run(n, rank, rank + 1, 2 * ranks), _run(n, mirrored, mirrored + 1, 2 * ranks)

    def length(self, rank: int) -> int:
        return sum(length for _, _, length in self.runs(rank))


def _run(seq_len: int, first: int, stop: int, chunks: int) -> tuple:
    """Chunks first .. stop - 1 of a sequence that is cut into that many."""
    begin, end = (chunk * seq_len // chunks for chunk in (first, stop))
    return begin, 1, end - begin


@lru_cache(maxsize=512)
def pieces_of(geometry: Geometry, rank: int) -> tuple:
    """The rank's shard, cut where documents begin; no piece is empty."""
    borders = geometry.borders or (0, geometry.seq_len)
    pieces = []
    for start, step, length in geometry.runs(rank):
        stop = start + step * length
        while start < stop:
            document = bisect_right(borders, start) - 1
            rows = len(range(start, min(stop, borders[document + 1]), step))
            pieces.append(Piece(start - borders[document], step, rows, document))
            start += rows * step
    return tuple(pieces)
