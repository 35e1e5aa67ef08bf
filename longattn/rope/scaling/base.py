# SPDX-License-Identifier: BSD-3-Clause
"""The contract of a scaling: a frozen value that turns a geometry into angles and a factor."""

from __future__ import annotations

from typing import Optional

import torch

from longattn.rope.geometry import Geometry


class Scaling:
    """Base of all scalings. Subclasses are frozen dataclasses and override `compute_inv_freq`.

    Fields that are None take what the RotaryEmbedding knows. seq_len (the largest position + 1)
    matters only where `depends_on_length` is True; None is the state before any position is known.
    """

    @property
    def depends_on_length(self) -> bool:
        return False

    def compute_inv_freq(self, geometry: Geometry, seq_len: Optional[int] = None) -> torch.Tensor:
        """Angles per position, float64 [rotary_dim / 2] on the CPU."""
        raise NotImplementedError

    def compute_attention_factor(self, geometry: Geometry, seq_len: Optional[int] = None) -> float:
        """Multiplies cos and sin, hence q and k: scores grow by its square."""
        return 1.0

    def compute_softmax_scale_factor(self, geometry: Geometry) -> float:
        """Multiplies the softmax scale; 1 except for DeepSeek's use of YaRN."""
        return 1.0

    def _set(self, **values) -> None:
        """For `__post_init__`, which stores fields as checked."""
        for name, value in values.items():
            object.__setattr__(self, name, value)
