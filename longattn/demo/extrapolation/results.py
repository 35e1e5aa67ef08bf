# SPDX-License-Identifier: BSD-3-Clause
"""What one run of the comparison found."""

from __future__ import annotations

import dataclasses

from longattn.demo.evaluation import Losses
from longattn.demo.extrapolation.settings import ExtrapolationSettings

ROTARY = "RoPE"  # the weights with many rows


@dataclasses.dataclass(frozen=True)
class Results:
    settings: ExtrapolationSettings
    text: str  # one line about the corpus
    model: str  # one line about the decoders
    repeat: str  # the command that repeats the losses
    training_losses: dict[str, list[float]]  # by weights
    unigram: float
    bigram: float
    rows: dict[str, dict[str, Losses]]  # weights -> label -> losses
    training_seconds: float
    seconds: float
    cpu_seconds: float

    def groups(self) -> dict[str, dict[str, Losses]]:
        """The two parts of the table: label -> losses."""
        trained = [rows for name, rows in self.rows.items() if name != ROTARY]
        return {
            "one decoder, trained with RoPE": self.rows[ROTARY],
            "a decoder trained for each": {k: v for rows in trained for k, v in rows.items()},
        }
