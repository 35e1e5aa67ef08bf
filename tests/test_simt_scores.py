# SPDX-License-Identifier: BSD-3-Clause
"""Biases, caps and sinks in the emulated CUDA kernels: cases of the CPU, and those that only these
kernels have, with stages, shares and slices."""

import pytest
import torch

import comparison
import inputs
import longattn
from cases import Case
from longattn import reference
from longattn.masks import Causal, Groups, Window
from test_scores import EMULATED, HEADS, PATTERNS, check, two_calls
from test_simt import SCHEDULES

BFLOAT16 = torch.bfloat16


@pytest.mark.parametrize("case", EMULATED, ids=str)
@pytest.mark.parametrize(
    "bias, softcap, sinks",
    [
        ("alibi", None, False),
        ("table, two sides", None, True),
        (None, 2.5, False),
        ("kerple log", 5.0, True),
        (None, None, True),
    ],
)
def test_the_cases_of_the_cpu(simt, case, bias, softcap, sinks):
    check(case, bias, softcap, sinks, torch.bfloat16, grain=8, backend="simt")


@pytest.mark.parametrize("scale", [-0.3, 0.0])
def test_other_scales(simt, scale):
    more = dict(grain=8, backend="simt", softmax_scale=scale)
    check(EMULATED[0], "alibi", 2.0, True, torch.float16, **more)


@pytest.mark.parametrize("name", ["dilated", "dilated, from elsewhere"])
def test_dilated_score_arguments(simt, name):
    check_pattern(name, Case("pattern", Causal(), 133, 140, q_heads=4, kv_heads=2), "simt")


def check_pattern(name, case, backend):
    tensors = inputs.qkv(case, torch.bfloat16, grain=8)
    emulated = PATTERNS[name](longattn)
    ours = two_calls(lambda *qkv, **rest: emulated(*qkv, backend=backend, **rest), tensors)
    exact = two_calls(PATTERNS[name](reference), [tensor.double() for tensor in tensors])
    for actual, expected in zip(ours, exact, strict=True):
        largest = max(1.0, expected[expected.isfinite()].abs().amax().item())
        torch.testing.assert_close(actual.double(), expected.double(), rtol=0, atol=0.02 * largest)


@pytest.mark.parametrize("case", [
    Case("more sequences than shares", Window(30), 50, batch=9, q_heads=HEADS, head_dim=8),
    Case("slices of one sequence", Window(25, sink_tokens=2), 1500, q_heads=HEADS, head_dim=8),
    Case("groups that reach back", Groups(40, shift=7, back=1), 170, q_heads=HEADS, head_dim=8),
    Case("slices of packed sequences", Window(25), q_lengths=(1100, 0, 70), q_heads=HEADS,
         head_dim=8),
], ids=str)  # fmt: skip
def test_the_gradient_of_a_bias(simt, case):
    check(case, "table, two sides", 3.0, True, BFLOAT16, grain=8, backend="simt")


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("head_dim", [64, 128])
def test_any_schedule(simt, schedule, head_dim):
    """No order of threads and blocks, and no moment for copies to land, may change a bit."""
    case = Case("schedule", Window(70, sink_tokens=3), 150, q_heads=2, kv_heads=1,
                head_dim=head_dim)  # fmt: skip
    tensors = inputs.qkv(case, BFLOAT16, grain=8)
    d_out, d_lse = comparison.output_gradients(tensors, case.name)
    table = torch.linspace(-1, 1, 2 * 37).reshape(2, 37).requires_grad_()
    sinks = torch.tensor([0.5, -1.0], requires_grad=True)

    def bits(*settings):
        simt.configure(*settings)
        out, lse = longattn.attention(
            *tensors,
            case.mask,
            bias=longattn.RelativeBias(table, origin=5),
            softcap=4.0,
            sink_logits=sinks,
            return_lse=True,
            backend="simt",
        )
        leaves = (*tensors, table, sinks)
        return out, lse, *torch.autograd.grad((out, lse), leaves, (d_out, d_lse))

    for ours, plain in zip(bits(*schedule), bits("round_robin", "lazy", 1)):
        assert torch.equal(ours, plain)


@pytest.mark.parametrize("softcap", [0.01, 1.0, 88.0, 90.0, 1e3, 1e6])
def test_caps_of_any_size(simt, softcap):
    """A cap costs scores at most some 2e-5 of absolute precision, however large it is."""
    case = Case("caps", Causal(), 100, q_heads=2, head_dim=32, loudness=0.3)
    tensors = inputs.qkv(case, BFLOAT16, requires_grad=False, grain=8)
    arguments = dict(softcap=softcap, return_lse=True)
    _, lse = longattn.attention(*tensors, case.mask, backend="simt", **arguments)
    double = [tensor.double() for tensor in tensors]
    _, exact = reference.attention(*double, case.mask, **arguments)
    assert (lse - exact).abs().max() < 3e-5


@pytest.mark.parametrize("head_dim", [64, 128])
def test_a_cap_beyond_all_scores_changes_nothing(simt, head_dim):
    """Gradients go through tanh as well, whose slope is 1 there."""
    case = Case("wide cap", Window(40, sink_tokens=2), 130, q_heads=2, head_dim=head_dim)
    tensors = inputs.qkv(case, BFLOAT16, grain=8)

    def gradients(softcap):
        out = longattn.attention(*tensors, case.mask, softcap=softcap, backend="simt")
        return [out, *torch.autograd.grad(out.float().square().sum(), tensors)]

    for capped, plain in zip(gradients(1e7), gradients(None)):
        assert (capped.float() - plain.float()).abs().max() <= 2**-7 * plain.abs().max()
