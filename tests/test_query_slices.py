# SPDX-License-Identifier: BSD-3-Clause
"""The CPU's backward pass where heads are few: queries are cut into slices, each with a dk and dv
of the keys that it sees."""

import pytest
import torch

import comparison
import inputs
import longattn
from cases import Case, Dilated
from longattn import allocation, backends, native, reference
from longattn.attention import encode_rules
from longattn.masks import Band, Causal, Full, Groups, Mask, Prefix, Window

ROWS = 1100  # 18 tiles of queries: up to four slices
DIM = 16

CASES = [
    Case("causal", Causal(), ROWS, q_heads=1, head_dim=DIM),
    Case("full", Full(), ROWS, 300, q_heads=2, kv_heads=1, head_dim=DIM),
    Case("window", Window(70), ROWS, q_heads=1, head_dim=DIM, value_dim=24),
    Case("both sides", Band(90, 200), ROWS, q_heads=1, head_dim=DIM),
    Case("sinks apart", Window(70, sink_tokens=5), ROWS, q_heads=2, kv_heads=1, head_dim=DIM),
    Case("sinks over tiles", Window(70, sink_tokens=300), ROWS, q_heads=1, head_dim=DIM),
    Case("sinks of a group", Window(70, sink_tokens=700) & Groups(512), ROWS, q_heads=1,
         head_dim=DIM),
    Case("prefix", Prefix(400), ROWS, q_heads=1, head_dim=DIM),
    Case("heads that differ", Window((20, 900), sink_tokens=(0, 200)), ROWS, q_heads=2,
         kv_heads=1, head_dim=DIM),
    Case("half sees nothing", Causal(), ROWS, 500, q_heads=1, head_dim=DIM),
    Case("nothing sees anything", Window(5), ROWS, 60, q_heads=1, head_dim=DIM, q_start=5000),
    Case("one key", Full(), ROWS, 1, q_heads=1, head_dim=DIM),
    Case("packed", Window(70, sink_tokens=3), q_lengths=(600, 0, 500), kv_lengths=(700, 9, 500),
         q_heads=1, head_dim=DIM),
]  # fmt: skip
DILATED = [
    Dilated("two heads of two residues", (1100,), (2,), 1100, q_heads=2, kv_heads=1, head_dim=DIM),
    Dilated("three segments", (1024, 400), (1, 1), 1100, q_heads=1, head_dim=DIM, q_start=100,
            k_start=100),
    Dilated("two-sided", (2200,), (3,), 2200, q_heads=3, kv_heads=1, head_dim=DIM, causal=False),
]  # fmt: skip


@pytest.fixture(autouse=True)
def memory_full_of_nan(monkeypatch):
    def full_of_nan(like, shape, dtype=None):
        return like.new_full((shape,) if isinstance(shape, int) else shape, torch.nan, dtype=dtype)

    monkeypatch.setattr(allocation, "empty", full_of_nan)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_attention(case, dtype):
    def ours(q, k, v, **arguments):
        return longattn.attention(q, k, v, case.mask, **arguments)

    def theirs(q, k, v, **arguments):
        return reference.attention(q, k, v, case.mask, **arguments)

    tensors, arguments = inputs.qkv(case, dtype), inputs.call_arguments(case)
    comparison.compare(ours, theirs, tensors, arguments, case.name)


@pytest.mark.parametrize("case", DILATED, ids=str)
def test_dilated_attention(case):
    arguments = dict(
        segment_lengths=case.segment_lengths,
        dilation_rates=case.dilation_rates,
        causal=case.causal,
        head_offset=case.head_offset,
        q_start=case.q_start,
        k_start=case.k_start,
    )
    comparison.compare(
        longattn.dilated_attention,
        reference.dilated_attention,
        inputs.qkv(case, torch.float32),
        arguments,
        case.name,
    )


def test_the_gradient_of_a_bias():
    slopes = torch.full((2,), 0.1, dtype=torch.float64, requires_grad=True)
    shape = (1, ROWS, 2, DIM)
    q, k, v = (inputs.random(shape, torch.float64, "sliced bias", name) for name in "qkv")

    def gradient(attention):
        out = attention(q, k, v, Window(70, sink_tokens=5), bias=longattn.Alibi(slopes))
        return torch.autograd.grad(out.square().sum(), slopes)[0]

    torch.testing.assert_close(gradient(longattn.attention), gradient(reference.attention))


def rows_of_workspace(mask: Mask, rows: int) -> float:
    """Of dk, or dv, for each row of keys."""
    x = torch.empty(1, rows, 1, DIM)
    layout = native.Layout(native.BATCH, 1, rows, rows, 0, 0)
    engine, rules = backends.get("cpu").engine, encode_rules(mask, 1)
    return engine.backward_sizes(x, x, x, layout, rules, native.Scores(1.0))[0] / (2 * DIM * rows)


@pytest.mark.parametrize("mask, most", [
    (Window(128), 0.8),  # three slices of a quarter each
    (Window(128, sink_tokens=64), 0.8),
    (Groups(1024), 0.8),
    (Causal(), 0.5**0.5 + 0.75**0.5 + 0.5 + 0.01),  # of equal work; the last adds at home
    (Full(), 3.0),
], ids=repr)  # fmt: skip
def test_the_workspace_holds_what_slices_see(mask, most):
    assert 0.5 < rows_of_workspace(mask, 2**17) <= most


def test_heads_enough_need_no_slices():
    x = torch.empty(1, ROWS, 8, DIM)
    layout = native.Layout(native.BATCH, 1, ROWS, ROWS, 0, 0)
    engine, rules = backends.get("cpu").engine, encode_rules(Causal(), 8)
    assert engine.backward_sizes(x, x, x, layout, rules, native.Scores(1.0)) == (0, 1)
