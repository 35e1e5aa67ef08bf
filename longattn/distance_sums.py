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


def gradient_of_values(sums, first_distance: int, values, form, step: int = 1) -> torch.Tensor:
    """sums [shares, heads, span], of distances first_distance, first_distance + step, ...
    -> like values [heads, size]."""
    kind, origin, symmetric = form
    total = sums.sum(0)
    span = total.shape[-1]
    if kind == LINEAR:
        distances = first_distance + step * torch.arange(span, device=total.device)
        return -(total * distances.abs()).sum(-1, keepdim=True)
    gradient = torch.zeros_like(values)
    if not symmetric:
        _add_clamped(gradient, total, first_distance + origin, step)
        return gradient
    before = _steps_to(0, first_distance, step, span)  # entries of negative distance
    _add_clamped(gradient, total[:, before:], first_distance + before * step + origin, step)
    last_negative = first_distance + (before - 1) * step
    _add_clamped(gradient, total[:, :before].flip(-1), -last_negative + origin, step)
    return gradient


def _steps_to(target: int, first: int, step: int, most: int) -> int:
    """How many of first, first + step, ... (`most` numbers) lie below the target."""
    return min(max(-((first - target) // step), 0), most)


def _add_clamped(gradient, sums, first_entry: int, step: int) -> None:
    """Adds sums[:, i] to entry first_entry + i * step, or to the table's end that is nearest."""
    size, span = gradient.shape[-1], sums.shape[-1]
    low = _steps_to(0, first_entry, step, span)
    high = max(_steps_to(size, first_entry, step, span), low)
    gradient[:, 0] += sums[:, :low].sum(-1)
    gradient[:, size - 1] += sums[:, high:].sum(-1)
    begin = first_entry + low * step
    gradient[:, begin : begin + (high - low) * step : step] += sums[:, low:high]
