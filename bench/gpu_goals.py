# SPDX-License-Identifier: BSD-3-Clause
"""Ratios of measured rows beside what they should be on a GPU of Hopper's class."""

from __future__ import annotations

import operator
from typing import Callable, NamedTuple, Optional

from bench.gpu_contender import OURS
from bench.gpu_ring import ON_A_RING

PARTS = ("forward", "backward")
FLASH, FLEX = "SDPA flash", "FlexAttention, compiled"


class Side(NamedTuple):
    """Rows are found by how their case begins, its head_dim and the contender."""

    case: str
    contender: str = OURS
    head_dim: int = 128
    length: Optional[int] = None


class Goal(NamedTuple):
    name: str
    figure: str  # ms, tflops or gbs
    mine: Side
    than: Optional[Side]  # None: the figure itself is compared
    holds: Callable
    forward: Optional[float]
    backward: Optional[float]


def at_most(name, mine, than, forward, backward=None) -> Goal:
    backward = forward if backward is None else backward
    return Goal(name, "ms", mine, than, operator.le, forward, backward)


def at_least(name, figure, mine, than, forward, backward=None) -> Goal:
    return Goal(name, figure, mine, than, operator.ge, forward, backward)


DENSE, WINDOW = Side("dense causal"), Side("window 1024, sinks", length=32768)
SCORES, ROPE = "score arguments", "dense causal with RoPE"
GOALS = (
    at_least("dense causal, TFLOP/s", "tflops", Side("dense causal", length=16384), None, 330, 210),
    at_least("dense causal over FlashAttention-2", "tflops", DENSE, Side("dense causal", FLASH),
             1.0, 0.7),
    at_least("window over dense, a visible pair", "tflops", WINDOW, DENSE, 0.75, 0.65),
    at_most("window in FlexAttention's time", Side("window 1024 "), Side("window 1024 ", FLEX),
            1 / 1.3),
    at_most("64 sinks + window in the window's time",
            Side("window 1024, sinks", "with sinks", length=32768), WINDOW, 1.15, 1.2),
    at_most("the same of one head and 64k rows",
            Side("window 1024, sinks", "with sinks", length=65536),
            Side("window 1024, sinks", length=65536), 1.15, 1.2),
    at_most("LongNet in the time of its branches", Side("dilated [2048, 4096, 8192, 16384"),
            Side("dilated [2048, 4096, 8192, 16384", "branches as dense causal"), 1.15),
    at_least("apply_rotary over copy bandwidth", "gbs", Side("apply_rotary"),
             Side("apply_rotary", "copy"), 0.85, 0.85),
    at_most("ReRoPE in the time of RoPE", Side(ROPE, "ReRoPE"), Side(ROPE), 1.15),
    at_most("lambda with a ceiling in the time without", Side("lambda with RoPE", "with ceiling"),
            Side("lambda with RoPE"), 1.1),
    at_most("ring of 8 shards in the time of one call", Side(f"{ON_A_RING}, causal", ON_A_RING),
            Side(f"{ON_A_RING}, causal"), 1.1),
    at_most("the same with a window", Side(f"{ON_A_RING}, window", ON_A_RING),
            Side(f"{ON_A_RING}, window"), 1.1),
    at_most("ALiBi", Side(SCORES, "ALiBi"), Side(SCORES), 1.05),
    at_most("table", Side(SCORES, "table"), Side(SCORES), 1.25),
    at_most("sink logits", Side(SCORES, "sink logits"), Side(SCORES), 1.05),
    at_most("softcap", Side(SCORES, "softcap"), Side(SCORES), 1.15),
)  # fmt: skip


def figure_of(rows: list, side: Side, part: str, figure: str) -> Optional[float]:
    for row in rows:
        same = row["contender"] == side.contender and row["head_dim"] == side.head_dim
        same = same and row["title"].startswith(side.case) and row["part"] == part
        if same and side.length in (None, row["length"]) and "ms" in row:
            return {"ms": row["ms"][0], "tflops": row.get("gflops", 0.0) / 1e3}.get(
                figure, row.get(figure)
            )
    return None


def verdicts(rows: list) -> list:
    """One a goal and part: its ratio, what it should be, and whether it is; ratio None where a row
    was not measured."""
    found = []
    for goal in GOALS:
        for part, wanted in (("forward", goal.forward), ("backward", goal.backward)):
            if wanted is None:
                continue
            mine = figure_of(rows, goal.mine, part, goal.figure)
            than = 1.0 if goal.than is None else figure_of(rows, goal.than, part, goal.figure)
            ratio = round(mine / than, 3) if mine and than else None
            relation = "≤" if goal.holds is operator.le else "≥"
            found.append({
                "goal": goal.name, "part": part, "ratio": ratio,
                "wanted": f"{relation} {wanted:.3g}",
                "against": "" if goal.than is None else f"{goal.than.case}: {goal.than.contender}",
                "met": None if ratio is None else goal.holds(ratio, wanted),
            })  # fmt: skip
    return found


def text_of(verdict: dict) -> str:
    word = {True: "met", False: "missed", None: "not measured"}[verdict["met"]]
    ratio = "-" if verdict["ratio"] is None else verdict["ratio"]
    return f"{verdict['goal']:45}{verdict['part']:10}{ratio!s:>9}  {verdict['wanted']:15} {word}"
