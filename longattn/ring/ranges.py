# SPDX-License-Identifier: BSD-3-Clause
"""Sets of rows as sorted ranges (begin, end) that neither touch nor overlap."""

from __future__ import annotations


def union(ranges) -> tuple:
    merged = []
    for begin, end in sorted(ranges):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        elif begin < end:
            merged.append((begin, end))
    return tuple(merged)


def without(ranges, taken) -> tuple:
    """The rows of `ranges` that are not in `taken`, a subset of them."""
    left = []
    for begin, end in ranges:
        for hole_begin, hole_end in taken:
            if begin <= hole_begin and hole_end <= end:
                left.append((begin, hole_begin))
                begin = hole_end
        left.append((begin, end))
    return union(left)


def places(ranges, chosen) -> tuple:
    """Where the rows `chosen`, a subset, stand if those of `ranges` are put one after another."""
    found, shift = [], 0
    for begin, end in ranges:
        inside = [(b, e) for b, e in chosen if begin <= b and e <= end]
        found += [(b - begin + shift, e - begin + shift) for b, e in inside]
        shift += end - begin
    return tuple(found)


def size(ranges) -> int:
    return sum(end - begin for begin, end in ranges)
