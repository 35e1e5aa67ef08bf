# SPDX-License-Identifier: BSD-3-Clause
"""The CUDA kernels multiply exactly the tiles that hold a visible pair: forward, dq, dk and dv."""

import pytest
import torch

import inputs
import longattn
from cases import CORNER, DILATED, RAGGED, REGULAR, Case
from longattn.masks import Band, Causal, Full, Groups, Prefix, Window
from test_simt import runs
from visits import wrong_visits


def check(simt, case, function, *parameters):
    """Forward and backward of `function` visit the tiles that the case shows, and no others."""
    tensors = inputs.qkv(case, torch.bfloat16, grain=8)
    dim = max(tensor.shape[-1] for tensor in tensors)
    simt.take_visits(dim)
    out = function(*tensors)
    torch.autograd.grad(out, (*tensors, *parameters), torch.ones_like(out), allow_unused=True)
    visits = simt.take_visits(dim)
    assert wrong_visits(visits, case) == ""
    return visits


@pytest.mark.parametrize("case", [c for c in REGULAR + RAGGED + CORNER if runs(c)], ids=str)
def test_visited_tiles_are_the_visible_ones(simt, case):
    def attend(*tensors):
        arguments = inputs.call_arguments(case)
        return longattn.attention(*tensors, case.mask, backend="simt", **arguments)

    check(simt, case, attend)


@pytest.mark.parametrize("case", [case for case in DILATED if runs(case)], ids=str)
def test_dilated_visits_its_residues_only(simt, case):
    def attend(*tensors):
        return longattn.dilated_attention(
            *tensors,
            segment_lengths=case.segment_lengths,
            dilation_rates=case.dilation_rates,
            causal=case.causal,
            head_offset=case.head_offset,
            q_start=case.q_start,
            k_start=case.k_start,
            backend="simt",
        )

    check(simt, case, attend)


BIASED = [
    Case("causal", Causal(), 200, q_heads=2, head_dim=16),
    Case("window with sinks", Window(50, sink_tokens=3), 300, q_heads=1, head_dim=16),
    Case("both sides", Band(40, 90), 131, 197, q_heads=2, kv_heads=1, head_dim=72),
    Case("groups", Groups(70, shift=9), 230, q_heads=1, head_dim=16),
    Case("prefix", Prefix(80), 170, q_heads=1, head_dim=16),
    Case("elsewhere", Full(), 67, 140, q_heads=2, q_start=-20, k_start=11, head_dim=16),
    Case("packed", Causal(), q_lengths=(65, 0, 130), kv_lengths=(70, 5, 140), head_dim=16),
    Case("shares", Window(30), 60, batch=9, q_heads=1, head_dim=8),
    Case("slices", Window(30), 2500, q_heads=1, head_dim=8),
]


@pytest.mark.parametrize("case", BIASED, ids=str)
def test_the_gradient_of_a_bias_visits_visible_tiles_only(simt, case):
    slopes = torch.rand(case.q_heads, requires_grad=True)

    def attend(*tensors):
        arguments = inputs.call_arguments(case)
        bias = longattn.Alibi(slopes)
        return longattn.attention(*tensors, case.mask, backend="simt", bias=bias, **arguments)

    assert check(simt, case, attend, slopes)["bias_gradient"][2] > 0


@pytest.mark.parametrize("head_dim", [64, 128])
def test_every_configuration_skips(simt, head_dim):
    """Long enough that skipping shows."""

    def visits(mask):
        case = Case(f"skip {head_dim}", mask, 700, q_heads=2, kv_heads=1, head_dim=head_dim)
        found = check(simt, case, lambda *t: longattn.attention(*t, mask, backend="simt"))
        return sum(counted for _, _, counted in found.values())

    assert visits(Window(40, sink_tokens=3)) < visits(Causal()) / 2
