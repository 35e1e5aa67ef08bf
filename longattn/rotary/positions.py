# SPDX-License-Identifier: BSD-3-Clause
"""Positions as a call gives them: which tensors, where counting starts, how far they reach."""

from __future__ import annotations

import math
from typing import NamedTuple, Optional

import torch

from longattn.rotary import checks


class Positions(NamedTuple):
    """Tensors, or None where positions are counted from the starts."""

    q: Optional[torch.Tensor]
    k: Optional[torch.Tensor]
    q_start: int
    k_start: int


def resolve(positions, q, k) -> Positions:
    """None: keys from 0, the last query stands at the last key. Positions are taken as they are."""
    if isinstance(positions, Positions):
        return positions
    if positions is None:
        return Positions(None, None, k.shape[-3] - q.shape[-3], 0)
    if isinstance(positions, (tuple, list)):
        if len(positions) != 2:
            raise ValueError(
                f"positions must be None, a tensor or a pair (q_positions, k_positions), got "
                f"{len(positions)} of them"
            )
        of_q, of_k = positions
        names = ("q_positions", "k_positions")
    else:
        of_q = of_k = positions
        names = ("positions", "positions")
    checks.check_positions(names[0], of_q, q)
    checks.check_positions(names[1], of_k, k)
    return Positions(of_q, of_k, 0, 0)


def extent(positions: Positions, q, k, seq_len, asks: str) -> tuple:
    """(smallest, largest) position of the call. Counted ones are known; tensors on the CPU are
    read; for others `seq_len` must tell."""
    if positions.q is None:
        counted = [
            (start, start + tensor.shape[-3] - 1)
            for start, tensor in ((positions.q_start, q), (positions.k_start, k))
            if tensor.shape[-3]
        ]
        return _joined(counted)
    if seq_len is not None:
        return 0, seq_len - 1
    tensors = (positions.q,) if positions.q is positions.k else (positions.q, positions.k)
    for tensor in tensors:
        if tensor.device.type != "cpu":
            raise ValueError(
                f"{asks} needs the largest position, and reading positions from {tensor.device} "
                "would wait for the device: pass seq_len=, the largest position + 1, or "
                "seq_len=int(positions.max()) + 1 to wait"
            )
    read = [tuple(t.item() for t in torch.aminmax(t)) for t in tensors if t.numel()]
    if not torch.compiler.is_compiling():  # which knows no values
        for low, high in read:
            if not -math.inf < low <= high < math.inf:  # NaN fails too
                raise ValueError(f"positions must be finite, got {low} to {high}")
    return _joined([(math.floor(low), math.floor(high)) for low, high in read])


def _joined(extents) -> tuple:
    if not extents:
        return 0, 0
    return min(low for low, _ in extents), max(high for _, high in extents)
