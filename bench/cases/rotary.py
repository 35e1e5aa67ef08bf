# SPDX-License-Identifier: BSD-3-Clause
"""apply_rotary on q and k."""

from __future__ import annotations

import dataclasses

import torch

import longattn
from bench.cases.base import Case
from bench.contenders import rotation


@dataclasses.dataclass(frozen=True)
class Rotary(Case):
    """The rotation of q and k: no products, one read and one write of both."""

    length: int = 8192
    head_dim: int = 128

    pattern = "rotary"
    input_names = ("q", "k")
    output_names = ("q_out", "k_out")

    @property
    def title(self):
        return "apply_rotary"

    def tolerance(self):
        """Hugging Face's angles are in single precision, its tables in the dtype of q."""
        return max(1e-3, super().tolerance())

    def input_shapes(self):
        return (self.q_shape, self.k_shape)

    def output_shapes(self):
        return self.input_shapes()

    def blocks(self):
        return [(0, self.length)]

    def _rope(self):
        return longattn.RotaryEmbedding(self.head_dim)

    def ours(self):
        rope = self._rope()
        return lambda q, k: longattn.apply_rotary(q, k, rope)

    def truth(self, inputs, start, stop):
        positions = torch.arange(start, stop)
        return tuple(
            rotation.turned_to(x[:, start:stop].transpose(1, 2), positions, self._rope()).transpose(
                1, 2
            )
            for x in inputs
        )

    def rivals(self):
        return rotation.rotations(self, self._rope())
