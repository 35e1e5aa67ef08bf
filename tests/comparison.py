# SPDX-License-Identifier: BSD-3-Clause
"""One comparison for every test: a call, forward and backward, against its reference twin."""

import dataclasses
import math
from unittest import mock

import torch

import closeness
import inputs
from longattn.reference import softmax


@dataclasses.dataclass
class Results:
    out: torch.Tensor
    lse: torch.Tensor
    gradients: tuple  # of q, k, v


def results(function, tensors, arguments, d_out, d_lse) -> Results:
    """Forward, then backward with gradients of both outputs."""
    out, lse = function(*tensors, return_lse=True, **arguments)
    gradients = torch.autograd.grad((out, lse), tensors, (d_out, d_lse), allow_unused=True)
    gradients = tuple(
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(tensors, gradients)
    )
    return Results(out.detach(), lse.detach(), gradients)


def output_gradients(tensors, key) -> tuple:
    """Gradients of out and lse for [..., rows, heads, dim] tensors, as hostile as the inputs."""
    q, _, v = tensors
    lse_dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    out_shape = q.shape[:-1] + v.shape[-1:]
    lse_shape = q.shape[:-3] + (q.shape[-2], q.shape[-3])
    d_out = inputs.random(out_shape, q.dtype, key, "d_out", transposed=True)
    d_lse = inputs.random(lse_shape, lse_dtype, key, "d_lse")
    return d_out, d_lse


def plain(tensor, dtype=None) -> torch.Tensor:
    """A contiguous leaf with the same numbers: what the reference gets."""
    return (
        tensor.detach()
        .to(dtype or tensor.dtype)
        .clone(memory_format=torch.contiguous_format)
        .requires_grad_(tensor.requires_grad)
    )


class DeltaForm(torch.autograd.Function):
    """The reference's attention with the backward formula that every tiled engine uses.

    Weights are made again from lse, in base 2, and d_scores = weights * (d_weights - delta) with
    delta = rowsum(d_out * out) - d_lse subtracts large numbers where autograd subtracts small
    ones, summed in an order of its own. In float32, where no rounding of the result hides it, this
    error is eager error too.
    """

    @staticmethod
    def forward(ctx, q, k, v, counts, softmax_scale):
        out, lse = ATTEND(q, k, v, counts, softmax_scale)
        ctx.save_for_backward(q, k, v, counts, out, lse)
        ctx.scale = q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale
        return out, lse

    @staticmethod
    def backward(ctx, d_out, d_lse):
        q, k, v, counts, out, lse = ctx.saved_tensors
        group = q.shape[2] // k.shape[2]
        keys, values = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
        scores = torch.einsum("bihd,bjhd->bhij", q, keys) * (ctx.scale * LOG2_E)
        shift = lse.masked_fill(lse == -math.inf, math.inf) * LOG2_E  # empty rows weigh nothing
        weights = counts * (scores - shift[..., None]).exp2()
        delta = (d_out * out).cumsum(-1)[..., -1].transpose(1, 2) - d_lse
        d_weights = torch.einsum("bihd,bjhd->bhij", d_out, values)
        d_scores = weights * (d_weights - delta[..., None]) * ctx.scale
        dq = torch.einsum("bhij,bjhd->bihd", d_scores, keys)
        dk = torch.einsum("bhij,bihd->bjhd", d_scores, q).unflatten(2, (-1, group)).sum(3)
        dv = torch.einsum("bhij,bihd->bjhd", weights, d_out).unflatten(2, (-1, group)).sum(3)
        return dq, dk, dv, None, None


def delta_form(q, k, v, counts, softmax_scale, bias=None, softcap=None, sink_logits=None):
    assert bias is None and softcap is None and sink_logits is None, "see test_scores.py"
    return DeltaForm.apply(q, k, v, counts, softmax_scale)


class DeltaWeights(torch.autograd.Function):
    """The same for scores that are made otherwise; v has a head for each query head."""

    @staticmethod
    def forward(ctx, scores, v, counts):
        out, lse = WEIGH(scores, v, counts)
        ctx.save_for_backward(scores, v, counts, out, lse)
        return out, lse

    @staticmethod
    def backward(ctx, d_out, d_lse):
        scores, v, counts, out, lse = ctx.saved_tensors
        shift = lse.masked_fill(lse == -math.inf, math.inf) * LOG2_E  # empty rows weigh nothing
        weights = counts * (scores * LOG2_E - shift[..., None]).exp2()
        delta = (d_out * out).cumsum(-1)[..., -1].transpose(1, 2) - d_lse
        d_weights = torch.einsum("bihd,bjhd->bhij", d_out, v)
        dv = torch.einsum("bhij,bihd->bjhd", weights, d_out)
        return weights * (d_weights - delta[..., None]), dv, None


def delta_weights(scores, v, counts, bias=None, softcap=None, sink_logits=None):
    assert bias is None and softcap is None and sink_logits is None, "see test_scores.py"
    return DeltaWeights.apply(scores, v, counts)


ATTEND, WEIGH = softmax.attend, softmax.weigh
LOG2_E = math.log2(math.e)


def compare(function, theirs, tensors, arguments, key, slack=0.0, rounding=0.0) -> Results:
    """Assert that `function` equals `theirs`, its twin in the reference. Returns the truth."""
    dtype = tensors[0].dtype
    d_out, d_lse = output_gradients(tensors, key)

    def reference_results(dtype):
        leaves = [plain(tensor, dtype) for tensor in tensors]
        lse_dtype = torch.float64 if dtype == torch.float64 else d_lse.dtype
        return results(theirs, leaves, arguments, plain(d_out, dtype), plain(d_lse, lse_dtype))

    actual = results(function, tensors, arguments, d_out, d_lse)
    exact = reference_results(torch.float64)
    eager = [reference_results(dtype)]
    if dtype == torch.float32:
        with mock.patch.multiple(softmax, attend=delta_form, weigh=delta_weights):
            eager.append(reference_results(dtype))
    check(actual, eager, exact, tensors, arguments.get("softmax_scale"), slack, rounding)
    return exact


def check(actual, eager, exact, tensors, softmax_scale=None, slack=0.0, rounding=0.0) -> None:
    """out, lse and gradients of `actual` by the rule of closeness, empty rows exactly."""
    q = tensors[0]
    assert actual.out.dtype == q.dtype, f"out is {actual.out.dtype} for inputs of {q.dtype}"
    expected = torch.float64 if q.dtype == torch.float64 else torch.float32
    assert actual.lse.dtype == expected, f"lse is {actual.lse.dtype} for inputs of {q.dtype}"

    closeness.assert_close(actual.out, [twin.out for twin in eager], exact.out, "out", slack)
    largest = largest_score(tensors, softmax_scale)
    closeness.assert_lse_close(actual.lse, exact.lse, largest, rounding)
    for i, (name, tensor) in enumerate(zip(("dq", "dk", "dv"), tensors)):
        ours, truth = actual.gradients[i], exact.gradients[i]
        assert ours.dtype == tensor.dtype, f"{name} is {ours.dtype} for inputs of {tensor.dtype}"
        closeness.assert_close(ours, [twin.gradients[i] for twin in eager], truth, name, slack)

    empty = (exact.lse == -math.inf).transpose(-1, -2)  # [..., rows, heads]
    closeness.assert_zero(actual.out, empty, "out")
    closeness.assert_zero(actual.gradients[0], empty, "dq")


def largest_score(tensors, softmax_scale=None) -> float:
    """max |score| over all queries and keys, visible or not."""
    q, k, _ = (tensor.detach().double() for tensor in tensors)
    if q.numel() == 0 or k.numel() == 0:
        return 0.0
    k = k.repeat_interleave(q.shape[-2] // k.shape[-2], dim=-2)
    scale = q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale
    return (scale * torch.einsum("...ihd,...jhd->...hij", q, k)).abs().max().item()
