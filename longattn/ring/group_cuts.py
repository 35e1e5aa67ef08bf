# SPDX-License-Identifier: BSD-3-Clause
"""Pieces cut where groups begin: between two of them, a group shows all or nothing.

For groups that rows of several positions cannot say (see row_rules.obstacle)."""

from __future__ import annotations

from itertools import islice

from longattn.masks import GROUPS, LEADING, RECENT_GROUPS, HeadRule
from longattn.ring.pieces import Piece

NOTHING = HeadRule(((LEADING, 0, 0),))
MOST_PARTS = 4096  # each is a partial of its own: more take longer to plan than to compute


def cut_all(pieces, rules) -> list:
    """Raises:
    ValueError: there are too many parts."""
    parts = list(islice((part for piece in pieces for part in cut(piece, rules)), MOST_PARTS + 1))
    if len(parts) > MOST_PARTS:
        sizes = sorted({size for rule in rules for _, size, _ in _groups(rule)})
        raise ValueError(
            f"Groups of size {' and '.join(map(str, sizes))} cut rows that are {pieces[0].step} "
            f"positions apart into more than {MOST_PARTS} parts for a rank: use the zigzag or the "
            f"contiguous layout, or sizes that are multiples of {pieces[0].step}"
        )
    return parts


def cut(piece: Piece, rules):
    """The piece in parts that no border of a group cuts."""
    groups = {(size, place % size) for rule in rules for _, size, place in _groups(rule)}
    while piece.length > 0:
        border = min((piece.start - shift) // size * size + size + shift for size, shift in groups)
        rows = min(-((piece.start - border) // piece.step), piece.length)
        yield piece.rows(0, rows)
        piece = piece.rows(rows, piece.length)


def rule_between(rule: HeadRule, q: Piece, k: Piece) -> HeadRule:
    """The rule between two such parts, without its groups."""
    for kind, size, place in _groups(rule):
        shift, back = place % size, place // size
        apart = (q.start - shift) // size - (k.start - shift) // size
        if not (apart == back if kind == GROUPS else 0 <= apart <= back):
            return NOTHING
    others = tuple(term for term in rule.terms if term not in _groups(rule))
    return rule._replace(terms=others)


def _groups(rule: HeadRule) -> list:
    return [term for term in rule.terms if term[0] in (GROUPS, RECENT_GROUPS)]
