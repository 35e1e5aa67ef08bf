# SPDX-License-Identifier: BSD-3-Clause
"""Dense causal attention."""

from __future__ import annotations

import dataclasses

import longattn
from bench.cases.base import ReferenceCase
from bench.contenders import flex, packages, sdpa
from bench.visible_pairs import causal_pairs
from longattn import reference


@dataclasses.dataclass(frozen=True)
class Dense(ReferenceCase):
    """Causal attention over the whole sequence."""

    pattern = "dense"

    @property
    def title(self):
        return "dense causal"

    def ours(self):
        mask = longattn.Causal()
        return lambda q, k, v: longattn.attention(q, k, v, mask)

    def reference(self):
        mask = longattn.Causal()
        return lambda q, k, v, **start: reference.attention(q, k, v, mask, **start)

    def rivals(self):
        return (
            *sdpa.causal_backends(self),
            flex.flex(self, flex.causal),
            *packages.windowed(self),
        )

    def visible_pairs(self):
        return causal_pairs(self.length) * self.q_heads * self.batch
