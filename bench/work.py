# SPDX-License-Identifier: BSD-3-Clause
"""The work of a case, counted from what its mask shows, and the ceilings of this machine.

Two products of head_dim multiply-adds for each visible pair forward, five backward. Bytes are those
that cannot be saved: every input read once, every output written once."""

from __future__ import annotations

import functools
import math

import torch

PRODUCTS = {"forward": 2, "backward": 5, "both": 7}


def operations(case, part: str) -> int:
    return PRODUCTS[part] * 2 * case.head_dim * case.visible_pairs()


def bytes_moved(case, part: str) -> int:
    size = case.torch_dtype.itemsize
    ins = sum(map(math.prod, case.input_shapes())) * size
    outs = sum(map(math.prod, case.output_shapes())) * size
    if case.visible_pairs() == 0:  # element by element: the backward pass mirrors the forward one
        return {"forward": ins + outs, "backward": ins + outs, "both": 2 * (ins + outs)}[part]
    lse = case.batch * case.q_heads * case.length * 4
    forward = ins + outs + lse
    backward = 2 * ins + 2 * outs + lse  # dq, dk, dv are written; out and its gradient are read
    return {"forward": forward, "backward": backward, "both": forward + backward}[part]


MATRIX = 2048
SMALL_MATRIX = 256
LONGEST = 0.5  # seconds of a product; a dtype without code of its own takes smaller ones
COPY_BYTES = 2**28


@functools.lru_cache(maxsize=None)
def ceilings(dtype: torch.dtype, device: str, threads: int, clock) -> tuple:
    """(GFLOP/s of a square matrix product, GB/s of a copy, read and written), the best of some
    runs: what torch reaches here and now, with `threads` threads, as the cases have."""
    size = min(SMALL_MATRIX, MATRIX)
    while size < MATRIX and 8 * _product_seconds(size, dtype, device, clock, 1) < LONGEST:
        size *= 2
    multiply = _product_seconds(size, dtype, device, clock, 6)
    source = torch.ones(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    copy = _best(lambda: target.copy_(source), clock)
    return 2 * size**3 / multiply / 1e9, 2 * COPY_BYTES / copy / 1e9


def _product_seconds(size: int, dtype, device, clock, runs: int) -> float:
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return _best(lambda: a @ b, clock, runs)


def _best(call, clock, runs: int = 6) -> float:
    """Of some runs after a first."""
    call()
    return min(clock(call)[1] for _ in range(runs))
