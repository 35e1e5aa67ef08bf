# SPDX-License-Identifier: BSD-3-Clause
"""Giraffe's two bases. Its official code scales first, then takes the power, then truncates."""

from __future__ import annotations

import dataclasses
import math
from typing import Optional

import torch

from longattn.rope import fields
from longattn.rope.scaling.base import Scaling


def power_basis(geometry, factor: float, exponent: float) -> torch.Tensor:
    """theta_j / factor * (1 - j / (d/2))**exponent, j from 0: the last pair never stands still."""
    share = geometry.pairs() / (geometry.rotary_dim // 2)
    return geometry.inv_freq() / factor * (1 - share) ** exponent


@dataclasses.dataclass(frozen=True)
class Power(Scaling):
    """Giraffe's power basis (2308.10882): slow pairs are slowed down, fast ones kept.

    factor: position interpolation underneath, `scale` of the official code.
    """

    exponent: float
    _: dataclasses.KW_ONLY
    factor: float = 1.0

    def __post_init__(self):
        self._set(
            exponent=fields.number("exponent", self.exponent, at_least=0),
            factor=fields.number("factor", self.factor, at_least=1),
        )

    def compute_inv_freq(self, geometry, seq_len=None):
        return power_basis(geometry, self.factor, self.exponent)


@dataclasses.dataclass(frozen=True)
class Truncated(Scaling):
    """Giraffe's truncated basis (2308.10882): every pair is fast, constant or still.

    Angles of at least keep_above stay; those of at least zero_below become constant; smaller ones
    become 0. The paper has these three numbers free (b, a, rho). The official code derives them
    from one length T (`truncate`): keep_above = 2 pi / T, zero_below an eighth and constant a
    sixteenth of it.

    length: T; None means max_position_embeddings of the RotaryEmbedding, if there is no keep_above.
    keep_above, zero_below, constant: each replaces the derived value; keep_above excludes length.
    factor, exponent: interpolation and power basis underneath, see `Power`.
    """

    length: Optional[int] = None
    _: dataclasses.KW_ONLY
    keep_above: Optional[float] = None
    zero_below: Optional[float] = None
    constant: Optional[float] = None
    factor: float = 1.0
    exponent: float = 0.0

    def __post_init__(self):
        check = fields.optional_number
        self._set(
            length=fields.optional_integer("length", self.length, at_least=1),
            keep_above=check("keep_above", self.keep_above, above=0),
            zero_below=check("zero_below", self.zero_below, at_least=0),
            constant=check("constant", self.constant, at_least=0),
            factor=fields.number("factor", self.factor, at_least=1),
            exponent=fields.number("exponent", self.exponent, at_least=0),
        )
        if self.length is not None and self.keep_above is not None:
            raise ValueError(
                f"length={self.length} and keep_above={self.keep_above} exclude each other: length "
                "stands for keep_above = 2 pi / length"
            )

    def compute_inv_freq(self, geometry, seq_len=None):
        keep_above = self.keep_above
        if keep_above is None:
            length = geometry.max_position_embeddings if self.length is None else self.length
            if length is None:
                raise ValueError(
                    "Truncated needs length, keep_above, or max_position_embeddings of "
                    "RotaryEmbedding; all are None"
                )
            keep_above = 2 * math.pi / length
        zero_below = keep_above / 8 if self.zero_below is None else self.zero_below
        constant = keep_above / 16 if self.constant is None else self.constant
        if zero_below > keep_above:
            raise ValueError(
                f"zero_below must be at most keep_above = {keep_above:g}, got {zero_below:g}"
            )
        basis = power_basis(geometry, self.factor, self.exponent)
        slow = torch.where(basis >= zero_below, torch.full_like(basis, constant), 0.0)
        return torch.where(basis >= keep_above, basis, slow)
