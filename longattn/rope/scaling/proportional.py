# SPDX-License-Identifier: BSD-3-Clause
"""Proportional rotation: a share of the pairs turns, the others stand still."""

from __future__ import annotations

import dataclasses

import torch

from longattn.rope import fields
from longattn.rope.scaling.base import Scaling


@dataclasses.dataclass(frozen=True)
class Proportional(Scaling):
    """Hugging Face's type "proportional" (Gemma 4; no paper).

    The first int(partial_rotary_factor * head_dim // 2) pairs have the angles of a full rotation,
    divided by factor; the others have 0 and carry no position. Unlike a partial rotary_dim the
    exponents count over head_dim, and pairs reach across the whole head.
    """

    partial_rotary_factor: float = 1.0
    factor: float = 1.0

    def __post_init__(self):
        share = fields.number(
            "partial_rotary_factor", self.partial_rotary_factor, at_least=0, at_most=1
        )
        self._set(
            partial_rotary_factor=share, factor=fields.number("factor", self.factor, at_least=1)
        )

    def compute_inv_freq(self, geometry, seq_len=None):
        if geometry.rotary_dim != geometry.head_dim:
            raise ValueError(
                f"Proportional takes the share of rotated pairs as partial_rotary_factor: leave "
                f"rotary_dim out, got {geometry.rotary_dim} of head_dim {geometry.head_dim}"
            )
        rotated = int(self.partial_rotary_factor * geometry.head_dim // 2)
        turns = geometry.inv_freq() / self.factor
        return torch.where(geometry.pairs() < rotated, turns, 0.0)
