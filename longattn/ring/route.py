# SPDX-License-Identifier: BSD-3-Clause
"""What a mask makes of a ring: which rows of keys travel how far, and who meets whom.

At hop h, rank r holds rows of rank r - h's keys: those that it or any rank further on sees. So a
block shrinks on its way and stops with its last reader; a window travels as far as it reaches, sink
tokens go around once, and causal keys never go back to earlier ranks."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from longattn.attention import encode_head_rules
from longattn.ring import group_cuts, ranges
from longattn.ring.pieces import Geometry, Piece, pieces_of
from longattn.ring.row_rules import Offset, obstacle, offset_between, row_rule, seen_rows


class Meeting(NamedTuple):
    """One partial: rows of the rank's queries, rows of the block of keys that is there, and the
    mask between them."""

    q_rows: tuple  # (begin, end)
    k_rows: tuple
    step: int
    offset: Offset
    rules: list  # as the engines take them, in rows


class Hop(NamedTuple):
    """One hop of one rank. Rows are counted in the block that is there, but for `returning`."""

    source: int  # whose keys
    rows: int
    meetings: tuple
    onward: tuple  # ranges of rows that go on to the next rank
    home: tuple  # the rest, whose gradients go home from here
    returning: tuple  # ranges of the rank's own rows, whose gradients come back at this hop


@lru_cache(maxsize=64)
def route(geometry: Geometry, rules: tuple, rank: int) -> tuple:
    """The hops of a rank; the first one is at home. rules: one HeadRule for all heads, or one a
    head."""
    ranks = geometry.world_size
    own = _journey(geometry, rules, rank)
    hops = []
    for hop in range(ranks):
        source = (rank - hop) % ranks
        here, next_ = _journey(geometry, rules, source)[hop : hop + 2]
        onward = ranges.places(here, next_)
        rows = ranges.size(here)
        returning = ranges.without(own[hop], own[hop + 1])
        hops.append(
            Hop(
                source,
                rows,
                tuple(_meetings(geometry, rules, rank, source, here)),
                onward,
                ranges.without(((0, rows),) if rows else (), onward) if hop else (),
                returning if hop else (),
            )
        )
    return tuple(hops)


@lru_cache(maxsize=512)
def _journey(geometry: Geometry, rules: tuple, source: int) -> tuple:
    """The rows of a rank's keys that are on the way at each hop; all at home, none at the end."""
    ranks = geometry.world_size
    seen = [_seen_by(geometry, rules, source, (source + hop) % ranks) for hop in range(1, ranks)]
    further = accumulate(reversed(seen), lambda far, near: ranges.union(far + near), initial=())
    length = geometry.length(source)
    return (((0, length),) if length else (), *reversed(list(further)))


def _seen_by(geometry: Geometry, rules: tuple, source: int, reader: int) -> tuple:
    """The rows of the source's keys that the reader's queries see."""
    seen = []
    keys = _parts(_pieces(geometry, rules, source))
    for _, k_begin, q, k in _neighbours(geometry, rules, reader, keys):
        rows = _seen_rows(*_lower(geometry, rules, q, k), q, k)
        seen += [(k_begin + begin, k_begin + end) for begin, end in rows]
    return ranges.union(seen)


def _meetings(geometry: Geometry, rules: tuple, rank: int, source: int, rows: tuple):
    keys = _parts(_pieces(geometry, rules, source), rows)
    for q_begin, k_begin, q, k in _neighbours(geometry, rules, rank, keys):
        offset, lowered = _lower(geometry, rules, q, k)
        if _seen_rows(offset, lowered, q, k):
            yield Meeting(
                (q_begin, q_begin + q.length),
                (k_begin, k_begin + k.length),
                k.step,
                offset,
                encode_head_rules(lowered),
            )


@lru_cache(maxsize=512)
def _pieces(geometry: Geometry, rules: tuple, rank: int) -> tuple:
    pieces = pieces_of(geometry, rank)
    if not _has_cuts(rules, geometry.step):
        return pieces
    return tuple(group_cuts.cut_all(pieces, rules))


@lru_cache(maxsize=256)
def _has_cuts(rules: tuple, step: int) -> bool:
    return obstacle(rules, step) is not None


def _lower(geometry: Geometry, rules: tuple, q: Piece, k: Piece) -> tuple:
    """-> (offset, the rules in rows)."""
    if geometry.step > 1 and _has_cuts(rules, geometry.step):
        rules = [group_cuts.rule_between(rule, q, k) for rule in rules]
    offset = offset_between(q, k, rules)
    in_rows = {rule: row_rule(rule, offset, k) for rule in set(rules)}
    return offset, [in_rows[rule] for rule in rules]


def _seen_rows(offset: Offset, lowered: list, q: Piece, k: Piece) -> list:
    """Ranges of the piece's keys that queries see in some head."""
    return [
        rows
        for rule in set(lowered)
        for rows in seen_rows(rule, offset.diagonal, q.length, k.length)
    ]


def _neighbours(geometry: Geometry, rules: tuple, reader: int, keys):
    """(first row, first row, queries, keys) of each of the reader's pieces and each of these pieces
    of one document, as far as the rules reach."""
    behind, ahead = (max(reach) for reach in zip(*(rule.reach() for rule in rules)))
    queries = {}
    for begin, piece in _parts(_pieces(geometry, rules, reader)):
        queries.setdefault(piece.document, []).append((begin, piece))
    firsts = {document: [q.start for _, q in found] for document, found in queries.items()}
    for k_begin, k in keys:
        found = queries.get(k.document, [])
        # Pieces rise, so that those in reach are neighbours.
        stop = bisect_right(firsts.get(k.document, []), k.last + behind)
        for place in range(stop - 1, -1, -1):
            q_begin, q = found[place]
            if q.last + ahead < k.start:
                break
            yield q_begin, k_begin, q, k


def _parts(pieces: tuple, rows=None) -> list:
    """(first row, piece) of a rank's pieces; or of what is left of them when these rows are put one
    after another."""
    begins = list(accumulate((piece.length for piece in pieces), initial=0))
    if rows is None:
        return list(zip(begins, pieces))
    parts, place = [], 0
    for begin, end in rows:
        first = bisect_right(begins, begin) - 1
        for piece_begin, piece in zip(begins[first:], pieces[first:]):
            low, high = max(begin, piece_begin), min(end, piece_begin + piece.length)
            if low >= high:
                break
            parts.append((place + low - begin, piece.rows(low - piece_begin, high - piece_begin)))
        place += end - begin
    return parts
