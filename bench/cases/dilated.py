# SPDX-License-Identifier: BSD-3-Clause
"""LongNet's dilated attention."""

from __future__ import annotations

import dataclasses

import longattn
from bench.cases.base import ReferenceCase
from bench.contenders import gathered, sdpa
from bench.contenders.base import ours
from bench.visible_pairs import dilated_pairs
from longattn import reference


@dataclasses.dataclass(frozen=True)
class Dilated(ReferenceCase):
    """Branches (segment length, rate), mixed by their lse. detach_weights: torchscale's gradient,
    the one that its rivals compute."""

    length: int = 16384
    head_dim: int = 128
    segment_lengths: tuple = (1024, 2048, 4096)
    dilation_rates: tuple = (1, 2, 4)
    detach_weights: bool = True

    pattern = "dilated"

    @property
    def title(self):
        return f"dilated {list(self.segment_lengths)} / {list(self.dilation_rates)}"

    def _call(self, function, **keywords):
        branches = (self.segment_lengths, self.dilation_rates)
        return lambda q, k, v, **start: function(q, k, v, *branches, **keywords, **start)

    def ours(self):
        return self._call(longattn.dilated_attention, detach_weights=self.detach_weights)

    def reference(self):
        return self._call(reference.dilated_attention, detach_weights=self.detach_weights)

    def rivals(self):
        exact = ours(
            "longattn, exact gradient", self._call(longattn.dilated_attention), baseline=True
        )
        return (
            gathered.gathered(self),
            sdpa.causal(self),
            *((exact,) if self.detach_weights else ()),
        )

    def visible_pairs(self):
        branches = zip(self.segment_lengths, self.dilation_rates, strict=True)
        pairs = sum(dilated_pairs(self.length, w, r, self.q_heads) for w, r in branches)
        return pairs * self.batch
