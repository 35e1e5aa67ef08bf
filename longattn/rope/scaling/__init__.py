# SPDX-License-Identifier: BSD-3-Clause
"""One file a family of scalings; each is a frozen value passed as `scaling=`."""

from longattn.rope.scaling.abf import ABF
from longattn.rope.scaling.base import Scaling
from longattn.rope.scaling.dynamic_yarn import DynamicYaRN
from longattn.rope.scaling.giraffe import Power, Truncated
from longattn.rope.scaling.grid import Grid
from longattn.rope.scaling.linear import Linear
from longattn.rope.scaling.llama3 import Llama3
from longattn.rope.scaling.longrope import LongRope
from longattn.rope.scaling.ntk import NTK, DynamicNTK
from longattn.rope.scaling.proportional import Proportional
from longattn.rope.scaling.su import NTKMixed, Su
from longattn.rope.scaling.yarn import NTKByParts, YaRN

__all__ = [
    "ABF",
    "NTK",
    "DynamicNTK",
    "DynamicYaRN",
    "Grid",
    "Linear",
    "Llama3",
    "LongRope",
    "NTKByParts",
    "NTKMixed",
    "Power",
    "Proportional",
    "Scaling",
    "Su",
    "Truncated",
    "YaRN",
]
