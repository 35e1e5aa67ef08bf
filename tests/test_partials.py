# SPDX-License-Identifier: BSD-3-Clause
"""merge_partials: any partition of the keys, merged in any order, is the whole attention."""

import math
import random

import pytest
import torch

import inputs
import longattn
from cases import Case
from closeness import assert_zero
from longattn import reference
from longattn.masks import Band, Causal, Full, Groups, Prefix, Window

CLOSE = dict(rtol=1e-10, atol=1e-10)


def backward(out, lse, tensors):
    """Gradients of one fixed function of out and lse."""
    d_out = inputs.random(out.shape, out.dtype, "d_out")
    d_lse = inputs.random(lse.shape, lse.dtype, "d_lse")
    return torch.autograd.grad((out, lse), tensors, (d_out, d_lse))


def assert_same(actual, expected):
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


PARTITIONS = [
    (Causal(), (0, 64, 131)),
    (Causal(), (0, 1, 2, 130, 131)),
    (Causal(), (0, 0, 50, 50, 131, 131)),  # some parts have no keys
    (Full(), (0, 37, 74, 131)),
    (Window(20, sink_tokens=5), (0, 3, 40, 100, 131)),
    (Window(3), (0, 20, 21, 131)),
    (Band(7, 9), (0, 64, 128, 131)),
    (Groups(32, shift=5), (0, 50, 131)),
    (Prefix(70), (0, 60, 80, 131)),
    (Window((4, 90), sink_tokens=(2, 0)), (0, 50, 131)),
]


@pytest.mark.parametrize("merge", [longattn.merge_partials, reference.merge_partials])
@pytest.mark.parametrize("mask, borders", PARTITIONS, ids=str)
def test_shards_of_the_keys_merge_to_the_whole(mask, borders, merge):
    case = Case("partition", mask, 131, 131, batch=2)
    tensors = inputs.qkv(case, torch.float64)
    q, k, v = tensors
    whole = longattn.attention(q, k, v, mask, return_lse=True)
    parts = list(zip(borders, borders[1:]))
    random.Random(str(mask)).shuffle(parts)
    partials = [
        longattn.attention(q, k[:, a:b], v[:, a:b], mask, q_start=0, k_start=a, return_lse=True)
        for a, b in parts
    ]
    merged = merge(*zip(*partials))
    assert_same(merged, whole)
    assert_same(backward(*merged, tensors), backward(*whole, tensors))


def test_any_subsets_of_the_keys():
    """Without a causal order the parts need not be intervals."""
    tensors = inputs.qkv(Case("subsets", Full(), 40, 90), torch.float64)
    q, k, v = tensors
    whole = longattn.attention(q, k, v, Full(), return_lse=True)
    owner = torch.randint(0, 4, (90,), generator=inputs.generator("owner"))
    partials = [
        longattn.attention(q, k[:, owner == part], v[:, owner == part], Full(), return_lse=True)
        for part in (2, 0, 3, 1)
    ]
    merged = longattn.merge_partials(*zip(*partials))
    assert_same(merged, whole)
    assert_same(backward(*merged, tensors), backward(*whole, tensors))


def test_merging_is_associative():
    q, k, v = inputs.qkv(Case("associative", Full(), 9, 30), torch.float64)
    a, b, c = (
        longattn.attention(q, k[:, s], v[:, s], Full(), return_lse=True)
        for s in (slice(0, 4), slice(4, 11), slice(11, 30))
    )
    merge = longattn.merge_partials
    left = merge(*zip(merge(*zip(a, b)), c))
    right = merge(*zip(a, merge(*zip(b, c))))
    assert_same(left, right)
    assert_same(left, merge(*zip(a, b, c)))


def test_packed_partials():
    """[rows, heads, dim] with lse [heads, rows] merges like any other."""
    outs = [torch.randn(9, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    lses = [torch.randn(2, 9, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    ours, theirs = longattn.merge_partials(outs, lses), reference.merge_partials(outs, lses)
    assert_same(ours, theirs)
    assert_same(backward(*ours, (*outs, *lses)), backward(*theirs, (*outs, *lses)))


def test_one_partial_is_itself():
    out, lse = torch.randn(1, 5, 2, 4), torch.randn(1, 2, 5)
    merged = longattn.merge_partials([out], [lse])
    torch.testing.assert_close(merged, (out, lse))


def test_by_hand():
    """lse ln 3 and 0 merge to ln 4 with weights 3/4 and 1/4."""
    outs = [torch.full((1, 1, 1, 2), value) for value in (1.0, 5.0)]
    lses = [torch.full((1, 1, 1), value) for value in (math.log(3), 0.0)]
    out, lse = longattn.merge_partials(outs, lses)
    assert out.flatten().tolist() == pytest.approx([2.0, 2.0])
    assert lse.item() == pytest.approx(math.log(4))


def test_rows_that_are_empty_in_some_partials_and_in_all():
    """Empty with empty stays empty; empty with anything changes nothing; no gradient is NaN."""
    generator = inputs.generator("empty partials")
    lses = torch.randn(3, 1, 2, 7, dtype=torch.float64, generator=generator)
    lses[0, :, :, 1] = lses[1, :, :, 2] = -math.inf
    lses[:, :, :, 3] = lses[:2, :, :, 4] = -math.inf
    outs = torch.randn(3, 1, 7, 2, 5, dtype=torch.float64, generator=generator)
    outs[(lses == -math.inf).transpose(-1, -2)] = 0.0
    outs = [out.clone().requires_grad_() for out in outs]
    lses = [lse.clone().requires_grad_() for lse in lses]

    out, lse = longattn.merge_partials(outs, lses)
    assert (out[:, 3] == 0).all() and (lse[:, :, 3] == -math.inf).all()
    assert torch.equal(out[:, 4], outs[2][:, 4]) and torch.equal(lse[:, :, 4], lses[2][:, :, 4])
    assert_same((out, lse), reference.merge_partials(outs, lses))

    gradients = backward(out, lse, (*outs, *lses))
    assert all(gradient.isfinite().all() for gradient in gradients)
    for tensor, gradient in zip(lses, gradients[3:]):
        assert_zero(gradient, tensor == -math.inf, "gradient of an empty lse")
    assert_same(gradients, backward(*reference.merge_partials(outs, lses), (*outs, *lses)))


def test_gradcheck():
    outs = [torch.randn(1, 3, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    lses = [torch.randn(1, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    torch.autograd.gradcheck(
        lambda *parts: longattn.merge_partials(parts[:2], parts[2:]), (*outs, *lses)
    )


def test_large_lse_does_not_overflow():
    out = torch.ones(1, 1, 1, 1)
    for size in (1e4, -1e4):
        lses = [torch.full((1, 1, 1), size), torch.full((1, 1, 1), size - 1)]
        merged, lse = longattn.merge_partials([out, 3 * out], lses)
        assert lse.item() == pytest.approx(size + math.log1p(math.exp(-1)), rel=1e-6)
        assert merged.item() == pytest.approx(1 + 2 / (1 + math.e), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes(dtype):
    outs = [torch.randn(1, 4, 2, 8).to(dtype) for _ in range(2)]
    lses = [torch.randn(1, 2, 4) for _ in range(2)]
    out, lse = longattn.merge_partials(outs, lses)
    assert out.dtype == dtype and lse.dtype == torch.float32
    expected, _ = reference.merge_partials([out.double() for out in outs], lses)
    assert (out.double() - expected).abs().max() <= 2 * torch.finfo(
        dtype
    ).eps * expected.abs().max()


def test_mixed_dtypes_are_promoted():
    outs = [torch.randn(1, 4, 2, 8).to(dtype) for dtype in (torch.bfloat16, torch.float32)]
    lses = [torch.randn(1, 2, 4) for _ in range(2)]
    assert longattn.merge_partials(outs, lses)[0].dtype == torch.float32


def test_nothing_to_merge_is_an_error():
    with pytest.raises(ValueError):
        longattn.merge_partials([], [])


def test_bare_tensors_are_not_taken_apart():
    out, lse = torch.randn(2, 4, 2, 8), torch.randn(2, 2, 4)
    for outs, lses, name in ((out, [lse], "outs"), ([out], lse, "lses")):
        with pytest.raises(TypeError, match=f"{name} must be a list of tensors"):
            longattn.merge_partials(outs, lses)


def test_as_many_outs_as_lses():
    out, lse = torch.randn(1, 4, 2, 8), torch.randn(1, 2, 4)
    with pytest.raises(ValueError):
        longattn.merge_partials([out, out], [lse])
