# SPDX-License-Identifier: BSD-3-Clause
"""Which keys of LongNet's branches live on other ranks of a contiguous plan.

A query meets the keys of its own rank as in one process. Only the segments that a border between
ranks cuts have more, and of those keys each head keeps one in `rate`."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from longattn.ring.pieces import Geometry


class Branches(NamedTuple):
    pairs: tuple  # (segment length, dilation rate) of each
    head_offset: str  # "mod" or "blocks"
    causal: bool
    detach_weights: bool
    q_heads: int
    kv_heads: int

    def heads_at(self, offset: int, rate: int) -> range:
        """The query heads that keep the positions with this offset."""
        if self.head_offset == "mod":
            return range(offset, self.q_heads, rate)
        block = -(-self.q_heads // rate)
        return range(min(offset * block, self.q_heads), min((offset + 1) * block, self.q_heads))


class SparseKeys(NamedTuple):
    """Kept keys of one rank in one segment, which queries of another rank see, all of them."""

    branch: int
    rate: int
    heads: range  # of queries
    kv_heads: tuple  # distinct
    places: tuple  # of each query head's keys in kv_heads
    queries: range  # positions
    keys: range


class DilatedRoute(NamedTuple):
    begin: int  # position of the rank's first row
    branches: Branches
    arriving: tuple  # (rank, its SparseKeys for this one), for each rank that sends some
    leaving: tuple


@lru_cache(maxsize=256)
def dilated_route(geometry: Geometry, branches: Branches, rank: int) -> DilatedRoute:
    others = [other for other in range(geometry.world_size) if other != rank]
    arriving = ((other, _sparse_keys(geometry, branches, other, rank)) for other in others)
    leaving = ((other, _sparse_keys(geometry, branches, rank, other)) for other in others)
    return DilatedRoute(
        _span(geometry, rank)[0],
        branches,
        tuple((other, keys) for other, keys in arriving if keys),
        tuple((other, keys) for other, keys in leaving if keys),
    )


def _sparse_keys(geometry: Geometry, branches: Branches, source: int, reader: int) -> tuple:
    k_begin, k_end = _span(geometry, source)
    q_begin, q_end = _span(geometry, reader)
    if k_begin == k_end or q_begin == q_end or (branches.causal and source > reader):
        return ()
    # The segment that keys and queries share, if any, holds the reader's row nearest to them.
    nearest = q_begin if source < reader else q_end - 1
    found = []
    for branch, (length, rate) in enumerate(branches.pairs):
        begin = nearest // length * length
        end = begin + length
        for offset in range(min(rate, length)):
            heads = branches.heads_at(offset, rate)
            queries = _kept(begin + offset, rate, max(q_begin, begin), min(q_end, end))
            keys = _kept(begin + offset, rate, max(k_begin, begin), min(k_end, end))
            if heads and queries and keys:
                found.append(_between(branches, branch, rate, heads, queries, keys))
    return tuple(found)


def _between(branches: Branches, branch: int, rate: int, heads, queries, keys) -> SparseKeys:
    shared = branches.q_heads // branches.kv_heads
    kv_heads = tuple(dict.fromkeys(head // shared for head in heads))
    places = tuple(kv_heads.index(head // shared) for head in heads)
    return SparseKeys(branch, rate, heads, kv_heads, places, queries, keys)


def _kept(origin: int, rate: int, begin: int, end: int) -> range:
    """Positions origin, origin + rate, ... in [begin, end)."""
    first = origin + max(-(-(begin - origin) // rate), 0) * rate
    return range(first, max(end, first), rate)


def _span(geometry: Geometry, rank: int) -> tuple:
    ((start, _, length),) = geometry.runs(rank)
    return start, start + length
