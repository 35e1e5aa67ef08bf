# SPDX-License-Identifier: BSD-3-Clause
"""Pieces cut where groups begin: between two of them, a group shows all or nothing.

For groups that rows of several positions cannot say (see row_rules.obstacle)."""

from __future__ import annotations

from longattn.masks import GROUPS, LEADING, RECENT_GROUPS, HeadRule
from longattn.ring.pieces import Piece

NOTHING = HeadRule(((LEADING, 0, 0),))


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
