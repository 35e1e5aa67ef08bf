# SPDX-License-Identifier: BSD-3-Clause
"""What the tests on a GPU share: whether they can run, tensors that move with their gaps, and a
reference for lengths whose score matrix would be too large."""

import dataclasses

import pytest
import torch

import comparison
import inputs
from longattn import backends
from longattn.biases import Bias

DEVICE = "cuda"
GIB = 2**30


def why_not() -> str | None:
    """Why nothing can run on a GPU here, or None."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no GPU (see nvidia-smi)"
    usable, reason = backends.available(DEVICE)
    return None if usable else reason


_reason = why_not()
marks = [pytest.mark.gpu, pytest.mark.skipif(_reason is not None, reason=str(_reason))]


def need_memory(gib: float) -> None:
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    if free < gib * GIB:
        pytest.skip(f"needs {gib} GiB of free GPU memory, {free / GIB:.1f} GiB are free")


def replica(tensor: torch.Tensor, device) -> torch.Tensor:
    """The tensor on another device with its strides, its offset and what lies in its gaps."""
    tensor = tensor.detach()
    length = tensor.untyped_storage().nbytes() // tensor.element_size()
    storage = tensor.as_strided((length,), (1,), 0).to(device)
    return storage.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


class ToGpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor):
        return replica(tensor, DEVICE)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.cpu()


class FromGpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor):
        return tensor.cpu()

    @staticmethod
    def backward(ctx, gradient):
        return replica(gradient, DEVICE)


def moved(value, by=lambda tensor: tensor.to(DEVICE)):
    """An argument on the GPU: a tensor, a bias that holds tensors, or what has no place."""
    if isinstance(value, torch.Tensor):
        return by(value)
    if isinstance(value, Bias):
        held = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **{name: moved(x, by) for name, x in held.items()})
    return value


def on_gpu(function):
    """`function` of tensors on the CPU, computed on the GPU; gradients find their way back."""

    def call(*values, **arguments):
        arguments = {name: moved(value) for name, value in arguments.items()}
        results = function(*(moved(value, ToGpu.apply) for value in values), **arguments)
        if isinstance(results, torch.Tensor):
            return FromGpu.apply(results)
        return tuple(map(FromGpu.apply, results))

    return call


def random(*shape, dtype=torch.bfloat16, seed=0) -> torch.Tensor:
    """Normal numbers on the GPU, the same on every machine."""
    generator = inputs.generator("gpu", shape, seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32).to(dtype).to(DEVICE)


def random_qkv(q_len, q_heads, kv_heads, head_dim, dtype=torch.bfloat16, kv_len=None) -> list:
    """Leaves that want gradients, batch 1."""
    kv_len = q_len if kv_len is None else kv_len
    shapes = [(1, q_len, q_heads, head_dim), *[(1, kv_len, kv_heads, head_dim)] * 2]
    tensors = [random(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes)]
    return [tensor.requires_grad_() for tensor in tensors]


def captured(call):
    """A graph of call(), and the tensors that a replay fills."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()
    return graph, results


def in_chunks(theirs, tensors, dtype, d_out, d_lse, chunk=1024) -> comparison.Results:
    """Results of a function of longattn.reference, computed in `dtype`, some queries at a time.

    theirs(q, k, v, q_start=..., return_lse=True). Gradients of chunks are added up in float64, so
    that cutting into chunks costs the eager twin no accuracy.
    """
    q, k, v = (tensor.detach().to(dtype) for tensor in tensors)
    first = k.shape[1] - q.shape[1]
    outs, lses, dqs, dk, dv = [], [], [], 0.0, 0.0
    for start in range(0, q.shape[1], chunk):
        rows = slice(start, start + chunk)
        leaves = [tensor.detach().requires_grad_() for tensor in (q[:, rows], k, v)]
        out, lse = theirs(*leaves, q_start=first + start, return_lse=True)
        given = (d_out[:, rows].to(dtype), d_lse[..., rows].to(lse.dtype))
        dq, dk_of_chunk, dv_of_chunk = torch.autograd.grad((out, lse), leaves, given)
        outs.append(out.detach())
        lses.append(lse.detach())
        dqs.append(dq)
        dk, dv = dk + dk_of_chunk.double(), dv + dv_of_chunk.double()
    gradients = (torch.cat(dqs, 1), dk.to(dtype), dv.to(dtype))
    return comparison.Results(torch.cat(outs, 1), torch.cat(lses, -1), gradients)


def compare_in_chunks(function, theirs, tensors, name) -> None:
    """Assert that `function` of tensors on the GPU equals `theirs`, by the rule of closeness."""
    q, _, v = tensors
    d_out = random(*q.shape[:-1], v.shape[-1], dtype=q.dtype, seed=f"{name} d_out")
    d_lse = random(q.shape[0], q.shape[2], q.shape[1], dtype=torch.float32, seed=f"{name} d_lse")
    actual = comparison.results(function, tensors, {}, d_out, d_lse)
    exact = in_chunks(theirs, tensors, torch.float64, d_out, d_lse)
    eager = in_chunks(theirs, tensors, q.dtype, d_out, d_lse)
    comparison.check(actual, [eager], exact, tensors)
