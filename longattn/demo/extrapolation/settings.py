# SPDX-License-Identifier: BSD-3-Clause
"""Everything that decides the numbers of the comparison."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

from longattn.demo.settings import Settings, parse_as


@dataclasses.dataclass(frozen=True)
class ExtrapolationSettings(Settings):
    command: ClassVar[str] = "extrapolate"
    multiples: ClassVar[tuple] = (1, 2, 4, 8, 16)
    most_steps: ClassVar[int] = 500

    seconds: float = 210.0
    length: int = 64
    batch: int = 32
    contexts: int = 128
    output: Path = Path("longattn-extrapolation")

    @property
    def longest_context(self) -> int:
        return self.multiples[-1] * self.length


def parse(arguments: list[str] | None) -> ExtrapolationSettings:
    return parse_as(
        ExtrapolationSettings,
        "Train small byte-level decoders on the sources of Python's standard library at a short "
        "length, each with other positions, then measure them at up to 16 times that length. "
        "Rotary positions are trained once and measured under every way to stretch them.",
        arguments,
        threads="decoders at work at the same time, which changes no number (default: torch's "
        "number of threads)",
    )
