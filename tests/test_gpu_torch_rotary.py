# SPDX-License-Identifier: BSD-3-Clause
"""Rotations on a GPU as citizens of torch: streams, graphs, determinism, very large tensors."""

import pytest
import torch

import gpu_support
import longattn
from gpu_support import DEVICE, captured

pytestmark = gpu_support.marks

ROPE = longattn.RotaryEmbedding(64)
XPOS = longattn.RotaryEmbedding.xpos(64, scale_base=2.0)


def rotated(q, k, q_bias, k_bias, positions=None):
    return longattn.apply_rotary(
        q, k, ROPE, positions, q_bias=q_bias, k_bias=k_bias, key_norm="both",
        q_scale=longattn.LogN(64),
    )  # fmt: skip


def rerope(q, k, q_bias, k_bias):
    return (longattn.rerope_attention(q, k, k, ROPE, window=100, leak=4.0),)


def infinite(q, k, q_bias, k_bias):
    return (
        longattn.lm_infinite_attention(
            q, k, k, ROPE, window=100, sink_tokens=4, distance_ceiling=50
        ),
    )


def in_chunks(q, k, q_bias, k_bias):
    """xPos, cut into chunks of 128."""
    return (longattn.xpos_attention(q, k, k, XPOS, window=300),)


every_function = pytest.mark.parametrize(
    "function", [rotated, rerope, infinite, in_chunks], ids=lambda f: f.__name__
)


def tensors() -> list:
    """q, k and biases, which want gradients."""
    shapes = [(1, 700, 4, 64), (1, 700, 2, 64), (4, 64), (2, 64)]
    dtypes = [torch.bfloat16] * 2 + [torch.float32] * 2
    return [
        gpu_support.random(*shape, dtype=dtype, seed=i).requires_grad_()
        for i, (shape, dtype) in enumerate(zip(shapes, dtypes))
    ]


def bits(function, leaves) -> list:
    results = function(*leaves)
    gradients = [torch.full_like(result, 0.5) for result in results]
    found = torch.autograd.grad(results, leaves, gradients, allow_unused=True)
    return [result.detach() for result in results] + [x for x in found if x is not None]


def assert_same(ours, expected):
    assert all(torch.equal(*pair) for pair in zip(ours, expected, strict=True))


@every_function
def test_a_hundred_runs_give_the_same_bits(function):
    leaves = tensors()
    first = bits(function, leaves)
    assert all(tensor.isfinite().all() for tensor in first)
    for _ in range(100):
        assert_same(bits(function, leaves), first)


@every_function
def test_nothing_waits_for_the_gpu(function):
    leaves = tensors()
    bits(function, leaves)  # what happens once, happens here
    torch.cuda.set_sync_debug_mode("error")
    try:
        bits(function, leaves)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@every_function
def test_graph_capture_and_replay(function):
    leaves = tensors()
    graph, results = captured(lambda: bits(function, leaves))
    with torch.no_grad():
        for leaf in leaves:
            leaf.mul_(0.5)
    graph.replay()
    assert_same(results, bits(function, leaves))


@every_function
def test_compile(function):
    torch._dynamo.reset()
    leaves = tensors()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    assert_same(bits(compiled, leaves), bits(function, leaves))


def test_a_captured_graph_reads_other_positions():
    leaves = tensors()
    positions = torch.arange(700, device=DEVICE)
    graph, results = captured(lambda: bits(lambda *x: rotated(*x, positions), leaves))
    positions.add_(2**40)
    graph.replay()
    assert_same(results, bits(lambda *x: rotated(*x, positions.clone()), leaves))


def test_in_place_equals_out_of_place():
    q, k, *_ = (tensor.detach() for tensor in tensors())
    expected = longattn.apply_rotary(q, k, ROPE)
    copies = q.clone(), k.clone()
    found = longattn.apply_rotary(*copies, ROPE, inplace=True)
    assert found[0] is copies[0] and found[1] is copies[1]
    assert_same(found, expected)


def test_more_than_2_31_elements():
    """In place, to fit; the last rows equal those of a short call at their positions."""
    gpu_support.need_memory(10)
    heads, tail = 16, 1000
    length = 2**31 // (heads * 64) + tail
    torch.manual_seed(0)
    q = torch.randn(1, length, heads, 64, dtype=torch.bfloat16, device=DEVICE)
    k = torch.randn(1, length, 1, 64, dtype=torch.bfloat16, device=DEVICE)
    assert q.numel() > 2**31
    last = q[:, -tail:].clone(), k[:, -tail:].clone()
    positions = torch.arange(length - tail, length, device=DEVICE)
    expected = longattn.apply_rotary(*last, ROPE, positions)
    found = longattn.apply_rotary(q, k, ROPE, inplace=True)
    assert_same([tensor[:, -tail:] for tensor in found], expected)


@pytest.mark.parametrize("key_norm", [False, "both"])
def test_one_launch_each_way(key_norm):
    """Of ours; torch adds none forward, and without biases none backward."""
    q, k, *_ = tensors()

    def kernels(call) -> list:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            call()
            torch.cuda.synchronize()
        return [event.name for event in profile.events() if "_kernel" in event.name]

    call = lambda: longattn.apply_rotary(q, k, ROPE, key_norm=key_norm)  # noqa: E731
    results = call()
    forward = kernels(call)
    if not forward:
        pytest.skip("torch's profiler sees no kernels on this machine")
    gradients = [torch.ones_like(result) for result in results]
    backward = kernels(
        lambda: torch.autograd.grad(results, (q, k), gradients, retain_graph=True)
    )
    assert len(forward) == 1 and "rotate_kernel" in forward[0]
    assert len(backward) == 1 and "rotate_backward_kernel" in backward[0]
