# SPDX-License-Identifier: BSD-3-Clause
"""YaRN with a factor that follows the length."""

from __future__ import annotations

import dataclasses
from typing import Optional

from longattn.rope import fields
from longattn.rope.scaling.yarn import ByParts, magnitude


@dataclasses.dataclass(frozen=True, kw_only=True)
class DynamicYaRN(ByParts):
    """Dynamic YaRN (2309.00071, section 3.3): factor = max(1, seq_len / trained length).

    Not a type of Hugging Face.

    finetuned: the model was trained with YaRN for max_position_embeddings; the factor starts at
      max_position_embeddings / original_max_position_embeddings and grows beyond.
    hold: up to this length the factor stays at its start. None follows the paper: the trained
      length, or max_position_embeddings if finetuned. The official code (jquesnelle/yarn) has
      max_position_embeddings in both cases; give that to follow it.
    """

    finetuned: bool = False
    hold: Optional[int] = None

    def __post_init__(self):
        super().__post_init__()
        self._set(
            finetuned=fields.flag("finetuned", self.finetuned),
            hold=fields.optional_integer("hold", self.hold, at_least=1),
        )

    @property
    def depends_on_length(self):
        return True

    def compute_inv_freq(self, geometry, seq_len=None):
        return self._blend(geometry, self._factor(geometry, seq_len))

    def compute_attention_factor(self, geometry, seq_len=None):
        return magnitude(self._factor(geometry, seq_len))

    def _factor(self, geometry, seq_len):
        trained, start, hold = self._length(geometry), 1.0, self.hold
        if self.finetuned:
            start = geometry.extension(self.original_max_position_embeddings, "DynamicYaRN")
        if hold is None:
            hold = geometry.max_position_embeddings if self.finetuned else trained
        if seq_len is None or seq_len <= hold:
            return start
        return max(start, seq_len / trained)
