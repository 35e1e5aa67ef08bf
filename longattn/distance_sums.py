# SPDX-License-Identifier: BSD-3-Clause
"""From sums by distance, as the backward engines make them, to the gradient of a bias's values.

Sums and slices only, in a fixed order: the same bits in every run, on every device."""

from __future__ import annotations

import torch

LINEAR, TABLE = 1, 2  # as in csrc/semantics/biases/bias.h


def distance_range(q_len: int, kv_len: int, q_start: int, k_start: int, packed: bool) -> tuple:
    """(first distance, number of distances) that a call can meet; distance = query - key."""
    first = 1 - q_len if packed else q_start - k_start - (kv_len - 1)
    return first, max(q_len + kv_len - 1, 0)


def gradient_of_values(sums, first_distance: int, values, form) -> torch.Tensor:
    """sums [shares, heads, span] -> like values [heads, size]."""
    kind, origin, symmetric = form
    total = sums.sum(0)
    span = total.shape[-1]
    if kind == LINEAR:
        distances = torch.arange(first_distance, first_distance + span, device=total.device)
        return -(total * distances.abs()).sum(-1, keepdim=True)
    gradient = torch.zeros_like(values)
    if not symmetric:
        _add_clamped(gradient, total, first_distance + origin)
        return gradient
    before = min(max(-first_distance, 0), span)  # entries of negative distance
    _add_clamped(gradient, total[:, before:], max(first_distance, 0) + origin)
    last_negative = first_distance + before - 1
    _add_clamped(gradient, total[:, :before].flip(-1), -last_negative + origin)
    return gradient


def _add_clamped(gradient, sums, first_entry: int) -> None:
    """Adds sums[:, i] to entry first_entry + i, or to the table's end that is nearest."""
    size, span = gradient.shape[-1], sums.shape[-1]
    low = min(max(-first_entry, 0), span)
    high = min(max(size - first_entry, low), span)
    gradient[:, 0] += sums[:, :low].sum(-1)
    gradient[:, size - 1] += sums[:, high:].sum(-1)
    begin = first_entry + low
    gradient[:, begin : begin + high - low] += sums[:, low:high]
