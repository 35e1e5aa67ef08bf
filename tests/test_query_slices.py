# SPDX-License-Identifier: BSD-3-Clause
"""The CPU's backward pass where heads are few: queries are cut into slices, each with a dk and dv
of the keys that it sees."""

import pytest
import torch

import comparison
import inputs
import longattn
from allocations import peak_bytes
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
    Case("heads enough", Window(70, sink_tokens=5), 200, q_heads=16, kv_heads=8, head_dim=DIM),
    Case("heads enough, unseen rows", Causal(), 130, 40, batch=8, q_heads=1, head_dim=DIM),
    Case("heads enough, no keys", Causal(), 130, 0, batch=8, q_heads=1, head_dim=DIM),
    Case("packed heads", Causal(), q_lengths=(60, 0, 7), kv_lengths=(7, 9, 70), q_heads=8,
         head_dim=DIM),
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


def problem(mask: Mask, rows: int, heads: int = 1, dtype=torch.float32) -> tuple:
    x = torch.randn(1, rows, heads, DIM).to(dtype)
    layout = native.Layout(native.BATCH, 1, rows, rows, 0, 0)
    return x, x, x, layout, encode_rules(mask, heads), native.Scores(1.0)


def rows_of_workspace(mask: Mask, rows: int, **asked) -> float:
    """Of dk, or dv, for each row of keys."""
    engine = backends.get("cpu").engine
    return engine.backward_sizes(*problem(mask, rows), **asked)[0] / (2 * DIM * rows)


@pytest.mark.parametrize("mask, most", [
    (Window(128), 0.8),  # three slices of a quarter each
    (Window(128, sink_tokens=64), 0.8),
    (Groups(1024), 0.8),
    (Causal(), 0.5**0.5 + 0.75**0.5 + 0.5 + 0.01),  # of equal work; the last adds at home
    (Full(), 3.0),
], ids=repr)  # fmt: skip
def test_the_workspace_holds_what_slices_see(mask, most):
    assert 0.5 < rows_of_workspace(mask, 2**17) <= most
    assert rows_of_workspace(mask, 2**17, writes=True) <= most * 4 / 3 + 0.51  # nobody is at home


def test_heads_enough_need_no_slices():
    engine, few = backends.get("cpu").engine, torch.get_num_threads()
    assert engine.backward_sizes(*problem(Causal(), ROWS, 8)) == (0, 1)
    numbers, _ = engine.backward_sizes(*problem(Causal(), ROWS, 8), writes=True)
    assert numbers == min(few, 8) * ROWS * 2 * DIM


def test_a_workspace_for_fewer_threads_is_enough():
    """Threads may have become more since its size was asked for."""
    engine, few = backends.get("cpu").engine, torch.get_num_threads()
    asked = problem(Causal(), 300, 8, torch.bfloat16)
    shape, rows = asked[0].shape, torch.zeros(1, 8, 300)

    def written(threads: int) -> list:
        torch.set_num_threads(1)
        workspace = torch.full((engine.backward_sizes(*asked, writes=True)[0],), torch.nan)
        torch.set_num_threads(threads)
        gradients = [torch.full(shape, torch.nan, dtype=torch.bfloat16) for _ in range(3)]
        engine.backward(*asked, asked[0], rows, rows, *gradients, workspace, writes=True)
        with pytest.raises(ValueError, match="the workspace is too small"):
            none = workspace[:100]
            engine.backward(*asked, asked[0], rows, rows, *gradients, none, writes=True)
        return gradients

    try:
        for ours, theirs in zip(written(4), written(1), strict=True):
            assert torch.equal(ours, theirs) and ours.isfinite().all()
    finally:
        torch.set_num_threads(few)


@pytest.mark.parametrize("heads", (1, 8))
def test_training_in_16_bits_holds_no_float32_gradients_of_all_heads(heads):
    q, k, v = (torch.randn(1, 2048, heads, 64).bfloat16().requires_grad_() for _ in range(3))
    seed = torch.ones_like(q)

    def step():
        torch.autograd.grad(longattn.attention(q, k, v, Window(128)), (q, k, v), seed)

    of_one_head = 2048 * 64 * 4
    few, lse = torch.get_num_threads(), 3 * 2048 * heads * 4  # and delta, and what is empty
    # out, dq, dk, dv; dk and dv of a head for each thread, or for slices of queries.
    assert peak_bytes(step) <= 4 * q.nbytes + lse + 2 * max(few, 1.5) * of_one_head
