# SPDX-License-Identifier: BSD-3-Clause
"""Masks: their lowering to a row band against their definitions, converters, and values."""

import dataclasses

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cases import PERF, SMALL
from longattn import masks, reference
from longattn.masks import Band, Causal, Full, Groups, Intersection, Mask, Prefix, Window

HEADS = 3


def shows(rule, i, j) -> bool:
    """What a HeadRule says about one pair of positions, by the definition in masks.py."""
    distance = i - j
    for kind, a, b in rule.terms:
        if kind == masks.DIAGONAL:
            passed = a == masks.UNBOUNDED or distance <= a
            passed = passed and (b == masks.UNBOUNDED or distance >= -b)
        elif kind in (masks.GROUPS, masks.RECENT_GROUPS):
            back = (i - b % a) // a - (j - b % a) // a
            passed = back == b // a if kind == masks.GROUPS else 0 <= back <= b // a
        else:
            assert kind == masks.PREFIX, kind
            passed = j < a or distance >= 0
        if not passed:
            return False
    near = rule.soft_left == masks.UNBOUNDED or distance <= rule.soft_left
    return near or j < rule.sink_tokens


def assert_lowering_is_right(mask, heads, q_positions, k_positions):
    i, j = torch.tensor(q_positions), torch.tensor(k_positions)
    for head in range(heads):
        rule = mask.rule(head)
        assert len(rule.terms) <= masks.MAX_TERMS
        lowered = [[shows(rule, a, b) for b in k_positions] for a in q_positions]
        defined = reference.visible(mask, i, j, head).tolist()
        assert lowered == defined, f"head {head} of {mask} lowers to {rule}"


def assert_rows_are_bands(mask, heads, q_positions, k_positions):
    """The promise to the engines: sinks, then one interval; its ends never go back."""
    i, j = torch.tensor(q_positions), torch.tensor(k_positions)
    for head in range(heads):
        sinks = j < mask.rule(head).sink_tokens
        last = (0, 0)
        for row in reference.visible(mask, i, j, head):
            near = (row & ~sinks).nonzero().flatten().tolist()
            if near:
                assert near == list(range(near[0], near[-1] + 1)), f"head {head} of {mask}"
                assert last <= (near[0], near[-1]) and last[1] <= near[-1], f"head {head} of {mask}"
                last = (near[0], near[-1])


EVERY_MASK = [
    Full(),
    Causal(),
    Window(1),
    Window(4),
    Window(4, sink_tokens=3),
    Window((1, 5, 100), sink_tokens=(0, 2, 100)),
    Band(None, None),
    Band(0, 0),
    Band(2, None),
    Band(None, 2),
    Band(2, 3, sink_tokens=4),
    Band(None, 3, sink_tokens=4),
    Band((0, None, 5), (None, 0, 1), sink_tokens=(0, 7, 2)),
    Groups(1),
    Groups(4),
    Groups(4, shift=2),
    Groups(4, shift=-1, causal=False),
    Groups(5, shift=13, causal=False),
    Groups((3, 4, 50), shift=(0, 2, 49)),
    Groups(4, back=1),
    Groups(3, shift=-1, causal=False, back=2),
    Groups((3, 4, 50), back=(0, 1, 9)),
    Prefix(0),
    Prefix(5),
    Prefix((0, 1, 100)),
    Causal() & Full(),
    Full() & Causal(),
    Window(3) & Groups(5),
    Groups(5, causal=False) & Window(3, sink_tokens=2),
    Prefix(6) & Band(3, None),
    Prefix(6) & Causal(),
    Prefix(3) & Prefix(7),
    Groups(4) & Groups(6, shift=1),
    Groups(4) & Groups(4),
    Band(2, 5) & Band(5, 2) & Band(None, 4),
    Window(6, sink_tokens=2) & Window(3, sink_tokens=2),
    Window(6, sink_tokens=4) & Window(3, sink_tokens=2),
    Window(6, sink_tokens=4) & Window(3),
    Prefix((2, 9, 0)) & Groups((8, 3, 9), causal=False) & Band((4, 5, 6), None, sink_tokens=2),
]


@pytest.mark.parametrize("mask", EVERY_MASK, ids=str)
def test_lowering_equals_definition(mask):
    assert_lowering_is_right(mask, HEADS, range(-3, 19), range(0, 17))
    assert_rows_are_bands(mask, HEADS, range(-3, 19), range(0, 17))


@pytest.mark.parametrize("case", [case for case in SMALL if not case.packed], ids=str)
def test_lowering_of_the_cases(case):
    start, k_start = case.positions(0) if case.batch else (0, 0)
    rows = sorted({0, case.q_shape[1] // 3, case.q_shape[1] // 2, case.q_shape[1] - 1} - {-1})
    q_positions = [start + row for row in rows]
    k_positions = [k_start + key for key in range(case.k_shape[1])]
    assert_lowering_is_right(case.mask, case.q_heads, q_positions, k_positions)


def per_head(values):
    return values | st.tuples(*[values] * HEADS)


sizes = per_head(st.integers(1, 12))
optional = st.none() | st.integers(0, 12)
sinks = per_head(st.integers(0, 6))
simple_masks = st.one_of(
    st.just(Full()),
    st.just(Causal()),
    st.builds(Window, sizes, sink_tokens=sinks),
    st.builds(Band, per_head(optional), per_head(optional), sink_tokens=sinks),
    st.builds(
        Groups,
        sizes,
        shift=per_head(st.integers(-20, 20)),
        causal=st.booleans(),
        back=per_head(st.integers(0, 2)),
    ),
    st.builds(Prefix, per_head(st.integers(0, 15))),
)
any_mask = st.recursive(simple_masks, lambda inner: st.builds(Intersection, inner, inner))


@settings(max_examples=300)
@given(mask=any_mask, q_start=st.integers(-20, 40), k_start=st.integers(-5, 30))
def test_lowering_of_any_conjunction(mask, q_start, k_start):
    try:
        for head in range(HEADS):
            mask.rule(head)
    except NotImplementedError:
        assume(False)
    q_positions, k_positions = range(q_start, q_start + 13), range(k_start, k_start + 17)
    assert_lowering_is_right(mask, HEADS, q_positions, k_positions)
    assert_rows_are_bands(mask, HEADS, q_positions, k_positions)


def test_three_intervals_are_refused_in_a_sentence():
    mask = Window(9, sink_tokens=2) & Window(3, sink_tokens=5)
    with pytest.raises(NotImplementedError, match="more sink_tokens must have the wider window"):
        mask.rule(0)


def test_too_many_terms_are_refused_with_their_number():
    mask = Groups(2) & Groups(3) & Groups(5) & Groups(7)
    with pytest.raises(NotImplementedError, match="5 terms a head, at most 4"):
        mask.rule(0)


# Converters


@pytest.mark.parametrize(
    "window_size, causal, expected",
    [
        ((-1, -1), False, Band(None, None)),
        ((-1, -1), True, Band(None, 0)),
        ((-1, 0), False, Band(None, 0)),
        ((0, -1), False, Band(0, None)),
        ((0, 0), False, Band(0, 0)),
        ((5, 3), False, Band(5, 3)),
        ((5, 3), True, Band(5, 0)),
        ((5, -1), True, Band(5, 0)),
        ([4, 2], False, Band(4, 2)),
    ],
)
def test_from_flash(window_size, causal, expected):
    assert Band.from_flash(window_size, causal) == expected


def test_from_flash_default_sees_everything():
    i = torch.arange(5)
    assert reference.visible(Band.from_flash(), i, i).all()


def test_from_flash_keeps_sinks():
    assert Band.from_flash((5, 0), sink_tokens=3) == Band(5, 0, sink_tokens=3)


@pytest.mark.parametrize(
    "window_size",
    [(-2, 0), (0, -2), (1,), (1, 2, 3), (1.0, 2), (True, 1), 3, None, "12", {3: 4, 5: 6}],
)
def test_from_flash_refuses(window_size):
    with pytest.raises(ValueError, match="pair of integers >= -1") as error:
        Band.from_flash(window_size)
    assert repr(window_size) in str(error.value)
    assert "Window(n)" in str(error.value)


def test_from_hf():
    assert Window.from_hf(None) == Causal()
    assert Window.from_hf(4096) == Window(4096)
    assert Window.from_hf(1, sink_tokens=4) == Window(1, sink_tokens=4)
    with pytest.raises(ValueError, match="got 0"):
        Window.from_hf(0)


def test_a_window_of_one_sees_the_query_itself():
    i = torch.arange(6)
    assert torch.equal(reference.visible(Window(1), i, i), torch.eye(6, dtype=torch.bool))
    assert torch.equal(reference.visible(Window(3), i, i), reference.visible(Band(2, 0), i, i))


# Values


@pytest.mark.parametrize("mask", EVERY_MASK, ids=str)
def test_masks_are_hashable_values(mask):
    twin = dataclasses.replace(mask)
    assert twin == mask and hash(twin) == hash(mask) and {mask: 1}[twin] == 1


@pytest.mark.parametrize("mask", [Window(3), Band(1, 2), Groups(4), Prefix(5), Full() & Causal()])
def test_masks_are_frozen(mask):
    name = dataclasses.fields(mask)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(mask, name, 1)


def test_masks_differ_by_their_values():
    different = {Window(3), Window(4), Window(3, sink_tokens=1), Band(2, 0), Causal(), Full()}
    assert len(different) == 6


def test_and_refuses_what_is_no_mask():
    with pytest.raises(TypeError):
        Causal() & True


def test_head_counts_are_collected():
    assert Causal().head_counts() == frozenset()
    assert Window((1, 2), sink_tokens=3).head_counts() == {2}
    assert (Window((1, 2)) & Prefix((1, 2, 3))).head_counts() == {2, 3}


def test_reference_refuses_unknown_masks():
    i = torch.arange(2)
    with pytest.raises(TypeError, match="Mask()"):
        reference.visible(Mask(), i, i)


@pytest.mark.parametrize("case", PERF, ids=str)
def test_benchmark_cases_are_well_formed(case):
    assert case.mask.head_counts() <= {case.q_heads}
    assert case.q_heads % (case.kv_heads or case.q_heads) == 0
    assert all(case.mask.rule(head) == case.mask.rule(0) for head in range(case.q_heads))


BAD_VALUES = [
    (lambda: Window(0), ValueError, "Window size", "0", "[1, "),
    (lambda: Window(-3), ValueError, "Window size", "-3", "[1, "),
    (lambda: Window(2**31), ValueError, "Window size", str(2**31), "[1, "),
    (lambda: Window(2.0), TypeError, "Window size", "2.0", "integer"),
    (lambda: Window(True), TypeError, "Window size", "True", "integer"),
    (lambda: Window(None), TypeError, "Window size", "None", "integer"),
    (lambda: Window(()), ValueError, "Window size", "empty tuple", ""),
    (lambda: Window((4, 0)), ValueError, "Window size", "0", "[1, "),
    (lambda: Window(4, sink_tokens=-1), ValueError, "sink_tokens", "-1", "[0, "),
    (lambda: Window(4, sink_tokens=(1, -2)), ValueError, "sink_tokens", "-2", "[0, "),
    (lambda: Band(-1, 0), ValueError, "Band left", "-1", "Band.from_flash"),
    (lambda: Band(0, -1), ValueError, "Band right", "-1", "Band.from_flash"),
    (lambda: Band((3, -1), 0), ValueError, "Band left", "-1", "Band.from_flash"),
    (lambda: Band(1, 1, sink_tokens=-5), ValueError, "sink_tokens", "-5", "[0, "),
    (lambda: Band("all", 0), TypeError, "Band left", "'all'", "None"),
    (lambda: Groups(0), ValueError, "Groups size", "0", "[1, "),
    (
        lambda: Groups(2**30, back=2).rule(0),
        NotImplementedError, "2 groups", f"{2**30}", "2147483647",
    ),
    (lambda: Groups(2, back=-1), ValueError, "Groups back", "-1", "[0, "),
    (lambda: Groups(2, back=None), TypeError, "Groups back", "None", "integer"),
    (lambda: Groups((2, -2)), ValueError, "Groups size", "-2", "[1, "),
    (lambda: Groups(3, causal="no"), TypeError, "Groups causal", "'no'", "True or False"),
    (lambda: Groups(3, causal=1), TypeError, "Groups causal", "1", "True or False"),
    (lambda: Groups(3, causal=None), TypeError, "Groups causal", "None", "True or False"),
    (lambda: Band.from_flash((3, 0), "no"), TypeError, "causal", "'no'", "True or False"),
    (lambda: Groups(3, shift=0.5), TypeError, "Groups shift", "0.5", "integer"),
    (lambda: Prefix(-1), ValueError, "Prefix length", "-1", "[0, "),
    (lambda: Prefix(None), TypeError, "Prefix length", "None", "integer"),
]


@pytest.mark.parametrize("make, exception, name, value, accepted", BAD_VALUES)
def test_bad_values_are_named(make, exception, name, value, accepted):
    with pytest.raises(exception) as error:
        make()
    message = str(error.value)
    assert name in message and value in message and accepted in message, message
