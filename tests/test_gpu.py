# SPDX-License-Identifier: BSD-3-Clause
"""The CUDA engine on a GPU: the ordinary cases, real lengths, and the emulator's own results."""

import pytest
import torch

import comparison
import gpu_support
import inputs
import longattn
from cases import COMPACT, DILATED, Case, Dilated
from gpu_support import on_gpu
from longattn import reference
from longattn.masks import Band, Causal, Full, Groups, Prefix, Window
from test_simt import CASES, DTYPES, runs

pytestmark = gpu_support.marks

both_types = pytest.mark.parametrize("dtype", DTYPES, ids=str)
DILATED_CASES = [case for case in DILATED if runs(case)]


def ours(case, backend=None):
    """The call of a case as a function of q, k, v and its arguments."""
    if isinstance(case, Dilated):
        return lambda *qkv, **arguments: longattn.dilated_attention(
            *qkv, backend=backend, **arguments
        )
    return lambda *qkv, **arguments: longattn.attention(
        *qkv, case.mask, backend=backend, **arguments
    )


def theirs(case):
    if isinstance(case, Dilated):
        return reference.dilated_attention
    return lambda *qkv, **arguments: reference.attention(*qkv, case.mask, **arguments)


def arguments_of(case) -> dict:
    if not isinstance(case, Dilated):
        return inputs.call_arguments(case)
    names = ("segment_lengths", "dilation_rates", "causal", "head_offset", "q_start", "k_start")
    return {name: getattr(case, name) for name in names}


# The ordinary cases, forward and backward


@both_types
@pytest.mark.parametrize("case", CASES + DILATED_CASES, ids=str)
def test_case(case, dtype):
    tensors = inputs.qkv(case, dtype, grain=8)
    comparison.compare(on_gpu(ours(case)), theirs(case), tensors, arguments_of(case), case.name)


def test_detached_mixing_weights():
    case = Dilated("detached", (16, 64), (1, 2), 131)
    arguments = dict(arguments_of(case), detach_weights=True)
    tensors = inputs.qkv(case, torch.bfloat16, grain=8)
    comparison.compare(on_gpu(ours(case)), theirs(case), tensors, arguments, case.name)


SLICED = Case("slices", Window(8, sink_tokens=5), 4500, q_heads=2, kv_heads=1, head_dim=8)
MANY = Case("many", Causal(), q_lengths=(0, 1, 130, 0, 0, 64, 127, 128, 129, 3), head_dim=16)


@pytest.mark.parametrize("case", [SLICED, MANY], ids=str)
def test_long_and_many_sequences(case):
    tensors = inputs.qkv(case, torch.bfloat16, grain=8)
    comparison.compare(on_gpu(ours(case)), theirs(case), tensors, arguments_of(case), case.name)


# The emulator ran the same sources on the same inputs


EMULATED = [case for case in COMPACT if runs(case)] + [
    case for case in CASES if case.name in {"head_dim 64", "head_dim 128", "prime causal"}
]
EMULATED_DILATED = [
    case for case in DILATED_CASES if case.name in {"doubling", "shard", "uncovered queries"}
]


def assert_agree(gpu, emulated, name):
    """Within four units in the last place, of the element or of the root mean square of all.

    Both round the same sums at the same places; the sums themselves differ in float32's last bits,
    by the order of additions in a tensor core and by ex2.approx. That moves a weight or a result to
    the neighbouring number now and then: half of the elements, at least, are equal bit by bit.
    """
    assert gpu.dtype == emulated.dtype and gpu.shape == emulated.shape
    empty = emulated == -torch.inf
    assert torch.equal(gpu == -torch.inf, empty), f"{name}: other rows are empty"
    if gpu.numel() == 0:
        return
    eps = torch.finfo(gpu.dtype).eps
    if name == "lse":
        eps = 1e-6  # float32 is not rounded: the sums of up to some hundred weights show
    gpu, emulated = (tensor.masked_fill(empty, 0.0).double() for tensor in (gpu, emulated))
    scale = emulated.abs() + emulated.square().mean().sqrt()
    units = ((gpu - emulated).abs() / (eps * scale).clamp(min=1e-30)).max().item()
    same = (gpu == emulated).double().mean().item()
    print(f"{name}: at most {units:.2f} units in the last place, {same:.2%} of the elements equal")
    assert units <= 4, f"{name}: {units:.1f} units in the last place"
    assert same >= 0.5 or name == "lse", f"{name}: only {same:.1%} of the elements are equal"


@both_types
@pytest.mark.parametrize("case", EMULATED + EMULATED_DILATED, ids=str)
def test_gpu_agrees_with_the_emulator(simt, case, dtype):
    tensors = inputs.qkv(case, dtype, grain=8)
    d_out, d_lse = comparison.output_gradients(tensors, case.name)

    def found(function):
        result = comparison.results(function, tensors, arguments_of(case), d_out, d_lse)
        dq, dk, dv = result.gradients
        return dict(out=result.out, lse=result.lse, dq=dq, dk=dk, dv=dv)

    gpu, emulated = found(on_gpu(ours(case))), found(ours(case, "simt"))
    for name in gpu:
        assert_agree(gpu[name], emulated[name], name)


# Real lengths against a reference in chunks, float64, on the GPU


REAL = [
    (Causal(), 4096, 4, 4, 64),
    (Causal(), 8192, 4, 2, 128),
    (Full(), 4096, 2, 2, 128),
    (Window(1024), 16384, 2, 1, 128),
    (Window(1024, sink_tokens=64), 16384, 2, 2, 64),
    (Window((512, 4096), sink_tokens=(4, 0)), 8192, 2, 2, 128),
    (Band(700, 300), 5003, 3, 1, 96),
    (Groups(2048, shift=(0, 1024)), 8192, 2, 2, 64),
    (Prefix(3000), 6000, 2, 2, 40),
]


@both_types
@pytest.mark.parametrize("mask, length, q_heads, kv_heads, head_dim", REAL, ids=str)
def test_real_length(mask, length, q_heads, kv_heads, head_dim, dtype):
    tensors = gpu_support.random_qkv(length, q_heads, kv_heads, head_dim, dtype)
    gpu_support.compare_in_chunks(
        lambda *qkv, **arguments: longattn.attention(*qkv, mask, **arguments),
        lambda *qkv, **arguments: reference.attention(*qkv, mask, **arguments),
        tensors,
        str(mask),
    )


@pytest.mark.parametrize("length, rates", [(16384, (1, 2, 4)), (10007, (1, 3, 6))])
def test_real_dilated(length, rates):
    segments = (2048, 4096, 8192)
    tensors = gpu_support.random_qkv(length, 4, 4, 64)
    gpu_support.compare_in_chunks(
        lambda *qkv, **arguments: longattn.dilated_attention(*qkv, segments, rates, **arguments),
        lambda *qkv, **arguments: reference.dilated_attention(*qkv, segments, rates, **arguments),
        tensors,
        "dilated",
    )


def test_real_packed_equals_each_sequence_alone():
    lengths = (4096, 1, 0, 3000, 8191)
    q, k, v = (gpu_support.random(sum(lengths), heads, 64) for heads in (4, 2, 2))
    ends = inputs.boundaries(lengths).to(gpu_support.DEVICE)
    mask = Window(1000, sink_tokens=7)
    out, lse = longattn.attention(
        q, k, v, mask, cu_seqlens_q=ends, cu_seqlens_k=ends, return_lse=True
    )
    start = 0
    for length in lengths:
        rows = slice(start, start + length)
        alone, its_lse = longattn.attention(
            *(tensor[None, rows] for tensor in (q, k, v)), mask, return_lse=True
        )
        assert torch.equal(out[rows], alone[0]) and torch.equal(lse[:, rows], its_lse[0])
        start += length


# The same bits every time


def repeated_call(kind):
    q, k, v = gpu_support.random_qkv(3000, 4, 2, 64)
    if kind == "dilated":
        return (q, k, v), lambda *qkv: longattn.dilated_attention(*qkv, (512, 2048), (1, 3))
    if kind == "packed":
        ends = torch.tensor([0, 700, 701, 3000], device=gpu_support.DEVICE)
        tensors = [tensor.detach()[0].requires_grad_() for tensor in (q, k, v)]
        return tensors, lambda *qkv: longattn.attention(
            *qkv, Causal(), cu_seqlens_q=ends, cu_seqlens_k=ends
        )
    mask = Window(300, sink_tokens=70)  # sinks: sums over slices of queries
    return (q, k, v), lambda *qkv: longattn.attention(*qkv, mask)


@pytest.mark.parametrize("kind", ["sinks", "packed", "dilated"])
def test_a_hundred_runs_give_the_same_bits(kind):
    tensors, call = repeated_call(kind)

    def bits():
        out = call(*tensors)
        return [out, *torch.autograd.grad(out, tensors, out.detach())]

    first = bits()
    assert all(tensor.isfinite().all() for tensor in first)
    different = [run for run in range(100) if not all(map(torch.equal, first, bits()))]
    assert different == []
