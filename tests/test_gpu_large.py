# SPDX-License-Identifier: BSD-3-Clause
"""On a GPU: offsets beyond 2**31 elements, and memory that grows with the length alone."""

import pytest
import torch

import comparison
import gpu_support
import longattn
from gpu_support import GIB
from longattn import reference
from longattn.masks import Causal, Window

pytestmark = gpu_support.marks


def test_strides_that_lead_beyond_2_31_elements():
    """q, k and v lie side by side in very long rows; copies without gaps give the same bits."""
    rows, row_stride, heads, dim = 70_000, 32_768, 2, 64
    assert rows * row_stride > 2**31
    gpu_support.need_memory(8)
    storage = torch.empty(rows, row_stride, dtype=torch.bfloat16, device=gpu_support.DEVICE)
    tensors = []
    for i in range(3):
        view = storage[:, i * heads * dim : (i + 1) * heads * dim].view(1, rows, heads, dim)
        view.copy_(gpu_support.random(1, rows, heads, dim, seed=i))
        tensors.append(view.requires_grad_())
    copies = [tensor.detach().contiguous().requires_grad_() for tensor in tensors]

    def results(tensors):
        out = longattn.attention(*tensors, Window(100, sink_tokens=3))
        return [out, *torch.autograd.grad(out, tensors, out.detach())]

    assert all(map(torch.equal, results(tensors), results(copies)))


def test_more_than_2_31_elements():
    """The tail of a very long sequence, whose window makes it a problem of its own."""
    gpu_support.need_memory(75)  # 5 tensors of 16 bits, 3 of 32, 3 casts
    window, tail, heads, dim = 256, 1000, 16, 128
    length = 2**31 // (heads * dim) + tail
    torch.manual_seed(0)
    shape = (1, length, heads, dim)
    make = dict(dtype=torch.bfloat16, device=gpu_support.DEVICE)
    q, k, v = (torch.randn(shape, **make).requires_grad_() for _ in range(3))
    out, lse = longattn.attention(q, k, v, Window(window), return_lse=True)
    d_out = torch.randn(shape, **make)
    gradients = torch.autograd.grad(out, (q, k, v), d_out)
    assert out.numel() > 2**31 and all(gradient.numel() > 2**31 for gradient in gradients)

    # The last queries, and the keys that they see. The last keys are seen by these queries alone.
    keys = tail + window - 1

    def expected(dtype):
        leaves = [
            tensor.detach()[:, -count:].to(dtype).requires_grad_()
            for tensor, count in ((q, tail), (k, keys), (v, keys))
        ]
        theirs, its_lse = reference.attention(*leaves, Window(window), return_lse=True)
        found = torch.autograd.grad(theirs, leaves, d_out[:, -tail:].to(dtype))
        return comparison.Results(
            theirs.detach(), its_lse.detach(), tuple(gradient[:, -tail:] for gradient in found)
        )

    actual = comparison.Results(
        out[:, -tail:].detach(),
        lse[..., -tail:].detach(),
        tuple(gradient[:, -tail:] for gradient in gradients),
    )
    tails = [tensor[:, -tail:] for tensor in (q, k, v)]
    comparison.check(actual, [expected(torch.bfloat16)], expected(torch.float64), tails)


def test_one_head_and_64k_rows_with_sinks():
    """All queries of a tile of sinks are cut into slices, or it would keep one block busy alone."""
    mask = Window(1024, sink_tokens=64)
    gpu_support.compare_in_chunks(
        lambda *qkv, **arguments: longattn.attention(*qkv, mask, **arguments),
        lambda *qkv, **arguments: reference.attention(*qkv, mask, **arguments),
        gpu_support.random_qkv(65536, 1, 1, 64),
        "64k rows",
    )


def peak_bytes(call) -> int:
    """The most memory that torch held during the call, beyond what it held before."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = call()
    peak = torch.cuda.max_memory_allocated() - before
    del result
    return peak


def dense(*qkv):
    return longattn.attention(*qkv, Causal())


def lambda_shaped(*qkv):
    return longattn.lambda_attention(*qkv, window=1024, sink_tokens=64)


def dilated(*qkv):
    return longattn.dilated_attention(*qkv, (2048, 8192), (1, 4))


@pytest.mark.parametrize("function", [dense, lambda_shaped, dilated], ids=lambda f: f.__name__)
def test_memory_grows_with_the_length(function):
    """Forward: the results, in the accumulator's type where partials are merged. Backward: three
    gradients in float32 and in 16 bits, and a workspace for the sinks, a fraction of these."""

    def peaks(length):
        tensors = gpu_support.random_qkv(length, 4, 4, 64)
        forward = peak_bytes(lambda: function(*tensors))
        out = function(*tensors)
        d_out = torch.ones_like(out)
        backward = peak_bytes(lambda: torch.autograd.grad(out, tensors, d_out))
        return forward, backward

    length = 16384
    element_bytes = length * 4 * 64 * 2  # of one tensor
    short, long = peaks(length), peaks(2 * length)
    print(
        f"{function.__name__}: forward {short[0]}, {long[0]}; backward {short[1]}, {long[1]} bytes"
    )
    assert short[0] <= (4 if function is dilated else 1.25) * element_bytes
    assert short[1] <= 12 * element_bytes + GIB // 16
    for one, two in zip(short, long):
        assert two <= 2.1 * one


def test_memory_of_packed_sequences_with_sinks():
    """It follows the rows, however many sequences they form."""
    sequences, length = 512, 128
    total, heads, dim = sequences * length, 4, 64
    tensors = [tensor.detach()[0].requires_grad_() for tensor in
               gpu_support.random_qkv(total, heads, heads, dim)]  # fmt: skip
    ends = torch.arange(sequences + 1, device=gpu_support.DEVICE, dtype=torch.int32) * length
    arguments = dict(cu_seqlens_q=ends, cu_seqlens_k=ends)
    out = longattn.attention(*tensors, Window(64, sink_tokens=4), **arguments)
    d_out = torch.ones_like(out)
    element_bytes = total * heads * dim * 2
    peak = peak_bytes(lambda: torch.autograd.grad(out, tensors, d_out))
    print(f"{peak} bytes, {peak / element_bytes:.1f} times a tensor")
    assert peak <= 12 * element_bytes + GIB // 32
