# SPDX-License-Identifier: BSD-3-Clause
"""ReRoPE and LM-Infinite: two rotations in one softmax. q and k come raw."""

from __future__ import annotations

import dataclasses
from typing import Optional

import longattn
from bench.cases.base import Case
from bench.contenders import rotation, sdpa, two_bands
from bench.contenders.base import ours
from bench.visible_pairs import causal_pairs, lambda_pairs

DENSE = "longattn, rotated dense"
LAMBDA = "longattn, no ceiling"


@dataclasses.dataclass(frozen=True)
class Rotated(Case):
    """Attention that rotates: its truth is dense, in float64."""

    def _rows(self, q, k, v, start):
        """[batch, heads, length, dim] -> out."""
        raise NotImplementedError(f"{type(self).__name__} has no rows")

    def truth(self, inputs, start, stop):
        q, k, v = (x.transpose(1, 2) for x in inputs)
        return (self._rows(q[:, :, start:stop], k, v, start).transpose(1, 2),)

    def _rope(self):
        return longattn.RotaryEmbedding(self.head_dim)


@dataclasses.dataclass(frozen=True)
class ReRope(Rotated):
    """Distances below `window` are true, others `window` (leak None) or `leak` times slower."""

    length: int = 8192
    window: int = 512
    leak: Optional[float] = None

    pattern = "rerope"

    @property
    def title(self):
        kind = "ReRoPE" if self.leak is None else f"Leaky ReRoPE {self.leak:g}"
        return f"{kind}, window {self.window}"

    def ours(self):
        rope, keywords = self._rope(), {"window": self.window, "leak": self.leak}
        return lambda q, k, v: longattn.rerope_attention(q, k, v, rope, **keywords)

    def _rows(self, q, k, v, start):
        return two_bands.rerope(q, k, v, self._rope(), self.window, self.leak, start)

    def rivals(self):
        rope, mask = self._rope(), longattn.Causal()

        def dense(q, k, v):
            return longattn.attention(*longattn.apply_rotary(q, k, rope), v, mask)

        return (
            ours(DENSE, dense, baseline=True),
            two_bands.eager_rerope(self, rope),
            dataclasses.replace(
                rotation.rotated_sdpa(
                    self, rope, sdpa.dense_causal, f"dense: rotation + {sdpa.SDPA}"
                ),
                baseline=True,
            ),
        )

    def visible_pairs(self):
        return causal_pairs(self.length) * self.q_heads * self.batch


@dataclasses.dataclass(frozen=True)
class LmInfinite(Rotated):
    """A window, and sinks that stand at distance_ceiling."""

    length: int = 8192
    head_dim: int = 128
    window: int = 1024
    sink_tokens: int = 64
    distance_ceiling: Optional[int] = 1024

    pattern = "lm_infinite"

    @property
    def title(self):
        ceiling = "" if self.distance_ceiling is None else f", ceiling {self.distance_ceiling}"
        return f"LM-Infinite, {self.sink_tokens} sinks + window {self.window}{ceiling}"

    def _call(self, ceiling):
        rope = self._rope()
        keywords = {"window": self.window, "sink_tokens": self.sink_tokens}
        return lambda q, k, v: longattn.lm_infinite_attention(
            q, k, v, rope, **keywords, distance_ceiling=ceiling
        )

    def ours(self):
        return self._call(self.distance_ceiling)

    def _rows(self, q, k, v, start):
        shape = (self.window, self.sink_tokens, self.distance_ceiling)
        return two_bands.lm_infinite(q, k, v, self._rope(), *shape, start)

    def rivals(self):
        return (
            ours(LAMBDA, self._call(None), baseline=True),
            two_bands.chunked_bands(self, self._rope()),
        )

    def visible_pairs(self):
        pairs = lambda_pairs(self.length, self.window, self.sink_tokens)
        return pairs * self.q_heads * self.batch
