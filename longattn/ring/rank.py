# SPDX-License-Identifier: BSD-3-Clause
"""One rank's part of a call, and what its engine is asked at each meeting."""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch

from longattn import distance_sums, native
from longattn.backends import Backend
from longattn.native import BiasGradient, Layout, Scores
from longattn.ring.communicator import Communicator
from longattn.ring.route import Meeting


class Rank(NamedTuple):
    rank: int
    route: tuple  # of Hops
    communicator: Communicator
    backend: Backend
    q: torch.Tensor  # [batch, rows, q_heads, head_dim]
    k: torch.Tensor
    v: torch.Tensor
    scores: Scores
    sink_logits: Optional[torch.Tensor]  # accumulator dtype

    def problem(self, meeting: Meeting, block) -> tuple:
        """The arguments that forward and backward of an engine begin with."""
        rows, keys = slice(*meeting.q_rows), slice(*meeting.k_rows)
        q = self.q[:, rows]
        k, v = (x[:, keys] for x in block)
        layout = Layout(
            native.BATCH, q.shape[0], q.shape[1], k.shape[1], meeting.offset.diagonal, 0
        )
        return q, k, v, layout, meeting.rules, self._scores_by_rows(meeting, layout)

    def _scores_by_rows(self, meeting: Meeting, layout: Layout) -> Scores:
        """Engines look biases up by distances in rows: where a row is several positions, those that
        two pieces can meet are looked up for them here."""
        values = self.scores.bias
        if values is None or meeting.step == 1:
            return self.scores
        first, span = _row_distances(layout)
        rows = torch.arange(first, first + span, device=values.device)
        distances = rows * meeting.step + meeting.offset.remainder
        kind, origin, symmetric = self.scores.bias_form
        if kind == distance_sums.LINEAR:
            by_rows = -values * distances.abs()
        else:
            entries = (distances.abs() if symmetric else distances) + origin
            by_rows = values[:, entries.clamp(0, values.shape[1] - 1)]
        return self.scores._replace(bias=by_rows, bias_form=(distance_sums.TABLE, -first, 0))

    def empty_bias_gradient(self, layout: Layout, shares: int) -> BiasGradient:
        first, span = _row_distances(layout)
        values = self.scores.bias
        return BiasGradient(values.new_zeros((shares, values.shape[0], span)), first)

    def gradient_of_bias(self, meeting: Meeting, sums: BiasGradient) -> torch.Tensor:
        return distance_sums.gradient_of_values(
            sums.sums,
            sums.first_distance * meeting.step + meeting.offset.remainder,
            self.scores.bias,
            self.scores.bias_form,
            meeting.step,
        )


def _row_distances(layout: Layout) -> tuple:
    return distance_sums.distance_range(
        layout.q_len, layout.kv_len, layout.q_start, layout.k_start, packed=False
    )
