# SPDX-License-Identifier: BSD-3-Clause
"""Fractional positions as whole numbers of small steps."""

from __future__ import annotations

import dataclasses
from typing import Optional

from longattn.rope import fields
from longattn.rope.scaling.base import Scaling


@dataclasses.dataclass(frozen=True)
class Grid(Scaling):
    """Positions count steps of 1 / steps: position n stands at n / steps.

    For positions that are no integers: `longattn.rope.random_positions.to_grid` rounds them to
    steps, and `RotaryEmbedding(..., scaling=Grid(steps, of=scaling))` turns by the same angles as
    `RotaryEmbedding(..., scaling=scaling)` would at the fractional positions.

    of: the scaling underneath, or None; one that depends on the length is refused, since lengths in
      steps are none.
    """

    steps: int
    of: Optional[Scaling] = None

    def __post_init__(self):
        self._set(steps=fields.integer("steps", self.steps, at_least=1))
        if self.of is not None and not isinstance(self.of, Scaling):
            raise TypeError(f"of must be None or a scaling of longattn.rope, got {self.of!r}")
        if self.of is not None and self.of.depends_on_length:
            raise ValueError(f"of must not depend on the length, got {self.of!r}")

    def compute_inv_freq(self, geometry, seq_len=None):
        below = geometry.inv_freq() if self.of is None else self.of.compute_inv_freq(geometry)
        return below / self.steps

    def compute_attention_factor(self, geometry, seq_len=None):
        return 1.0 if self.of is None else self.of.compute_attention_factor(geometry)

    def compute_softmax_scale_factor(self, geometry):
        return 1.0 if self.of is None else self.of.compute_softmax_scale_factor(geometry)
