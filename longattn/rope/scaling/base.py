# SPDX-License-Identifier: BSD-3-Clause
"""The contract of a scaling: a frozen value that turns a geometry into angles and a factor."""

from __future__ import annotations

from typing import Optional

import torch

from longattn.rope.geometry import Geometry


class Scaling:
    """Base of all scalings. Subclasses are frozen dataclasses and override `inv_freq`.

    seq_len (the largest position + 1) matters only where `depends_on_length` is True; None is the
    state before any position is known.
    """

    @property
    def depends_on_length(self) -> bool:
        return False

    def inv_freq(self, geometry: Geometry, seq_len: Optional[int] = None) -> torch.Tensor:
        """Angles per position, float64 [rotary_dim / 2] on the CPU."""
        raise NotImplementedError

    def attention_factor(self, geometry: Geometry, seq_len: Optional[int] = None) -> float:
        """Multiplies cos and sin, hence q and k: scores grow by its square."""
        return 1.0

    def softmax_scale_factor(self, geometry: Geometry) -> float:
        """Multiplies the softmax scale; 1 except for DeepSeek's use of YaRN."""
        return 1.0
