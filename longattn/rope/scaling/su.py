# SPDX-License-Identifier: BSD-3-Clause
"""Su's reading of NTK scaling: positions as numbers in base beta."""

from __future__ import annotations

import dataclasses
import math

import torch

from longattn.rope import fields
from longattn.rope.scaling.base import Scaling


@dataclasses.dataclass(frozen=True)
class Su(Scaling):
    """NTK scaling in Su's forms (kexue.fm/archives/9675 and 9706): angles (base * k)**(-2i/d).

    fixed=False, the "old" form: just the base times k; the slowest pair is interpolated by a little
      less than k, the fastest stays.
    fixed=True, the "fixed" form: the old one times k**(-2/d), so that the slowest pair is
      interpolated by exactly k; every pair then turns slower. bloc97's answer to the same question
      is `NTK`.
    """

    k: float
    fixed: bool = True

    def __post_init__(self):
        self._set(k=fields.number("k", self.k, at_least=1), fixed=fields.flag("fixed", self.fixed))

    def compute_inv_freq(self, geometry, seq_len=None):
        old = geometry.inv_freq(geometry.base * self.k)
        return old * self.k ** (-2 / geometry.rotary_dim) if self.fixed else old


@dataclasses.dataclass(frozen=True)
class NTKMixed(Scaling):
    """Su's mixed radix (kexue.fm/archives/9706): theta_m * exp(-a * m**b), a = ln k / (d/2)**b.

    m counts pairs from 1. b=1 is `Su(k, fixed=True)`, b=0 position interpolation by k. The post has
    b=0.625, its code (bojone/rerope, ntk_patch.py) b=0.75 with k=12.
    """

    k: float
    b: float = 0.625

    def __post_init__(self):
        self._set(
            k=fields.number("k", self.k, at_least=1), b=fields.number("b", self.b, at_least=0)
        )

    def compute_inv_freq(self, geometry, seq_len=None):
        share = (geometry.pairs() + 1) / (geometry.rotary_dim // 2)
        return geometry.inv_freq() * torch.exp(-math.log(self.k) * share**self.b)
