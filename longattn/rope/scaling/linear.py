# SPDX-License-Identifier: BSD-3-Clause
"""Position interpolation."""

from __future__ import annotations

import dataclasses

from longattn.rope import fields
from longattn.rope.scaling.base import Scaling


@dataclasses.dataclass(frozen=True)
class Linear(Scaling):
    """Position interpolation (PI; 2306.15595): position p becomes p / factor.

    Interpolation happens in the angles, which is the same. Hugging Face's type "linear".
    Raises ValueError for a factor below 1.
    """

    factor: float

    def __post_init__(self):
        self._set(factor=fields.number("factor", self.factor, at_least=1))

    def compute_inv_freq(self, geometry, seq_len=None):
        return geometry.inv_freq() / self.factor
