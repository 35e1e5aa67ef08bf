# SPDX-License-Identifier: BSD-3-Clause
"""YaRN and NTK-by-parts: slow pairs are interpolated, fast ones kept, a ramp in between."""

from __future__ import annotations

import dataclasses
import math
from typing import Optional

import torch

from longattn.rope import fields
from longattn.rope.scaling.base import Scaling

RAMPS = ("index", "rotations")


def interpolated_share(geometry, length: int, parts: ByParts) -> torch.Tensor:
    """0 for pairs that keep their angle, 1 for pairs that are interpolated, [rotary_dim / 2]."""
    if parts.ramp == "rotations":
        rotations = length * geometry.inv_freq() / (2 * math.pi)
        kept = (rotations - parts.beta_slow) / (parts.beta_fast - parts.beta_slow)
        return 1 - kept.clamp(0, 1)
    low = pair_of(geometry, length, parts.beta_fast)
    high = pair_of(geometry, length, parts.beta_slow)
    if parts.truncate:
        low, high = math.floor(low), math.ceil(high)
    # rotary_dim - 1 is no index of a pair; the published code has it, and models are made with it
    low, high = float(max(low, 0)), float(min(high, geometry.rotary_dim - 1))
    if low == high:
        high += 0.001
    return ((geometry.pairs() - low) / (high - low)).clamp(0, 1)


def pair_of(geometry, length: int, rotations: float) -> float:
    """The (fractional) pair that makes this many rotations within length."""
    logarithm = math.log(length / (rotations * 2 * math.pi))
    return geometry.rotary_dim * logarithm / (2 * math.log(geometry.base))


def magnitude(factor, weight: float = 1.0):
    """YaRN's sqrt(1/t): 0.1 * weight * ln(factor) + 1."""
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ByParts(Scaling):
    """The ramp that `YaRN`, `NTKByParts` and `DynamicYaRN` share.

    beta_fast, beta_slow: pairs with more rotations than beta_fast within the trained length keep
      their angle, pairs with fewer than beta_slow are interpolated by the whole factor.
    ramp: "index" is linear in the index of the pair, as the official code, Hugging Face and every
      released model have it; "rotations" is linear in the number of rotations, as the paper's
      equations say. They differ by up to 67% in an angle.
    truncate: round the ends of the ramp outwards to whole pairs (only for ramp="index").
    """

    original_max_position_embeddings: Optional[int] = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    ramp: str = "index"

    def __post_init__(self):
        name = "original_max_position_embeddings"
        self._set(
            original_max_position_embeddings=fields.optional_integer(
                name, self.original_max_position_embeddings, at_least=1
            ),
            beta_fast=fields.number("beta_fast", self.beta_fast, at_least=fields.SMALLEST),
            beta_slow=fields.number("beta_slow", self.beta_slow, at_least=fields.SMALLEST),
            truncate=fields.flag("truncate", self.truncate),
            ramp=fields.choice("ramp", self.ramp, RAMPS),
        )
        if self.beta_fast < self.beta_slow or (
            self.beta_fast == self.beta_slow and self.ramp == "rotations"
        ):
            raise ValueError(
                f"beta_fast must be greater than beta_slow, got {self.beta_fast} and "
                f"{self.beta_slow}"
            )
        if self.ramp == "rotations" and not self.truncate:
            raise ValueError(
                "truncate=False says something about ramp='index' only: leave it out with "
                "ramp='rotations', whose ends are not rounded"
            )

    def _length(self, geometry) -> int:
        return geometry.original_length(self.original_max_position_embeddings, type(self).__name__)

    def _blend(self, geometry, factor) -> torch.Tensor:
        share = interpolated_share(geometry, self._length(geometry), self)
        inv_freq = geometry.inv_freq()
        return torch.lerp(inv_freq, inv_freq / factor, share)  # exact where the share is 0 or 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class NTKByParts(ByParts):
    """NTK-by-parts (bloc97; YaRN, 2309.00071, section 3.2): YaRN's angles without its temperature.

    `ramp` selects between the paper and the code. The YaRN repository's older PartNTK classes blend
    in `NTK` and have other constants; that is another scheme, not this one.
    """

    factor: float = dataclasses.field(kw_only=False)

    def __post_init__(self):
        super().__post_init__()
        self._set(factor=fields.number("factor", self.factor, at_least=1))

    def compute_inv_freq(self, geometry, seq_len=None):
        return self._blend(geometry, self.factor)


@dataclasses.dataclass(frozen=True, kw_only=True)
class YaRN(ByParts):
    """YaRN (2309.00071): NTK-by-parts, and scores multiplied by (0.1 ln factor + 1)**2.

    Hugging Face's type "yarn", all fields of which are here.

    factor: None means max_position_embeddings / original_max_position_embeddings.
    attention_factor: given, it replaces 0.1 ln factor + 1.
    mscale, mscale_all_dim (DeepSeek): with both, the factor is the quotient of 0.1 m ln factor + 1
      for the one and for the other; mscale_all_dim alone sets `softmax_scale_factor`, which
      DeepSeek's attention (and no other) multiplies its softmax scale by. 0 counts as not given.
    ramp: "index" (code) or "rotations" (paper), see `ByParts`; also for the other fields.
    """

    factor: Optional[float] = dataclasses.field(default=None, kw_only=False)
    attention_factor: Optional[float] = None
    mscale: Optional[float] = None
    mscale_all_dim: Optional[float] = None

    def __post_init__(self):
        super().__post_init__()
        check = fields.optional_number
        self._set(
            factor=check("factor", self.factor, at_least=1),
            attention_factor=check("attention_factor", self.attention_factor, above=0),
            mscale=check("mscale", self.mscale, at_least=0),
            mscale_all_dim=check("mscale_all_dim", self.mscale_all_dim, at_least=0),
        )

    def compute_inv_freq(self, geometry, seq_len=None):
        return self._blend(geometry, self._factor(geometry))

    def compute_attention_factor(self, geometry, seq_len=None):
        if self.attention_factor is not None:
            return self.attention_factor
        factor = self._factor(geometry)
        if self.mscale and self.mscale_all_dim:
            return magnitude(factor, self.mscale) / magnitude(factor, self.mscale_all_dim)
        return magnitude(factor)

    def compute_softmax_scale_factor(self, geometry):
        if not self.mscale_all_dim:
            return 1.0
        return magnitude(self._factor(geometry), self.mscale_all_dim) ** 2

    def _factor(self, geometry) -> float:
        if self.factor is not None:
            return self.factor
        return geometry.extension(self.original_max_position_embeddings, "YaRN")
