# SPDX-License-Identifier: BSD-3-Clause
"""Whether two views share elements: told by strides, against the elements themselves."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longattn.rotary.memory import shares_elements

BASE = torch.arange(2 * 5 * 6 * 8).reshape(2, 5, 6, 8)


@st.composite
def views(draw, permuted):
    """A part of BASE, every dimension cut or taken in steps."""
    view = BASE.permute(0, 2, 1, 3) if permuted else BASE
    for dim, size in enumerate(view.shape):
        begin = draw(st.integers(0, size - 1))
        view = view.narrow(dim, begin, draw(st.integers(1, size - begin)))
    return view


@settings(max_examples=400)
@given(st.booleans().flatmap(lambda permuted: st.tuples(views(permuted), views(permuted))))
def test_parts_of_one_tensor(pair):
    a, b = pair
    common = set(a.flatten().tolist()) & set(b.flatten().tolist())
    assert shares_elements(a, b) == bool(common)


def test_tensors_apart():
    a = torch.zeros(2, 3, 4, 8)
    assert not shares_elements(a, torch.zeros(2, 3, 4, 8))
    assert not shares_elements(a, a.new_empty(2, 0, 4, 8))
    assert shares_elements(a, a)


def test_other_strides_are_told_by_where_they_begin():
    """Not by more: two layouts of one memory are nobody's q and k."""
    a = torch.zeros(4, 4)
    assert shares_elements(a, a.T) and not shares_elements(a, a.T[1:])
