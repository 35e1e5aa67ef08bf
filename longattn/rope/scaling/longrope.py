# SPDX-License-Identifier: BSD-3-Clause
"""LongRoPE: one searched factor a pair, in a short and a long edition."""

from __future__ import annotations

import dataclasses
import math
from typing import Optional

import torch

from longattn.rope import fields
from longattn.rope.scaling.base import Scaling


@dataclasses.dataclass(frozen=True)
class LongRope(Scaling):
    """LongRoPE (2402.13753) as Phi-3 uses it; Hugging Face's types "longrope" and "su".

    short_factor, long_factor: rotary_dim / 2 positive numbers each; every pair turns that many
      times slower, by the long list as soon as seq_len exceeds the trained length.
    factor: for the attention factor sqrt(1 + ln factor / ln trained length); None means
      max_position_embeddings / original_max_position_embeddings.
    attention_factor: given, it replaces that; it holds for short sequences too.
    short_mscale, long_mscale (Phi-3.5-MoE): both or none; attention factors of either edition.
    The paper's other half, leaving the first positions as they are, is in no released model.
    """

    short_factor: tuple
    long_factor: tuple
    _: dataclasses.KW_ONLY
    factor: Optional[float] = None
    attention_factor: Optional[float] = None
    original_max_position_embeddings: Optional[int] = None
    short_mscale: Optional[float] = None
    long_mscale: Optional[float] = None

    def __post_init__(self):
        check = fields.optional_number
        self._set(
            short_factor=_divisors("short_factor", self.short_factor),
            long_factor=_divisors("long_factor", self.long_factor),
            factor=check("factor", self.factor, at_least=1),
            attention_factor=check("attention_factor", self.attention_factor, above=0),
            original_max_position_embeddings=fields.optional_integer(
                "original_max_position_embeddings",
                self.original_max_position_embeddings,
                at_least=2,
            ),
            short_mscale=check("short_mscale", self.short_mscale, above=0),
            long_mscale=check("long_mscale", self.long_mscale, above=0),
        )
        if (self.short_mscale is None) != (self.long_mscale is None):
            raise ValueError(
                "short_mscale and long_mscale must both be given or both be left out, got "
                f"{self.short_mscale} and {self.long_mscale}"
            )
        if self.attention_factor is not None and self.short_mscale is not None:
            raise ValueError(
                f"attention_factor={self.attention_factor} and short_mscale={self.short_mscale} "
                "exclude each other: both say what cos and sin are multiplied by"
            )

    @property
    def depends_on_length(self):
        return (self.short_factor, self.short_mscale) != (self.long_factor, self.long_mscale)

    def compute_inv_freq(self, geometry, seq_len=None):
        pairs = geometry.rotary_dim // 2
        for name in ("short_factor", "long_factor"):
            given = len(getattr(self, name))
            if given != pairs:
                raise ValueError(
                    f"{name} must hold rotary_dim / 2 = {pairs} numbers, one a pair, got {given}"
                )
        divisors = self.long_factor if self._is_long(geometry, seq_len) else self.short_factor
        return geometry.inv_freq() / torch.tensor(divisors, dtype=torch.float64, device="cpu")

    def compute_attention_factor(self, geometry, seq_len=None):
        if self.attention_factor is not None:
            return self.attention_factor
        if self.short_mscale is not None:
            return self.long_mscale if self._is_long(geometry, seq_len) else self.short_mscale
        trained, factor = self._length(geometry), self.factor
        if factor is None:
            factor = geometry.extension(self.original_max_position_embeddings, "LongRope")
        return math.sqrt(1 + math.log(factor) / math.log(trained))

    def _length(self, geometry) -> int:
        trained = geometry.original_length(self.original_max_position_embeddings, "LongRope")
        if trained < 2:
            raise ValueError(
                "LongRope needs a trained length of at least 2, got "
                f"max_position_embeddings={trained}"
            )
        return trained

    def _is_long(self, geometry, seq_len) -> bool:
        return seq_len is not None and seq_len > self._length(geometry)


def _divisors(name: str, values) -> tuple:
    if not isinstance(values, (list, tuple)) or not values:
        raise TypeError(f"{name} must be a list of positive numbers, one a pair, got {values!r}")
    return tuple(
        fields.number(f"each entry of {name}", value, at_least=fields.SMALLEST) for value in values
    )
