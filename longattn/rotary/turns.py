# SPDX-License-Identifier: BSD-3-Clause
"""Inverse frequencies as turns a position, in two doubles: their product with a position of 2^40
must be known to a small part of one turn, which one double has lost there."""

from __future__ import annotations

from functools import lru_cache
from math import log2, e

import torch

_TWO_PI = 0x6487ED5110B4611A62633145C06E0E68948127044  # 2 pi in units of 2**-_BITS
_BITS = 160


def turns_of(inv_freq: float) -> tuple:
    """(high, low): inv_freq / (2 pi) to 107 bits. Division of integers rounds to nearest."""
    numerator, denominator = inv_freq.as_integer_ratio()
    numerator, denominator = numerator << _BITS, denominator * _TWO_PI
    high = numerator / denominator
    of_high, over = high.as_integer_ratio()
    low = (numerator * over - of_high * denominator) / (denominator * over)
    return high, low


def table(inv_freq: torch.Tensor, log_growth=None) -> torch.Tensor:
    """float64 [3, pairs] on the CPU: turns a position, high and low, and xPos's log2 of the growth
    a position. Not to be written to: tables are kept."""
    growth = () if log_growth is None else tuple(log_growth.tolist())
    return _table(tuple(inv_freq.tolist()), growth)


@lru_cache(maxsize=64)
def _table(inv_freq: tuple, log_growth: tuple) -> torch.Tensor:
    high, low = zip(*map(turns_of, inv_freq))
    growth = tuple(number * log2(e) for number in log_growth) or (0.0,) * len(inv_freq)
    with torch.inference_mode(False):
        return torch.tensor([high, low, growth], dtype=torch.float64, device="cpu")
