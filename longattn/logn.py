# SPDX-License-Identifier: BSD-3-Clause
"""LogN: queries that grow with the logarithm of their position."""

from __future__ import annotations

import dataclasses
import operator
from numbers import Integral


@dataclasses.dataclass(frozen=True)
class LogN:
    """A factor on the query at absolute position i, so that the entropy of its attention does not
    rise with the number of keys (Su, kexue.fm 8823; used with ReRoPE and NTK-aware scaling).

    training_length: N, at least 2.
    post_hoc: True: max(1, ln(i + 1) / ln N), for models that were trained without it; False:
        ln(i + 1) / ln N, for models that are trained with it.

    Positions below 0 count as 0. TypeError and ValueError name the field and what it accepts.
    """

    training_length: int
    _: dataclasses.KW_ONLY
    post_hoc: bool = True

    def __post_init__(self):
        length = self.training_length
        if not isinstance(length, Integral) or isinstance(length, bool):
            raise TypeError(f"training_length must be an integer of at least 2, got {length!r}")
        if length < 2:
            raise ValueError(f"training_length must be an integer of at least 2, got {length}")
        if not isinstance(self.post_hoc, bool):
            raise TypeError(f"post_hoc must be True or False, got {self.post_hoc!r}")
        object.__setattr__(self, "training_length", operator.index(length))
