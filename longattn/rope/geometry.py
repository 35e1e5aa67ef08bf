# SPDX-License-Identifier: BSD-3-Clause
"""What every scaling starts from: the dimensions and the base of a rotation."""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch


class Geometry(NamedTuple):
    """`rotary_dim` of the `head_dim` dimensions of a head are rotated, pair i by base**(-2i/d)."""

    head_dim: int
    rotary_dim: int
    base: float
    max_position_embeddings: Optional[int] = None

    def pairs(self) -> torch.Tensor:
        """0, 1, … as float64 [rotary_dim / 2]. On the CPU whatever torch's default device is."""
        return torch.arange(self.rotary_dim // 2, dtype=torch.float64, device="cpu")

    def inv_freq(self, base=None) -> torch.Tensor:
        """Angles per position, float64 [rotary_dim / 2]: base**(-2i/d) (RoFormer, 2104.09864)."""
        return torch.pow(self.base if base is None else base, self.pairs() * (-2 / self.rotary_dim))

    def original_length(self, given: Optional[int], scaling: str) -> int:
        """The trained length: as the scaling has it, else max_position_embeddings."""
        length = self.max_position_embeddings if given is None else given
        if length is None:
            raise ValueError(
                f"{scaling} needs original_max_position_embeddings (the trained length), or "
                "max_position_embeddings of RotaryEmbedding; both are None"
            )
        return length

    def extension(self, original: Optional[int], scaling: str) -> float:
        """max_position_embeddings / trained length, where a scaling says no factor."""
        if original is None or self.max_position_embeddings is None:
            raise ValueError(
                f"{scaling} needs factor, or both original_max_position_embeddings and "
                f"max_position_embeddings to derive it, got {original} and "
                f"{self.max_position_embeddings}"
            )
        if self.max_position_embeddings < original:
            raise ValueError(
                f"max_position_embeddings must be at least original_max_position_embeddings where "
                f"{scaling} derives its factor from them, got {self.max_position_embeddings} and "
                f"{original}"
            )
        return self.max_position_embeddings / original
