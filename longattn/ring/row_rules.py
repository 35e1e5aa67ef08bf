# SPDX-License-Identifier: BSD-3-Clause
"""Masks between two pieces of one step, said in rows of the pieces: the step vanishes.

Query row i stands at q.start + i * step, key row j at k.start + j * step. With
q.start - k.start = diagonal * step + remainder, their distance is
(diagonal + i - j) * step + remainder, and every bound on positions becomes one on rows."""

from __future__ import annotations

from typing import NamedTuple, Optional

from longattn.masks import (
    DIAGONAL,
    GROUPS,
    MAX_SIZE,
    PREFIX,
    RECENT_GROUPS,
    UNBOUNDED,
    HeadRule,
)
from longattn.ring.pieces import Piece


class Offset(NamedTuple):
    """Where the queries of one piece stand among the keys of another."""

    diagonal: int  # the key row of query row 0
    remainder: int  # positions by which query row 0 stands after that key; |remainder| < step


class Bounds(NamedTuple):
    """What one query row sees: key rows [floor, sink_end) and [begin, end)."""

    floor: int
    sink_end: int
    begin: int
    end: int


def obstacle(rules, step: int) -> Optional[str]:
    """Why rows that are `step` positions apart cannot say what the rules mean; None: they can."""
    groups = [term for rule in rules for term in rule.terms if term[0] in (GROUPS, RECENT_GROUPS)]
    for _, size, _ in groups:
        if size % step:
            return f"the size of Groups must be a multiple of {step}, got {size}"
    shifts = sorted({place % size % step for _, size, place in groups})
    if len(shifts) > 1:
        return (
            f"the shifts of Groups must have one remainder modulo {step} in all heads, got {shifts}"
        )
    if groups and step > 1 and any(t[0] == PREFIX for rule in rules for t in rule.terms):
        return "Prefix cannot join Groups"
    return None


def offset_between(q: Piece, k: Piece, rules) -> Offset:
    """There are two ways to write the distance down. Where a rule has groups, it has to be the one
    whose diagonal lies in the same group as the query; their borders are counted in key rows."""
    diagonal, remainder = divmod(q.start - k.start, k.step)
    for kind, size, place in (term for rule in rules for term in rule.terms):
        if kind in (GROUPS, RECENT_GROUPS):
            if (k.start - place % size) % k.step + remainder >= k.step:
                return Offset(diagonal + 1, remainder - k.step)
            break
    return Offset(diagonal, remainder)


def row_rule(rule: HeadRule, offset: Offset, k: Piece) -> HeadRule:
    """The rule in rows of the pieces, counted from the first key."""

    def bound(distance: int, side: int) -> int:
        return distance if distance == UNBOUNDED else (distance + side * offset.remainder) // k.step

    def leading(positions: int) -> int:
        return min(max(-((k.start - positions) // k.step), 0), MAX_SIZE)

    def lower(term) -> tuple:
        kind, a, b = term
        if kind == DIAGONAL:
            return kind, bound(a, -1), bound(b, 1)
        if kind in (GROUPS, RECENT_GROUPS):
            size, back = a // k.step, b // a
            return kind, size, -((k.start - b % a) // k.step) % size + back * size
        return kind, leading(a), b

    terms = tuple(lower(term) for term in rule.terms)
    return HeadRule(terms, bound(rule.soft_left, -1), leading(rule.sink_tokens))


def bounds_at(rule: HeadRule, diagonal: int, k_len: int) -> Bounds:
    """What the query row at this key row sees; the same as row_bounds in csrc/semantics/band.h."""
    begin, end = 0, k_len
    for kind, a, b in rule.terms:
        if kind == DIAGONAL:
            begin = begin if a == UNBOUNDED else max(begin, diagonal - a)
            end = end if b == UNBOUNDED else min(end, diagonal + b + 1)
        elif kind in (GROUPS, RECENT_GROUPS):
            shift = b % a
            own = shift + (diagonal - shift) // a * a
            first = own - (b - shift)
            begin, end = max(begin, first), min(end, (first if kind == GROUPS else own) + a)
        elif kind == PREFIX:
            end = min(end, max(diagonal + 1, a))
        else:
            end = min(end, a)
    end = min(max(end, 0), k_len)
    floor = min(max(begin, 0), end)
    near = floor if rule.soft_left == UNBOUNDED else max(floor, diagonal - rule.soft_left)
    near = min(near, end)
    return Bounds(floor, min(max(rule.sink_tokens, floor), near), near, end)


def seen_rows(rule: HeadRule, diagonal: int, q_len: int, k_len: int) -> list:
    """Ranges of key rows outside of which no query row sees a key. No bound falls from one row to
    the next, so the first and the last row tell."""
    first = bounds_at(rule, diagonal, k_len)
    last = bounds_at(rule, diagonal + q_len - 1, k_len)
    sinks = (first.floor, min(last.sink_end, max(rule.sink_tokens, first.floor)))
    near = (first.begin, last.end if _has_near_keys(rule) else first.begin)
    return [(begin, end) for begin, end in (sinks, near) if begin < end]


def _has_near_keys(rule: HeadRule) -> bool:
    """Whether a window is wide enough for one key a row. Where rows are several positions, it may
    lie between them."""
    diagonals = [(left, right) for kind, left, right in rule.terms if kind == DIAGONAL]
    diagonals.append((rule.soft_left, UNBOUNDED))
    lefts = [left for left, _ in diagonals if left != UNBOUNDED]
    rights = [right for _, right in diagonals if right != UNBOUNDED]
    return not lefts or not rights or min(lefts) + min(rights) >= 0
