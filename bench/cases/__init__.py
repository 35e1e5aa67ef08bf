# SPDX-License-Identifier: BSD-3-Clause
"""What is measured: a frozen value for each case, a class for each pattern."""

from bench.cases.base import Case
from bench.cases.dense import Dense
from bench.cases.dilated import Dilated
from bench.cases.rotary import Rotary
from bench.cases.scores import Biases, Scores
from bench.cases.shifted import Shifted
from bench.cases.threads import Threads
from bench.cases.two_bands import LmInfinite, ReRope
from bench.cases.window import Sinks, Window
from bench.cases.xpos import XPos
from bench.visible_pairs import causal_pairs, lambda_pairs

PATTERNS = {
    case.pattern: case
    for case in (
        Dense,
        Window,
        Sinks,
        Dilated,
        Shifted,
        ReRope,
        LmInfinite,
        XPos,
        Biases,
        Scores,
        Rotary,
        Threads,
    )
}

__all__ = [
    "PATTERNS",
    "Biases",
    "Case",
    "Dense",
    "Dilated",
    "LmInfinite",
    "ReRope",
    "Rotary",
    "Shifted",
    "Scores",
    "Sinks",
    "Threads",
    "Window",
    "XPos",
    "causal_pairs",
    "lambda_pairs",
]
