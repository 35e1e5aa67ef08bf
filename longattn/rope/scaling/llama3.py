# SPDX-License-Identifier: BSD-3-Clause
"""Llama 3.1's scaling."""

from __future__ import annotations

import dataclasses
import math
from typing import Optional

import torch

from longattn.rope import fields
from longattn.rope.scaling.base import Scaling


def slowed(inv_freq, length: int, factor: float, low: float, high: float) -> torch.Tensor:
    """Waves shorter than length / high stay, longer than length / low are interpolated by factor,
    the rest blends linearly in length / wavelength."""
    wavelength = 2 * math.pi / inv_freq
    kept = ((length / wavelength - low) / (high - low)).clamp(0, 1)
    return torch.lerp(inv_freq / factor, inv_freq, kept)  # exact where kept is 0 or 1


@dataclasses.dataclass(frozen=True)
class Llama3(Scaling):
    """Llama 3.1 (2407.21783; in code only); Hugging Face's type "llama3".

    The ramp of NTK-by-parts, linear in rotations, with the ends low_freq_factor and
    high_freq_factor in rotations within the trained length. Meta's values: 8, 1, 4 and 8192.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: Optional[int] = None

    def __post_init__(self):
        self._set(
            factor=fields.number("factor", self.factor, at_least=1),
            low_freq_factor=fields.number(
                "low_freq_factor", self.low_freq_factor, at_least=fields.SMALLEST
            ),
            high_freq_factor=fields.number(
                "high_freq_factor", self.high_freq_factor, at_least=fields.SMALLEST
            ),
            original_max_position_embeddings=fields.optional_integer(
                "original_max_position_embeddings",
                self.original_max_position_embeddings,
                at_least=1,
            ),
        )
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(
                "high_freq_factor must be greater than low_freq_factor, got "
                f"{self.high_freq_factor} and {self.low_freq_factor}"
            )

    def compute_inv_freq(self, geometry, seq_len=None):
        length = geometry.original_length(self.original_max_position_embeddings, "Llama3")
        ends = (self.low_freq_factor, self.high_freq_factor)
        return slowed(geometry.inv_freq(), length, self.factor, *ends)
