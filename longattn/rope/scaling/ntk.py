# SPDX-License-Identifier: BSD-3-Clause
"""NTK-aware scaling: the base grows so that the slowest pair is interpolated and no other fully."""

from __future__ import annotations

import dataclasses

from longattn.rope import fields
from longattn.rope.scaling.base import Scaling


def stretched_base(geometry, stretch):
    """base * stretch**(d / (d - 2)): the last pair then turns exactly `stretch` times slower."""
    if geometry.rotary_dim < 4:
        raise ValueError(
            f"NTK scaling needs a rotary_dim of at least 4, got {geometry.rotary_dim}: a single "
            "pair does not depend on the base"
        )
    return geometry.base * stretch ** (geometry.rotary_dim / (geometry.rotary_dim - 2))


@dataclasses.dataclass(frozen=True)
class NTK(Scaling):
    """NTK-aware scaling of bloc97 (no paper; described in YaRN, 2309.00071, section 3.1).

    HunYuan's configs call it "dynamic" with a field alpha, which is our factor.
    """

    factor: float

    def __post_init__(self):
        self._set(factor=fields.number("factor", self.factor, at_least=1))

    def compute_inv_freq(self, geometry, seq_len=None):
        return geometry.inv_freq(stretched_base(geometry, self.factor))


@dataclasses.dataclass(frozen=True)
class DynamicNTK(Scaling):
    """NTK scaling that grows with the sequence (emozilla; YaRN, 2309.00071, section 3.3).

    Hugging Face's type "dynamic". Up to max_position_embeddings M of the RotaryEmbedding (which
    must have it) nothing changes; beyond, the stretch is factor * seq_len / M - (factor - 1).
    Angles are a function of seq_len alone. Hugging Face keeps those of the longest sequence seen
    since the last one shorter than M, and keys cached under earlier angles stay as they were: cache
    raw keys, or pass the longest length so far as seq_len.
    """

    factor: float = 1.0

    def __post_init__(self):
        self._set(factor=fields.number("factor", self.factor, at_least=1))

    @property
    def depends_on_length(self):
        return True

    def compute_inv_freq(self, geometry, seq_len=None):
        trained = geometry.max_position_embeddings
        if trained is None:
            raise ValueError(
                "DynamicNTK (rope_type 'dynamic') needs max_position_embeddings of "
                "RotaryEmbedding, the length from which it grows; it is None"
            )
        # factor * seq_len / trained - (factor - 1), without the cancellation
        beyond = 0 if seq_len is None or seq_len <= trained else (seq_len - trained) / trained
        return geometry.inv_freq(stretched_base(geometry, 1 + self.factor * beyond))
