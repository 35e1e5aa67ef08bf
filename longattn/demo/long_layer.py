# SPDX-License-Identifier: BSD-3-Clause
"""One layer's attention, forward + backward, at lengths that only an accelerator has time for."""

from __future__ import annotations

import dataclasses
import time
from typing import Callable

import torch
from torch.nn import functional

import longattn
import longattn.backends
from longattn.demo.memory import peak_memory

LENGTHS = (2**17, 2**19, 2**20)
WINDOW, SINK_TOKENS = 4096, 4


@dataclasses.dataclass(frozen=True)
class LayerRow:
    length: int
    name: str
    milliseconds: float | None  # None: it did not run, `note` says why
    peak_bytes: int | None = None
    largest_error: float | None = None  # against SDPA: out and gradients, only for the same mask
    note: str = ""


def available() -> tuple[bool, str]:
    """Whether this machine and this build can run it, and if not, why."""
    return longattn.backends.available("cuda")


def _sdpa(q, k, v):
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


def _causal(q, k, v):
    return longattn.attention(q, k, v, longattn.Causal())


def _lambda(q, k, v):
    return longattn.lambda_attention(q, k, v, window=WINDOW, sink_tokens=SINK_TOKENS)


CONTENDERS = {
    "SDPA is_causal=True": _sdpa,
    "longattn causal": _causal,
    f"longattn window {WINDOW} + {SINK_TOKENS} sinks": _lambda,
}


def measure(
    device: torch.device, lengths=None, heads=8, head_dim=128, dtype=torch.bfloat16, seed=0
) -> list[LayerRow]:
    rows = []
    for length in lengths or LENGTHS:
        generator = torch.Generator(device).manual_seed(seed)
        shape = (1, length, heads, head_dim)
        inputs = [
            torch.randn(shape, device=device, dtype=dtype, generator=generator).requires_grad_()
            for _ in range(3)
        ]
        gradient = torch.randn(shape, device=device, dtype=dtype, generator=generator)
        expected = None
        for name, attend in CONTENDERS.items():
            try:
                row, results = _measure_one(length, name, attend, inputs, gradient)
            except torch.OutOfMemoryError:
                rows.append(LayerRow(length, name, None, note="does not fit into memory"))
                continue
            if attend is _sdpa:
                expected = results
            elif attend is _causal and expected is not None:
                error = max((a - b).abs().max().item() for a, b in zip(results, expected))
                row = dataclasses.replace(row, largest_error=error)
            rows.append(row)
    return rows


def _measure_one(length, name, attend: Callable, inputs, gradient):
    def forward_and_backward():
        out = attend(*inputs)
        return out, *torch.autograd.grad(out, inputs, gradient)

    device = gradient.device
    peak = peak_memory(forward_and_backward, device)  # also warms up
    start = time.perf_counter()
    results = forward_and_backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    milliseconds = 1e3 * (time.perf_counter() - start)
    return LayerRow(length, name, milliseconds, peak), [x.detach() for x in results]
