# SPDX-License-Identifier: BSD-3-Clause
"""Few launches for tools that watch every instruction: `python -m bench.gpu_small [--profile]`.

Without --profile: every kernel variant once, on small and crooked problems, as compute-sanitizer
wants them. With it: dense causal attention of 8192 rows, for a profiler."""

from __future__ import annotations

import sys

import torch

import longattn


def tensors(length, q_heads, kv_heads, head_dim, dtype, packed=False):
    generator = torch.Generator().manual_seed(length)
    leading = (length,) if packed else (1, length)
    shapes = [(*leading, heads, head_dim) for heads in (q_heads, kv_heads, kv_heads)]
    made = [torch.randn(shape, generator=generator).to(dtype).cuda() for shape in shapes]
    return [tensor.requires_grad_() for tensor in made]


def both_ways(qkv, function) -> None:
    out = function(*qkv)
    gradients = torch.autograd.grad(out, qkv, torch.ones_like(out))
    finite = [bool(tensor.isfinite().all()) for tensor in (out, *gradients)]
    if not all(finite):
        raise AssertionError(f"out, dq, dk, dv are finite: {finite}")


def every_variant() -> None:
    ends = torch.tensor([0, 3, 3, 150, 201], dtype=torch.int32, device="cuda")
    for dtype in (torch.bfloat16, torch.float16):
        for head_dim in (64, 128, 40):
            both_ways(
                tensors(201, 2, 1, head_dim, dtype),
                lambda *qkv: longattn.attention(*qkv, longattn.Window(50, sink_tokens=3)),
            )
            both_ways(
                tensors(201, 2, 2, head_dim, dtype),
                lambda *qkv: longattn.dilated_attention(*qkv, (64, 100), (1, 3)),
            )
            both_ways(
                tensors(201, 2, 1, head_dim, dtype, packed=True),
                lambda *qkv: longattn.attention(
                    *qkv, longattn.Causal(), cu_seqlens_q=ends, cu_seqlens_k=ends
                ),
            )
    # Sinks of more than one slice of queries.
    both_ways(
        tensors(4200, 1, 1, 8, torch.bfloat16),
        lambda *qkv: longattn.attention(*qkv, longattn.Window(8, sink_tokens=5)),
    )
    torch.cuda.synchronize()
    print("every variant ran, all results are finite")


def profiled() -> None:
    for head_dim in (64, 128):
        both_ways(
            tensors(8192, 8, 8, head_dim, torch.bfloat16),
            lambda *qkv: longattn.attention(*qkv, longattn.Causal()),
        )
    torch.cuda.synchronize()


if __name__ == "__main__":
    profiled() if "--profile" in sys.argv[1:] else every_variant()
