# SPDX-License-Identifier: BSD-3-Clause
"""Masks between pieces, said in rows, show the same keys as masks said in positions."""

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from longattn import reference, ring
from longattn.masks import Causal, Groups, Prefix, Window
from longattn.ring import group_cuts, ranges
from longattn.ring.pieces import Geometry, Piece, pieces_of
from longattn.ring.row_rules import (
    bounds_at,
    obstacle,
    offset_between,
    row_rule,
    seen_rows,
)
from rings import LAYOUTS, MASKS, UNEVEN_GROUPS

HEADS = 4


def positions(piece):
    return torch.arange(piece.length) * piece.step + piece.start


def shown_by_rows(head, rules, q, k) -> torch.Tensor:
    """Through the rule in rows: bool [q rows, k rows]."""
    offset = offset_between(q, k, rules)
    rule = row_rule(rules[head], offset, k)
    shown = torch.zeros(q.length, k.length, dtype=torch.bool)
    for row in range(q.length):
        floor, sink_end, begin, end = bounds_at(rule, offset.diagonal + row, k.length)
        shown[row, floor:sink_end] = True
        shown[row, begin:end] = True
    return shown


def starts_and_steps():
    lengths = st.integers(1, 40)
    starts = st.integers(0, 130)
    return st.tuples(st.sampled_from((1, 2, 3, 4, 6, 8, 12)), starts, lengths, starts, lengths)


@settings(max_examples=400)
@given(st.sampled_from(MASKS + UNEVEN_GROUPS), st.integers(0, HEADS - 1), starts_and_steps())
@example(Groups(48, shift=(0, 0, 24, 24)), 2, (12, 5, 20, 30, 20))
@example(Groups(24, shift=12, causal=False), 0, (8, 7, 30, 12, 30))
def test_rows_show_what_positions_show(mask, head, pair):
    step, q_start, q_len, k_start, k_len = pair
    rules = [mask.rule(h) for h in range(HEADS)]
    assume(obstacle(rules, step) is None)
    q, k = Piece(q_start, step, q_len), Piece(k_start, step, k_len)
    shown = shown_by_rows(head, rules, q, k)
    expected = reference.visible(mask, positions(q), positions(k), head)
    assert torch.equal(shown, expected)

    offset = offset_between(q, k, rules)
    near = torch.zeros(k_len, dtype=torch.bool)
    for begin, end in seen_rows(row_rule(rules[head], offset, k), offset.diagonal, q_len, k_len):
        near[begin:end] = True
    assert not (expected.any(0) & ~near).any(), "a key that is seen would stay at home"


@settings(max_examples=400)
@given(st.sampled_from(UNEVEN_GROUPS), st.integers(0, HEADS - 1), starts_and_steps())
def test_parts_show_what_positions_show(mask, head, pair):
    """The same through pieces that were cut at the borders of groups."""
    step, q_start, q_len, k_start, k_len = pair
    rules = [mask.rule(h) for h in range(HEADS)]
    queries, keys = Piece(q_start, step, q_len), Piece(k_start, step, k_len)
    rows = []
    for q in group_cuts.cut(queries, rules):
        columns = []
        for k in group_cuts.cut(keys, rules):
            between = [group_cuts.rule_between(rule, q, k) for rule in rules]
            columns.append(shown_by_rows(head, between, q, k))
        rows.append(torch.cat(columns, 1))
    expected = reference.visible(mask, positions(queries), positions(keys), head)
    assert torch.equal(torch.cat(rows), expected)


@pytest.mark.parametrize(
    "mask, sentence",
    [
        (Groups(10), "the size of Groups must be a multiple of 4, got 10"),
        (
            Groups(12, shift=(0, 0, 2, 6)),
            "the shifts of Groups must have one remainder modulo 4 in all heads, got [0, 2]",
        ),
        (Groups(12) & Prefix(5), "Prefix cannot join Groups"),
    ],
    ids=str,
)
def test_what_rows_cannot_say(mask, sentence):
    rules = [mask.rule(head) for head in range(HEADS)]
    assert obstacle(rules, 4) == sentence
    assert obstacle(rules, 1) is None


@given(st.integers(-9, 9), st.integers(1, 4), st.integers(0, 9), st.integers(-30, 50),
       st.integers(0, 40))  # fmt: skip
def test_rows_within_positions(start, step, length, first, count):
    piece = Piece(start, step, length)
    begin, end = piece.rows_within(first, first + count - 1)
    found = [row for row, at in enumerate(positions(piece).tolist()) if first <= at < first + count]
    assert list(range(begin, end)) == found


def test_too_many_parts_are_refused():
    plan = ring.plan(2**16, ring.VirtualRing(4), "striped")
    q, k, v = ([torch.zeros(1, rows, 1, 1) for rows in plan.lengths] for _ in range(3))
    with pytest.raises(ValueError, match="size 10 cut rows that are 4 positions apart .* 4096 par"):
        plan.attention(q, k, v, Groups(10))
    one = torch.zeros(1, 1, 1, 1)  # which reaches one group
    assert plan.decode(one, k, v, Groups(10), q_start=2**16).abs().sum() == 0


def test_others_have_no_condition():
    for mask in (Causal(), Window(7, sink_tokens=3), Prefix(5), Groups(12, shift=5)):
        assert obstacle([mask.rule(0)], 4) is None


@pytest.mark.parametrize("borders", ((), (0, 0, 9, 10, 50, 50, 61)), ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("world_size", (1, 2, 3, 4, 8))
def test_every_position_has_one_owner(world_size, layout, borders):
    geometry = Geometry(61, world_size, layout, borders)
    documents = list(zip(borders, borders[1:])) or [(0, 61)]
    owned = []
    for rank in range(world_size):
        pieces = pieces_of(geometry, rank)
        assert sum(piece.length for piece in pieces) == geometry.length(rank)
        for piece in pieces:
            begin, end = documents[piece.document]
            rows = [begin + p for p in positions(piece).tolist()]
            assert rows and begin <= rows[0] and rows[-1] < end
            owned += rows
    assert sorted(owned) == list(range(61))
    lengths = [geometry.length(rank) for rank in range(world_size)]
    assert max(lengths) - min(lengths) <= (2 if layout == "zigzag" else 1)


sets_of_rows = st.sets(st.integers(0, 30))


def as_ranges(rows) -> tuple:
    return ranges.union((row, row + 1) for row in rows)


def as_rows(chosen) -> list:
    return [row for begin, end in chosen for row in range(begin, end)]


@given(sets_of_rows, sets_of_rows)
def test_ranges(one, two):
    whole, part = as_ranges(one | two), as_ranges(two)
    assert as_rows(whole) == sorted(one | two) and ranges.size(whole) == len(one | two)
    assert all(a[1] < b[0] for a, b in zip(whole, whole[1:]))
    assert as_rows(ranges.without(whole, part)) == sorted(one - two)
    standing = sorted(one | two)
    assert [standing[row] for row in as_rows(ranges.places(whole, part))] == sorted(two)
