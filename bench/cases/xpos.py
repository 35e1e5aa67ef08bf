# SPDX-License-Identifier: BSD-3-Clause
"""xPos: rotation and growth with distance. q and k come raw."""

from __future__ import annotations

import dataclasses
from typing import Optional

import longattn
from bench.cases.base import ReferenceCase
from bench.cases.two_bands import DENSE
from bench.contenders import xpos
from bench.contenders.base import ours
from bench.visible_pairs import causal_pairs, group_pairs
from longattn import reference


@dataclasses.dataclass(frozen=True)
class XPos(ReferenceCase):
    """Causal, or blockwise causal: a query sees its own block and the one before."""

    block: Optional[int] = None

    pattern = "xpos"

    @property
    def title(self):
        return "xPos" if self.block is None else f"xPos, blocks of {self.block}"

    def _call(self, function):
        rope = longattn.RotaryEmbedding.xpos(self.head_dim)
        return lambda q, k, v, **start: function(q, k, v, rope, block=self.block, **start)

    def ours(self):
        return self._call(longattn.xpos_attention)

    def reference(self):
        return self._call(reference.xpos_attention)

    def tolerance(self):
        """torchscale's tables are in the dtype of q."""
        return max(1e-3, super().tolerance())

    def rivals(self):
        rope, mask = longattn.RotaryEmbedding(self.head_dim, interleaved=True), longattn.Causal()

        def dense(q, k, v):
            return longattn.attention(*longattn.apply_rotary(q, k, rope), v, mask)

        with_growth = longattn.RotaryEmbedding.xpos(self.head_dim)
        return (ours(DENSE, dense, baseline=True), xpos.eager(self, with_growth))

    def visible_pairs(self):
        pairs = causal_pairs(self.length)
        if self.block is not None:
            before = max(0, self.length - self.block) * self.block
            pairs = group_pairs(self.length, self.block) + before
        return pairs * self.q_heads * self.batch
