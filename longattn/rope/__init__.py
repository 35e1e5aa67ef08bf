# SPDX-License-Identifier: BSD-3-Clause
"""Rotary position embeddings: `RotaryEmbedding` and the scalings that it takes."""

from longattn.rope import random_positions
from longattn.rope.embedding import RotaryEmbedding
from longattn.rope.scaling import (
    ABF,
    NTK,
    DynamicNTK,
    DynamicYaRN,
    Grid,
    Linear,
    Llama3,
    LongRope,
    NTKByParts,
    NTKMixed,
    Power,
    Proportional,
    Scaling,
    Su,
    Truncated,
    YaRN,
)

__all__ = [
    "ABF",
    "NTK",
    "DynamicNTK",
    "DynamicYaRN",
    "Grid",
    "Linear",
    "Llama3",
    "LongRope",
    "NTKByParts",
    "NTKMixed",
    "Power",
    "Proportional",
    "RotaryEmbedding",
    "Scaling",
    "Su",
    "Truncated",
    "YaRN",
    "random_positions",
]
