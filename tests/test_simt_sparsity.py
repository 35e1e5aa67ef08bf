# SPDX-License-Identifier: BSD-3-Clause
"""The CUDA kernels multiply exactly the tiles that hold a visible pair: forward, dq, dk and dv."""

import pytest
import torch

import inputs
import longattn
from cases import CORNER, DILATED, RAGGED, REGULAR, Case
from longattn.masks import Causal, Window
from test_simt import runs
from visits import wrong_visits


def check(simt, case, function):
    """Forward and backward of `function` visit the tiles that the case shows, and no others."""
    tensors = inputs.qkv(case, torch.bfloat16, grain=8)
    dim = max(tensor.shape[-1] for tensor in tensors)
    simt.take_visits(dim)
    out = function(*tensors)
    torch.autograd.grad(out, tensors, torch.ones_like(out), allow_unused=True)
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


@pytest.mark.parametrize("head_dim", [64, 128])
def test_every_configuration_skips(simt, head_dim):
    """Long enough that skipping shows."""

    def visits(mask):
        case = Case(f"skip {head_dim}", mask, 700, q_heads=2, kv_heads=1, head_dim=head_dim)
        found = check(simt, case, lambda *t: longattn.attention(*t, mask, backend="simt"))
        return sum(counted for _, _, counted in found.values())

    assert visits(Window(40, sink_tokens=3)) < visits(Causal()) / 2
