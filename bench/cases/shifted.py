# SPDX-License-Identifier: BSD-3-Clause
"""LongLoRA's shifted groups."""

from __future__ import annotations

import dataclasses

import longattn
from bench.cases.base import ReferenceCase
from bench.contenders import grouped, sdpa
from bench.visible_pairs import group_pairs
from longattn import reference


@dataclasses.dataclass(frozen=True)
class Shifted(ReferenceCase):
    """Causal groups, whose borders half of the heads have half a group on."""

    length: int = 8192
    head_dim: int = 128
    group_size: int = 2048

    pattern = "shifted"

    @property
    def title(self):
        return f"shifted groups of {self.group_size}"

    def _call(self, function):
        return lambda q, k, v, **start: function(q, k, v, self.group_size, **start)

    def ours(self):
        return self._call(longattn.shifted_sparse_attention)

    def reference(self):
        return self._call(reference.shifted_sparse_attention)

    def rivals(self):
        return (grouped.grouped(self), sdpa.causal(self))

    def visible_pairs(self):
        still = self.q_heads // 2
        moved = self.q_heads - still
        pairs = still * group_pairs(self.length, self.group_size)
        pairs += moved * group_pairs(self.length, self.group_size, self.group_size // 2)
        return pairs * self.batch
