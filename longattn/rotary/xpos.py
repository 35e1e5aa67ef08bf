# SPDX-License-Identifier: BSD-3-Clause
"""xPos's centre: growth is measured from it, so that it stays in the dtype's range."""

from __future__ import annotations

import math

import torch

# How far factors may go, as a power of 2: 16-bit floats keep their small numbers, all leave room
# for products of a query and a key.
MOST_BITS = {torch.float16: 8, torch.bfloat16: 100, torch.float32: 100, torch.float64: 900}

# Of the pair that grows most, the first one: zeta_0 = 0.4 / 1.4, once every scale_base positions.
BITS_OF_SCALE_BASE = math.log2(1.4 / 0.4)


def centre_of(low: int, high: int, maps, scale_base: float, dtype) -> float:
    """The middle of all mapped positions in [low, high]; ValueError where growth from there leaves
    the dtype's range."""
    ends = [
        side.scale * position + side.offset
        for pair in maps
        for side in pair
        for position in (low, high)
    ]
    centre = float(math.floor((min(ends) + max(ends)) / 2))
    farthest = MOST_BITS[dtype] * scale_base / BITS_OF_SCALE_BASE
    if max(abs(end - centre) for end in ends) > farthest:
        raise ValueError(
            f"positions {low} to {high} span more than the {int(2 * farthest)} that xPos's factors "
            f"can span in {dtype}: use longattn.xpos_attention, which has no such limit"
        )
    return centre
