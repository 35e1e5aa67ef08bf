# SPDX-License-Identifier: BSD-3-Clause
"""Biases where a row of q and of k is several positions: engines know distances in rows."""

from __future__ import annotations

import torch

from longattn import distance_sums
from longattn.native import BiasGradient, Layout, Scores


def scores_by_rows(scores: Scores, layout: Layout, step: int, remainder: int) -> Scores:
    """Scores whose bias takes a distance in rows, d, for one of d * step + remainder positions."""
    values = scores.bias
    if values is None or step == 1:
        return scores
    first, span = row_distances(layout)
    rows = torch.arange(first, first + span, device=values.device)
    distances = rows * step + remainder
    kind, origin, symmetric = scores.bias_form
    if kind == distance_sums.LINEAR:
        by_rows = -values * distances.abs()
    else:
        entries = (distances.abs() if symmetric else distances) + origin
        by_rows = values[:, entries.clamp(0, values.shape[1] - 1)]
    return scores._replace(bias=by_rows, bias_form=(distance_sums.TABLE, -first, 0))


def empty_sums(values: torch.Tensor, layout: Layout, shares: int) -> BiasGradient:
    """Sums by distance in rows, for the gradient of a bias's values [q_heads, size]."""
    first, span = row_distances(layout)
    return BiasGradient(values.new_zeros((shares, values.shape[0], span)), first)


def gradient_of_values(sums: BiasGradient, scores: Scores, step: int, remainder: int):
    """The sums as a gradient of scores.bias, the values by positions."""
    first = sums.first_distance * step + remainder
    return distance_sums.gradient_of_values(
        sums.sums, first, scores.bias, scores.bias_form, step
    )


def row_distances(layout: Layout) -> tuple:
    return distance_sums.distance_range(
        layout.q_len, layout.kv_len, layout.q_start, layout.k_start, packed=False
    )
