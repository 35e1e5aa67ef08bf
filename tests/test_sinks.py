# SPDX-License-Identifier: BSD-3-Clause
"""Sink logits: conventions of others, and partials that take them in or give them back."""

import math

import pytest
import torch

import longattn
from longattn import reference, sinks
from longattn.masks import Causal, Window


def qkv(dtype=torch.float64, q_len=9, kv_len=9):
    torch.manual_seed(5)
    return tuple(torch.randn(2, n, 4, 8, dtype=dtype) for n in (q_len, kv_len, kv_len))


def test_taking_sinks_in_and_giving_them_back():
    tensors, logits = qkv(q_len=11, kv_len=6), torch.randn(4, dtype=torch.float64)
    plain = longattn.attention(*tensors, Causal(), return_lse=True)  # five rows see nothing
    with_sinks = longattn.attention(*tensors, Causal(), sink_logits=logits, return_lse=True)
    for ours, expected in zip(sinks.with_sinks(*plain, logits), with_sinks):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    for ours, expected in zip(sinks.without_sinks(*with_sinks, logits), plain):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


def test_partials_merge_first_and_take_the_sink_once():
    q, k, v = qkv()
    logits = torch.randn(4, dtype=torch.float64)
    mask = Causal()
    first = longattn.attention(q, k[:, :4], v[:, :4], mask, q_start=0, return_lse=True)
    second = longattn.attention(q, k[:, 4:], v[:, 4:], mask, q_start=0, k_start=4, return_lse=True)
    merged = longattn.merge_partials(*zip(first, second))
    out, lse = sinks.with_sinks(*merged, logits)
    expected = reference.attention(q, k, v, mask, sink_logits=logits, return_lse=True)
    torch.testing.assert_close((out, lse), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("function", [sinks.with_sinks, sinks.without_sinks])
def test_gradients_of_the_conversions(function):
    out = torch.randn(1, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    lse = torch.tensor([[[0.5, 2.0, 1.0], [3.0, 0.1, 0.7]]], dtype=torch.float64).requires_grad_()
    logits = torch.tensor([-1.0, -0.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (out, lse, logits))


def test_gradients_at_rows_that_see_nothing_are_not_nan():
    out = torch.zeros(1, 1, 1, 2, requires_grad=True)
    empty = torch.full((1, 1, 1), -math.inf, requires_grad=True)
    logits = torch.zeros(1, requires_grad=True)
    taken, lse = sinks.with_sinks(out, empty, logits)
    back, back_lse = sinks.without_sinks(taken, lse, logits)
    assert lse.item() == 0.0 and back_lse.item() == -math.inf and not back.any()
    for gradient in torch.autograd.grad(lse.sum() + taken.sum() + back.sum(), (out, empty, logits)):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("gap", [1e-3, 1e-2, 0.1, 0.7, 2.0, 20.0, 80.0])
def test_giving_a_sink_back_keeps_the_digits_that_are_there(gap):
    """A sink's share near 1, and near 0: against the same numbers in float64."""
    lse = torch.tensor([[[gap]]])
    out, logits = torch.ones(1, 1, 1, 1), torch.zeros(1)
    back, back_lse = sinks.without_sinks(out, lse, logits)
    exact, exact_lse = sinks.without_sinks(*(t.double() for t in (out, lse, logits)))
    torch.testing.assert_close(back.double(), exact, rtol=3e-7, atol=0)
    torch.testing.assert_close(back_lse.double(), exact_lse, rtol=3e-7, atol=3e-7)
    share = math.exp(-lse.item())
    torch.testing.assert_close(exact.item(), 1 / (1 - share), rtol=1e-12, atol=0)


def test_null_keys_where_they_are_wanted():
    logits = sinks.from_null_keys(2.5, 3, dtype=torch.float64, device="cpu")
    assert logits.dtype == torch.float64 and logits.tolist() == [math.log(2.5)] * 3
    assert sinks.from_null_keys(1, 3, device="meta").device.type == "meta"


def test_conventions_of_others():
    q, k, v = qkv()
    scale = 8**-0.5
    scores = torch.einsum("bihd,bjhd->bhij", q, k) * scale
    scores = scores.masked_fill(torch.ones(9, 9).triu(1).bool(), -math.inf)
    exponentials = scores.exp()

    def off_by(count):
        weights = exponentials / (count + exponentials.sum(-1, keepdim=True))
        return torch.einsum("bhij,bjhd->bihd", weights, v)

    for count in (1, 3.5):
        logits = sinks.from_null_keys(count, 4)
        ours = longattn.attention(q, k, v, Causal(), sink_logits=logits.double())
        torch.testing.assert_close(ours, off_by(count), rtol=0, atol=1e-7)
    logits = torch.randn(4, dtype=torch.float64)
    assert torch.allclose(sinks.from_log2(sinks.to_log2(logits)), logits)
    assert torch.allclose((2 ** sinks.to_log2(logits)).log(), logits)
    assert torch.allclose(sinks.from_unscaled(sinks.to_unscaled(logits, scale), scale), logits)


def test_bad_input():
    out, lse = torch.zeros(1, 3, 2, 4), torch.zeros(1, 2, 3)
    with pytest.raises(ValueError, match=r"\[2\].*got \(3,\)"):
        sinks.with_sinks(out, lse, torch.zeros(3))
    with pytest.raises(ValueError, match=r"q_heads, q_len\], got .*\(1, 3, 2\)"):
        sinks.with_sinks(out, lse.transpose(1, 2), torch.zeros(2))
    with pytest.raises(ValueError, match="greater than 0, got 0"):
        sinks.from_null_keys(0, 4)
    for count, exception in ((math.inf, ValueError), (math.nan, ValueError), ("1", TypeError)):
        with pytest.raises(exception, match=f"count must be .*greater than 0, got .*{count}"):
            sinks.from_null_keys(count, 4)
    with pytest.raises(ValueError, match="softmax_scale of 0"):
        sinks.to_unscaled(torch.zeros(2), 0.0)
    with pytest.raises(TypeError, match="q_heads must be an integer.*0.5"):
        sinks.from_null_keys(1, 0.5)
    for convert in (sinks.from_unscaled, sinks.to_unscaled):
        with pytest.raises(TypeError, match="softmax_scale.*'1'"):
            convert(torch.zeros(2), "1")
        with pytest.raises(TypeError, match="softmax_scale must be a number, got None"):
            convert(torch.zeros(2), None)
        with pytest.raises(TypeError, match="logits must be a torch.Tensor, got list"):
            convert([0.0], 1.0)
    for convert in (sinks.from_log2, sinks.to_log2):
        with pytest.raises(TypeError, match="logits must be a torch.Tensor, got list"):
            convert([0.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_sink_of_minus_infinity_is_no_sink(dtype):
    tensors = qkv(dtype)
    none = torch.full((4,), -math.inf)
    plain = longattn.attention(*tensors, Window(4), return_lse=True)
    ours = longattn.attention(*tensors, Window(4), sink_logits=none, return_lse=True)
    assert torch.equal(ours[0], plain[0]) and torch.equal(ours[1], plain[1])
