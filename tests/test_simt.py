# SPDX-License-Identifier: BSD-3-Clause
"""The CUDA kernels themselves, compiled by g++ and run by the emulator of tests/simt: the ordinary
cases through `longattn.attention(..., backend="simt")`, forward and backward."""

import math

import pytest
import torch

import comparison
import inputs
import longattn
from cases import COMPACT, CORNER, DILATED, RAGGED, REGULAR, Case, Dilated
from longattn import backends, native, reference
from longattn.attention import encode_rules
from longattn.masks import Causal, Window

DTYPES = (torch.bfloat16, torch.float16)


def runs(case) -> bool:
    """Rows of 16 bytes up to 128 numbers are what the CUDA engine takes."""
    dims = (case.q_shape[-1], getattr(case, "v_shape", case.k_shape)[-1])
    return all(dim % 8 == 0 and dim <= 128 for dim in dims)


CASES = [case for case in REGULAR + RAGGED + CORNER if runs(case)]


def attend(case, **keywords):
    return lambda q, k, v, **arguments: longattn.attention(
        q, k, v, case.mask, backend="simt", **keywords, **arguments
    )


def check(case, dtype):
    comparison.compare(
        attend(case),
        lambda q, k, v, **arguments: reference.attention(q, k, v, case.mask, **arguments),
        inputs.qkv(case, dtype, grain=8),
        inputs.call_arguments(case),
        case.name,
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_attention(simt, case):
    check(case, DTYPES[CASES.index(case) % 2])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", [case for case in COMPACT if runs(case)], ids=str)
def test_both_types(simt, case, dtype):
    check(case, dtype)


@pytest.mark.parametrize("case", [case for case in DILATED if runs(case)], ids=str)
def test_dilated(simt, case):
    arguments = dict(
        segment_lengths=case.segment_lengths,
        dilation_rates=case.dilation_rates,
        causal=case.causal,
        head_offset=case.head_offset,
        q_start=case.q_start,
        k_start=case.k_start,
    )
    comparison.compare(
        lambda q, k, v, **rest: longattn.dilated_attention(q, k, v, backend="simt", **rest),
        reference.dilated_attention,
        inputs.qkv(case, torch.bfloat16, grain=8),
        arguments,
        case.name,
    )


SCALED = [
    Case("negative, sinks", Window(9, sink_tokens=3), 150, softmax_scale=-0.4, head_dim=64),
    Case("negative, large logits", Causal(), 135, softmax_scale=-0.2, loudness=30.0),
    Case("negative, rows that see nothing", Window(5), 70, 60, q_start=30, softmax_scale=-1.0),
    Case("zero, window", Window(20), 150, softmax_scale=0.0),
    Case("zero in float32", Causal(), 67, softmax_scale=1e-60),
    Case("subnormal in float32", Causal(), 67, softmax_scale=1e-40),
    Case("large", Causal(), 67, softmax_scale=30.0),
]


@pytest.mark.parametrize("case", SCALED, ids=str)
def test_any_scale(simt, case):
    """The engine folds a positive scale into the exponent; all others take another way."""
    check(case, torch.bfloat16)


def test_negative_scale_of_a_partial(simt):
    case = Dilated("negative scale", (32, 64), (1, 2), 131)
    comparison.compare(
        lambda *tensors, **rest: longattn.dilated_attention(*tensors, backend="simt", **rest),
        reference.dilated_attention,
        inputs.qkv(case, torch.float16, grain=8),
        dict(segment_lengths=(32, 64), dilation_rates=(1, 2), softmax_scale=-0.3),
        case.name,
    )


def test_a_maximum_that_stays_loses_nothing(simt):
    """Sums are shrunk to the new maximum in every tile: by exactly 1 where it does not change."""
    q, k = torch.full((1, 1, 1, 8), 3.1), torch.full((1, 20000, 1, 8), 3.3)
    q, k = q.bfloat16(), k.bfloat16()
    _, lse = longattn.attention(
        q, k, k, longattn.Full(), softmax_scale=1.3, backend="simt", return_lse=True
    )
    exact = 1.3 * 8 * q[0, 0, 0, 0].double() * k[0, 0, 0, 0].double() + math.log(20000)
    assert abs(lse.item() - exact) < 2e-5


SCHEDULES = [
    ("round_robin", "lazy", 1),
    ("forward", "eager", 1),
    ("reverse", "eager", 1),
    ("reverse", "lazy", 1),
    *(("random", "random", seed) for seed in range(1, 5)),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_any_schedule(simt, schedule):
    """No order of threads, and no moment for copies to land, may change a bit."""
    case = Case("schedule", Window(70, sink_tokens=3), 150, q_heads=2, kv_heads=1, head_dim=64)
    tensors = inputs.qkv(case, torch.bfloat16, grain=8)
    d_out, d_lse = comparison.output_gradients(tensors, case.name)

    def bits(*settings):
        simt.configure(*settings)
        found = comparison.results(attend(case), tensors, {}, d_out, d_lse)
        return found.out, found.lse, *found.gradients

    for ours, plain in zip(bits(*schedule), bits("round_robin", "lazy", 1)):
        assert torch.equal(ours, plain)


@pytest.mark.parametrize("case", [
    Case("many slices", Window(8, sink_tokens=5), 8300, q_heads=1, head_dim=8),
    Case("two tiles of sinks", Window(8, sink_tokens=70), 4500, q_heads=2, kv_heads=1, head_dim=8),
    Case("packed", Window(8, sink_tokens=5), q_lengths=(100, 4200, 0, 2100), q_heads=1, head_dim=8),
], ids=str)  # fmt: skip
def test_sliced_sinks(simt, case):
    """Long enough that queries of the tiles of sinks are cut into slices."""
    check(case, torch.bfloat16)


def workspace_of(simt, mask, total, sequences, heads, dim) -> int:
    """Numbers of the backward pass's workspace."""
    tensor = torch.empty(total, heads, dim, dtype=torch.bfloat16)
    ends = torch.arange(sequences + 1, dtype=torch.int32) * (total // sequences)
    layout = native.Layout(native.PACKED, sequences, total, total, 0, 0, ends, ends)
    rules = encode_rules(mask, heads)
    engine = backends.get("simt").engine
    return engine.backward_sizes(tensor, tensor, tensor, layout, rules, native.Scores(1.0))[0]


@pytest.mark.parametrize("sequences", [1, 10, 1000, 30000])
@pytest.mark.parametrize("sink_tokens", [4, 64, 1000, 4096])
def test_the_workspace_of_packed_sinks_follows_the_rows(simt, sequences, sink_tokens):
    """However many sequences they form; no kernel runs here."""
    total, heads, dim = 2**20, 2, 64
    numbers = workspace_of(simt, Window(64, sink_tokens=sink_tokens), total, sequences, heads, dim)
    assert 0 < numbers <= total * heads * 2 * dim / 4  # a quarter of dk and dv


def test_many_packed_sequences(simt):
    """Tiles find their sequence by searching, past empty ones and others of every length."""
    lengths = (0, 1, 130, 0, 0, 64, 127, 128, 129, 3)
    check(Case("many", Causal(), q_lengths=lengths, head_dim=16), torch.float16)
