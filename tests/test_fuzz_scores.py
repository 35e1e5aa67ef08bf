# SPDX-License-Identifier: BSD-3-Clause
"""Random biases, caps and sink logits on top of random masks and shapes, in float64."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import inputs
import longattn
from longattn import reference
from test_fuzz import cases


@st.composite
def biases(draw, heads):
    """(parameters, bias of parameters)"""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))

    def leaf(*shape):
        return torch.rand(shape, generator=generator, dtype=torch.float64) + 0.01

    kind = draw(st.sampled_from(["none", "alibi", "ceiling", "log", "power", "table", "sandwich"]))
    if kind == "alibi":
        return [leaf(heads)], longattn.Alibi
    if kind == "ceiling":
        ceiling, window = draw(st.integers(0, 90)), draw(st.none() | st.integers(0, 90))
        return [leaf(heads)], lambda s: longattn.Alibi(s, distance_ceiling=ceiling, window=window)
    if kind in ("log", "power"):
        return [leaf(heads), leaf(heads)], lambda a, b: longattn.Kerple(a, b, kind=kind)
    if kind == "table":
        size = draw(st.sampled_from([1, 2, 17, 130, 300]))
        origin = draw(st.integers(0, size - 1))
        return [leaf(heads, size)], lambda table: longattn.RelativeBias(table, origin=origin)
    if kind == "sandwich":
        return [], lambda: longattn.Sandwich(16)
    return [], lambda: None


@st.composite
def calls(draw):
    case = draw(cases())
    softcap = draw(st.none() | st.sampled_from([0.5, 3.0, 50.0]))
    sinks = draw(st.booleans())
    return case, draw(biases(case.q_heads)), softcap, sinks


def results(function, case, tensors, parameters, build, softcap, sinks):
    leaves = [tensor.detach().requires_grad_() for tensor in (*tensors, *parameters)]
    keywords = inputs.call_arguments(case) | {"softcap": softcap, "return_lse": True}
    if sinks is not None:
        leaves.append(sinks.detach().requires_grad_())
        keywords["sink_logits"] = leaves[-1]
    bias = build(*leaves[3 : 3 + len(parameters)])
    out, lse = function(*leaves[:3], case.mask, bias=bias, **keywords)
    finite = torch.where(lse.isinf(), 0.0, lse)
    loss = (out * torch.linspace(-1, 1, out.shape[-1])).sum() + finite.square().sum()
    if not loss.requires_grad:
        return out, lse, [None] * len(leaves)
    return out, lse, torch.autograd.grad(loss, leaves, allow_unused=True)


@settings(max_examples=150, deadline=None)
@given(call=calls())
def test_scores(call):
    case, (parameters, build), softcap, with_sinks = call
    tensors = inputs.qkv(case, torch.float64)
    sinks = torch.linspace(-2, 2, case.q_heads, dtype=torch.float64) if with_sinks else None
    rest = (case, tensors, parameters, build, softcap, sinks)
    out, lse, gradients = results(longattn.attention, *rest)
    expected_out, expected_lse, expected = results(reference.attention, *rest)
    torch.testing.assert_close(out, expected_out, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(lse, expected_lse, rtol=1e-9, atol=1e-9)
    for ours, theirs in zip(gradients, expected, strict=True):
        if ours is None or theirs is None:  # nothing depends on it: an empty call
            assert all(other is None or not other.any() for other in (ours, theirs))
            continue
        scale = max(1.0, theirs.abs().amax().item()) if theirs.numel() else 1.0
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9 * scale)
