# SPDX-License-Identifier: BSD-3-Clause
"""Sizes, positions and scales may be numbers of NumPy; truth values and tensors are no numbers."""

import numpy
import pytest
import torch

import longattn
from longattn.masks import Band, Causal, Groups, Prefix, Window

INTEGERS = [numpy.int8, numpy.uint8, numpy.int32, numpy.int64, numpy.uint64]
FLOATS = [numpy.float16, numpy.float32, numpy.float64]
Q = torch.randn(1, 20, 4, 8, dtype=torch.float64)


def named(kind):
    return kind.__name__


@pytest.mark.parametrize("kind", INTEGERS, ids=named)
@pytest.mark.parametrize(
    "make",
    [
        lambda number: Window(number(100), sink_tokens=number(3)),
        lambda number: Window((number(100), number(2))),
        lambda number: Band(number(100), number(127)),
        lambda number: Band((number(5), None), None, sink_tokens=number(1)),
        lambda number: Band.from_flash((number(100), number(3))),
        lambda number: Window.from_hf(number(7)),
        lambda number: Groups(number(100), shift=number(50)),
        lambda number: Prefix(number(100)),
    ],
)
def test_sizes_of_masks(make, kind):
    """They are the same masks; to the letter, since arithmetic in eight bits would wrap around."""
    mask = make(kind)
    assert mask == make(int) and repr(mask) == repr(make(int))
    assert [mask.rule(head) for head in (0, 1)] == [make(int).rule(head) for head in (0, 1)]


@pytest.mark.parametrize("kind", INTEGERS, ids=named)
@pytest.mark.parametrize(
    "call",
    [
        lambda number: longattn.attention(
            Q, Q, Q, Causal(), q_start=number(100), k_start=number(90)
        ),
        lambda number: longattn.attention(Q, Q, Q, Causal(), k_start=number(100)),
        lambda number: longattn.lambda_attention(Q, Q, Q, window=number(3), sink_tokens=number(1)),
        lambda number: longattn.dilated_attention(
            Q, Q, Q, [number(8), 100], [1, number(4)], q_start=number(5)
        ),
        lambda number: longattn.shifted_sparse_attention(Q, Q, Q, number(9)),
    ],
)
def test_positions_and_sizes_of_calls(call, kind):
    assert torch.equal(call(kind), call(int))


@pytest.mark.parametrize("kind", FLOATS, ids=named)
def test_scales(kind):
    half, expected = (
        longattn.attention(Q, Q, Q, Causal(), softmax_scale=scale) for scale in (kind(0.5), 0.5)
    )
    assert torch.equal(half, expected)
    for scale in (kind("nan"), kind("inf")):
        with pytest.raises(ValueError, match="softmax_scale must be finite"):
            longattn.attention(Q, Q, Q, Causal(), softmax_scale=scale)


@pytest.mark.parametrize("wrong", [True, numpy.bool_(True), numpy.array([3]), torch.tensor(3)])
@pytest.mark.parametrize(
    "call",
    [
        lambda wrong: Window(wrong),
        lambda wrong: Window(3, sink_tokens=(1, wrong)),
        lambda wrong: longattn.attention(Q, Q, Q, Causal(), q_start=wrong),
        lambda wrong: longattn.attention(Q, Q, Q, Causal(), softmax_scale=wrong),
        lambda wrong: longattn.dilated_attention(Q, Q, Q, [wrong], [1]),
    ],
)
def test_what_is_no_number(call, wrong):
    with pytest.raises(TypeError, match="must (be|hold) (an integer|a number|integers)"):
        call(wrong)
