# SPDX-License-Identifier: BSD-3-Clause
"""xPos's centre: growth is measured from it, so that it stays in the dtype's range."""

from __future__ import annotations

import math

import torch

# How far factors may go, as a power of 2: 16-bit floats keep their small numbers, all leave room
# for products of a query and a key.
MOST_BITS = {torch.float16: 8, torch.bfloat16: 100, torch.float32: 100, torch.float64: 900}


def centre_of(low: int, high: int, maps, log_growth, dtype, given=None) -> float:
    """The middle of all mapped positions in [low, high], or `given`; ValueError where growth from
    there leaves the dtype's range."""
    ends = [
        side.scale * position + side.offset
        for pair in maps
        for side in pair
        for position in (low, high)
    ]
    centre = float(math.floor((min(ends) + max(ends)) / 2)) if given is None else float(given)
    reach = max(abs(end - centre) for end in ends) + 1
    bits = reach * log_growth.abs().max().item() / math.log(2)
    if bits > MOST_BITS[dtype]:
        most = 2 * int(MOST_BITS[dtype] * math.log(2) / log_growth.abs().max().item())
        raise ValueError(
            f"positions {low} to {high} span more than xPos's factors can in {dtype}, which is "
            f"about {most} positions: use longattn.xpos_attention, which has no such limit"
        )
    return centre
