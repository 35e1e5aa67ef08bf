# SPDX-License-Identifier: BSD-3-Clause
"""Biases, softcap and sink logits on a GPU as citizens of torch: streams, graphs, compile."""

import pytest
import torch

import gpu_support
import longattn
from gpu_support import DEVICE, captured
from longattn.masks import Causal, Window

pytestmark = gpu_support.marks

HEADS = 4


def learned() -> list:
    """q, k, v, slopes, a table and sink logits, all of which want gradients."""
    qkv = gpu_support.random_qkv(900, HEADS, 2, 64)
    slopes = torch.tensor([0.3, 0.1, 0.02, 0.4], device=DEVICE)
    table = gpu_support.random(HEADS, 70, dtype=torch.float32)
    sinks = torch.linspace(-1, 1, HEADS, device=DEVICE)
    return [*qkv, *(tensor.requires_grad_() for tensor in (slopes, table, sinks))]


def call(q, k, v, slopes, table, sinks):
    """Every kind of bias, also those that hold no tensors."""
    rest = dict(softcap=9.0, sink_logits=sinks)
    biases = (
        longattn.Alibi(slopes), longattn.Alibi(), longattn.RelativeBias(table, origin=5),
        longattn.Kerple(slopes, slopes), longattn.Sandwich(32),
        longattn.Alibi([0.5, 0.25, 0.1, 0.05]), longattn.RelativeBias.from_t5(table[:, :32]),
    )  # fmt: skip
    outs = [longattn.attention(q, k, v, Window(200), bias=bias, **rest) for bias in biases]
    return sum(outs[1:], outs[0])


def bits(function, tensors) -> list:
    out = function(*tensors)
    return [out.detach(), *torch.autograd.grad(out, tensors, torch.full_like(out, 0.5))]


def assert_same(ours, expected):
    assert all(torch.equal(*pair) for pair in zip(ours, expected, strict=True))


def test_a_hundred_runs_give_the_same_bits():
    tensors = learned()
    first = bits(call, tensors)
    assert all(tensor.isfinite().all() for tensor in first)
    for _ in range(100):
        assert_same(bits(call, tensors), first)


def test_nothing_waits_for_the_gpu():
    tensors = learned()
    bits(call, tensors)  # what happens once, happens here
    torch.cuda.set_sync_debug_mode("error")
    try:
        bits(call, tensors)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_graph_capture_and_replay():
    tensors = learned()
    graph, results = captured(lambda: bits(call, tensors))
    with torch.no_grad():
        for tensor in tensors:
            tensor.mul_(0.5)
    graph.replay()
    assert_same(results, bits(call, tensors))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile(backend):
    """Sums of several calls are torch's own, which a compiler may round once instead of twice."""

    def one(q, k, v, slopes, table, sinks):
        bias = longattn.RelativeBias(table * slopes[:, None], origin=5)
        return longattn.attention(q, k, v, Causal(), bias=bias, softcap=9.0, sink_logits=sinks)

    torch._dynamo.reset()
    tensors = learned()
    compiled = torch.compile(one, fullgraph=True, backend=backend)
    for ours, expected in zip(bits(compiled, tensors), bits(one, tensors), strict=True):
        torch.testing.assert_close(ours, expected, rtol=2e-2, atol=2e-2)
