# SPDX-License-Identifier: BSD-3-Clause
"""Where a rotation puts a row: maps of positions, as values."""

from __future__ import annotations

from typing import NamedTuple

MAX_MAPS = 4  # kMaxRotaryMaps of csrc/semantics/rotary.h


class PositionMap(NamedTuple):
    """p -> scale * p, rounded down if `floor`, plus offset.

    A scale that is the number nearest to 1 / n, with an integer n up to 2**53, means p / n without
    error, so that PositionMap(1 / 7, floor=True) is p // 7.
    """

    scale: float = 1.0
    offset: float = 0.0
    floor: bool = False

    def numbers(self) -> list:
        """As the ops take it."""
        return [self.scale, self.offset, 1.0 if self.floor else 0.0]

    def fraction(self) -> tuple:
        """(scale, divisor): scale / divisor is what `scale` means."""
        if 2.0**-53 <= self.scale < 1.0 and 1.0 / round(1.0 / self.scale) == self.scale:
            return 1.0, round(1.0 / self.scale)
        return self.scale, 1


IDENTITY = PositionMap()
