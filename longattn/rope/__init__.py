# SPDX-License-Identifier: BSD-3-Clause
"""Rotary position embeddings: `RotaryEmbedding` and the scalings that it takes."""

from longattn.rope.embedding import RotaryEmbedding
from longattn.rope.scaling import Linear, Scaling

__all__ = ["Linear", "RotaryEmbedding", "Scaling"]
