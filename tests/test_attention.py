# SPDX-License-Identifier: BSD-3-Clause
"""attention: every case in every dtype, forward and backward, against the float64 reference."""

import math

import pytest
import torch

import closeness
import comparison
import inputs
import longattn
from cases import SMALL, Case
from longattn import reference
from longattn.masks import Causal, Full, Window

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
CAUSAL = Case("one causal call", Causal(), 67, 90, q_heads=4, kv_heads=2)


def dtype_name(dtype):
    return str(dtype).removeprefix("torch.")


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_attention(case, dtype):
    tensors = inputs.qkv(case, dtype)

    def ours(q, k, v, **arguments):
        return longattn.attention(q, k, v, case.mask, **arguments)

    def theirs(q, k, v, **arguments):
        return reference.attention(q, k, v, case.mask, **arguments)

    comparison.compare(ours, theirs, tensors, inputs.call_arguments(case), case.name)


def test_out_alone_is_the_same_out():
    q, k, v = inputs.qkv(CAUSAL, torch.float32)
    out, _ = longattn.attention(q, k, v, Causal(), return_lse=True)
    alone = longattn.attention(q, k, v, Causal())
    assert isinstance(alone, torch.Tensor) and torch.equal(alone, out)


def test_shapes_and_dtypes_of_the_results():
    q, k, v = torch.randn(2, 5, 6, 8), torch.randn(2, 9, 3, 8), torch.randn(2, 9, 3, 11)
    for dtype in DTYPES:
        out, lse = longattn.attention(
            q.to(dtype), k.to(dtype), v.to(dtype), Causal(), return_lse=True
        )
        assert out.shape == (2, 5, 6, 11) and out.dtype == dtype
        assert lse.shape == (2, 6, 5)
        assert lse.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_packed_shapes():
    q, k, v = torch.randn(7, 6, 8), torch.randn(12, 3, 8), torch.randn(12, 3, 4)
    out, lse = longattn.attention(
        q,
        k,
        v,
        Causal(),
        cu_seqlens_q=torch.tensor([0, 3, 7]),
        cu_seqlens_k=torch.tensor([0, 8, 12]),
        return_lse=True,
    )
    assert out.shape == (7, 6, 4) and lse.shape == (6, 7)


def test_cu_seqlens_of_both_integer_types():
    x = torch.randn(70, 2, 16)
    ends = inputs.boundaries((3, 0, 67))
    expected = longattn.attention(x, x, x, Causal(), cu_seqlens_q=ends, cu_seqlens_k=ends)
    actual = longattn.attention(
        x, x, x, Causal(), cu_seqlens_q=ends.long(), cu_seqlens_k=torch.stack((ends, ends), 1)[:, 0]
    )
    assert torch.equal(actual, expected)


def test_packed_equals_one_call_a_sequence_bit_for_bit():
    lengths = (61, 1, 0, 130)
    x = torch.randn(sum(lengths), 4, 32)
    packed = longattn.attention(x, x, x, Window(20), **inputs.packed_by(lengths))
    alone = [longattn.attention(s[None], s[None], s[None], Window(20))[0] for s in x.split(lengths)]
    assert torch.equal(packed, torch.cat(alone))


def test_neighbours_in_a_packed_batch_do_not_leak_even_if_nan():
    """NaN and inf in one sequence stay there, forward and backward."""
    lengths = (50, 30, 41)
    clean = torch.randn(sum(lengths), 2, 32)
    dirty = clean.clone()
    dirty[50:80] = torch.tensor([float("nan"), float("inf")])[torch.arange(32) % 2]
    results = []
    for x in (clean, dirty):
        q, k, v = (x.clone().requires_grad_() for _ in range(3))
        out, lse = longattn.attention(
            q, k, v, Causal(), return_lse=True, **inputs.packed_by(lengths)
        )
        gradients = torch.autograd.grad(
            (out, lse), (q, k, v), (torch.ones_like(out), torch.ones_like(lse))
        )
        results.append((out, lse.T, *gradients))
    for expected, actual in zip(*results):
        for rows in (slice(0, 50), slice(80, 121)):
            assert actual[rows].isfinite().all() and torch.equal(actual[rows], expected[rows])


def test_causality_by_perturbation():
    """Changing position t changes no row before t, and row t itself."""
    x = torch.randn(1, 140, 2, 16)
    before = longattn.attention(x, x, x, Causal())
    for t in (1, 63, 64, 127, 128, 139):
        other = x.clone()
        other[:, t] += 1.0
        after = longattn.attention(other, other, other, Causal())
        assert torch.equal(after[:, :t], before[:, :t])
        assert (after[:, t] != before[:, t]).any()


def test_the_last_query_stands_at_the_last_key():
    """Bottom-right alignment: a decode step is the last row of the prefill."""
    q, k, v = (torch.randn(2, 133, 2, 16, dtype=torch.float64) for _ in range(3))
    prefill = longattn.attention(q, k, v, Window(30, sink_tokens=2))
    step = longattn.attention(q[:, -1:], k, v, Window(30, sink_tokens=2))
    torch.testing.assert_close(step, prefill[:, -1:], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_rows_that_see_nothing(dtype):
    q, k, v = (torch.randn(1, n, 2, 32, dtype=dtype, requires_grad=True) for n in (150, 40, 40))
    out, lse = longattn.attention(q, k, v, Causal(), return_lse=True)
    empty = 150 - 40
    assert (out[:, :empty] == 0).all() and (lse[:, :, :empty] == -math.inf).all()
    assert lse[:, :, empty:].isfinite().all()
    d_lse = torch.full_like(lse, 3.0)
    dq, dk, dv = torch.autograd.grad((out, lse), (q, k, v), (torch.ones_like(out), d_lse))
    assert (dq[:, :empty] == 0).all() and (dq[:, empty:] != 0).any()
    assert dk.isfinite().all() and dv.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_nan_is_not_mistaken_for_a_row_that_sees_nothing(dtype):
    """A NaN query gives NaN, in out and in lse, and harms no other row."""
    q, k, v = (torch.randn(1, 70, 2, 16).to(dtype) for _ in range(3))
    q[0, 3, 0, 5] = float("nan")
    out, lse = longattn.attention(q, k, v, Causal(), return_lse=True)
    assert out[0, 3, 0].isnan().all() and lse[0, 0, 3].isnan()
    others = torch.ones(70, 2, dtype=torch.bool)
    others[3, 0] = False
    assert out[0, others].isfinite().all() and lse[0].T[others].isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_uniform_scores_give_the_mean(dtype):
    """Zero queries see all keys alike: a result known without any reference."""
    q = torch.zeros(1, 3, 1, 8, dtype=dtype)
    k = torch.randn(1, 256, 1, 8).to(dtype)
    v = torch.arange(256).to(dtype)[None, :, None, None].expand(1, 256, 1, 8).contiguous()
    out, lse = longattn.attention(q, k, v, Full(), return_lse=True)
    assert (out - 127.5).abs().max() <= 0.5 * (dtype == torch.bfloat16)
    assert lse.flatten().tolist() == pytest.approx([math.log(256)] * 3, abs=1e-6)


def test_gradients_that_arrive_as_expanded_views():
    """sum().backward() sends a gradient of stride 0."""
    tensors = inputs.qkv(CAUSAL, torch.float32)
    longattn.attention(*tensors, Causal()).sum().backward()
    ours = [tensor.grad for tensor in tensors]
    copies = [comparison.plain(tensor) for tensor in tensors]
    reference.attention(*copies, Causal()).sum().backward()
    for actual, expected in zip(ours, copies):
        torch.testing.assert_close(actual, expected.grad, rtol=1e-4, atol=1e-5)


def test_lse_alone_has_a_gradient():
    tensors = inputs.qkv(CAUSAL, torch.float64)
    _, lse = longattn.attention(*tensors, Causal(), return_lse=True)
    dq, dk, dv = torch.autograd.grad(lse.sum(), tensors, allow_unused=True)
    copies = [comparison.plain(tensor) for tensor in tensors]
    _, lse = reference.attention(*copies, Causal(), return_lse=True)
    expected_dq, expected_dk = torch.autograd.grad(lse.sum(), copies[:2])
    torch.testing.assert_close(dq, expected_dq, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(dk, expected_dk, rtol=1e-10, atol=1e-10)
    assert dv is None or (dv == 0).all()


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2), (1, 2)], ids=str)
def test_gradients_of_some_inputs_only(wanted):
    tensors = inputs.qkv(CAUSAL, torch.float64, requires_grad=False)
    for index in wanted:
        tensors[index].requires_grad_()
    longattn.attention(*tensors, Causal()).square().sum().backward()
    copies = [comparison.plain(tensor) for tensor in tensors]
    reference.attention(*copies, Causal()).square().sum().backward()
    for index, (actual, expected) in enumerate(zip(tensors, copies)):
        assert (actual.grad is not None) == (index in wanted)
        if index in wanted:
            torch.testing.assert_close(actual.grad, expected.grad, rtol=1e-10, atol=1e-10)


def test_expanded_keys_are_read_through_stride_zero():
    """One key head shared by a batch as an expanded view: legal on the CPU."""
    q, k, v = torch.randn(3, 40, 2, 16), torch.randn(1, 50, 2, 16), torch.randn(1, 50, 2, 16)
    expected = longattn.attention(q, k.repeat(3, 1, 1, 1), v.repeat(3, 1, 1, 1), Causal())
    actual = longattn.attention(q, k.expand(3, -1, -1, -1), v.expand(3, -1, -1, -1), Causal())
    assert torch.equal(actual, expected)


def test_slices_of_one_projection():
    """q, k and v cut from one [batch, length, 3, heads, dim] tensor, as models do."""
    qkv = torch.randn(2, 70, 3, 4, 32, dtype=torch.float64, requires_grad=True)
    longattn.attention(*qkv.unbind(2), Causal()).square().sum().backward()
    actual, qkv.grad = qkv.grad, None
    reference.attention(*qkv.unbind(2), Causal()).square().sum().backward()
    torch.testing.assert_close(actual, qkv.grad, rtol=1e-10, atol=1e-10)


def test_inputs_are_left_alone():
    tensors = inputs.qkv(CAUSAL, torch.float32)
    before = [tensor.detach().clone() for tensor in tensors]
    longattn.attention(*tensors, Causal()).sum().backward()
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(tensors, before))


def test_the_rule_of_closeness_can_fail():
    """The harness itself: a wrong element, a NaN, and a wrongly empty row are all caught."""
    exact = torch.randn(4, 5, dtype=torch.float64)
    eager = [exact.float()]
    closeness.assert_close(exact.float(), eager, exact, "out")
    wrong = exact.float()
    wrong[2, 3] += 1e-4
    with pytest.raises(AssertionError, match=r"out: error .* exceeds .* at \(2, 3\)"):
        closeness.assert_close(wrong, eager, exact, "out")
    wrong[2, 3] = float("nan")
    with pytest.raises(AssertionError, match=r"1 of 20 elements are not finite, first at \(2, 3\)"):
        closeness.assert_close(wrong, eager, exact, "out")
    empty = exact.clone()
    empty[1] = -math.inf
    with pytest.raises(AssertionError, match="5 of 20 rows are empty on one side only"):
        closeness.assert_lse_close(exact.float(), empty, 1.0)
    with pytest.raises(AssertionError, match="rows that see nothing"):
        closeness.assert_zero(exact, empty == -math.inf, "out")


def test_hostile_inputs_are_hostile():
    values = torch.randn(2, 3, 4, 5)
    for order in (None, (0, 2, 1, 3), (1, 2, 0, 3)):
        view = inputs.hostile(values, order)
        assert torch.equal(view, values) and view.stride(-1) == 1
        assert not view.is_contiguous()
        everything = torch.tensor([]).set_(view.untyped_storage())
        assert everything.isnan().sum() == everything.numel() - values.numel()
        assert everything[: view.storage_offset()].isnan().all() and view.storage_offset() > 0
