# SPDX-License-Identifier: BSD-3-Clause
"""Who owns which positions: a shard is a list of affine pieces, whatever the layout."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

LAYOUTS = ("contiguous", "zigzag", "striped")


class Piece(NamedTuple):
    """Neighbouring rows of a shard, at positions start, start + step, ... of one document."""

    start: int  # counted from the beginning of the document
    step: int
    length: int
    document: int = 0

    def rows(self, begin: int, end: int) -> Piece:
        return self._replace(start=self.start + begin * self.step, length=end - begin)


class Geometry(NamedTuple):
    """How a sequence is dealt out to ranks. Lengths need not divide: shares differ by as little as
    the layout allows."""

    seq_len: int
    world_size: int
    layout: str
    borders: tuple = ()  # cu_seqlens of packed documents: 0, ..., seq_len; () is one document

    def runs(self, rank: int) -> tuple:
        """The rank's rows as (start, step, length) in the whole sequence."""
        n, ranks = self.seq_len, self.world_size
        if self.layout == "striped":
            return ((rank, ranks, len(range(rank, n, ranks))),)
        if self.layout == "contiguous":
            chunks, owned = ranks, (rank,)
        else:
            chunks, owned = 2 * ranks, (rank, 2 * ranks - 1 - rank)
        borders = [chunk * n // chunks for chunk in range(chunks + 1)]
        return tuple((borders[c], 1, borders[c + 1] - borders[c]) for c in owned)

    def length(self, rank: int) -> int:
        return sum(length for _, _, length in self.runs(rank))


@lru_cache(maxsize=4096)
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


def first_rows(pieces) -> list:
    """The row of the shard at which each piece begins, and the number of rows."""
    return list(accumulate((piece.length for piece in pieces), initial=0))
