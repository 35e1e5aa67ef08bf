# SPDX-License-Identifier: BSD-3-Clause
"""A change of the base."""

from __future__ import annotations

import dataclasses

from longattn.rope import fields
from longattn.rope.scaling.base import Scaling


@dataclasses.dataclass(frozen=True)
class ABF(Scaling):
    """Adjusted base frequency (Effective Long-Context Scaling, 2309.16039): another base.

    The paper goes from 10000 to 500000, Code Llama (2308.12950) to 1000000. Hugging Face knows
    no type for it: such models just say another rope_theta, as does `RotaryEmbedding(base=...)`.
    Unlike interpolation it leaves the fastest pairs nearly as they are.
    """

    base: float = 500000.0

    def __post_init__(self):
        self._set(base=fields.number("base of ABF", self.base, above=1))

    def compute_inv_freq(self, geometry, seq_len=None):
        return geometry.inv_freq(self.base)
