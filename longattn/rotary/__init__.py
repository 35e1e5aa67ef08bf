# SPDX-License-Identifier: BSD-3-Clause
"""The rotary pre-pass: q and k biased, normalised, rotated and scaled in one launch."""

from longattn.rotary.apply import apply_rotary, rotate
from longattn.rotary.maps import PositionMap

__all__ = ["PositionMap", "apply_rotary", "rotate"]
