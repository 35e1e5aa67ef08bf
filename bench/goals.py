# SPDX-License-Identifier: BSD-3-Clause
"""The speeds that were asked for, as data, and what a run says about each."""

from __future__ import annotations

import dataclasses
from typing import Optional

from bench import gpu_goals, held, record, ring
from bench.cases.scores import PLAIN
from bench.cases.threads import ONE
from bench.cases.two_bands import DENSE, LAMBDA
from bench.contenders.chunked import CHUNKED
from bench.contenders.gathered import GATHERED
from bench.contenders.rotation import COPY, EAGER
from bench.contenders.sdpa import SDPA
from bench.scaling import LINEAR, MOST

FLOAT, HALF = "float32", "bfloat16"


@dataclasses.dataclass(frozen=True)
class Goal:
    """A bound on a ratio of times. at_least: rival / ours; else: ours / yardstick, at most."""

    against: str  # the contender
    bound: float
    pattern: str
    part: str = "forward"
    at_least: bool = True
    dtype: str = FLOAT
    head_dim: Optional[int] = None  # None: any
    length: Optional[int] = None
    parameters: tuple = ()  # pairs
    isa: Optional[str] = None  # both are held to it
    memory: Optional[str] = None  # "kept"

    def fits(self, row: dict) -> bool:
        asked = {"pattern": self.pattern, "part": self.part, "dtype": self.dtype}
        asked |= {"contender": self.against, "device": "cpu"}
        for name in ("head_dim", "length"):
            if getattr(self, name) is not None:
                asked[name] = getattr(self, name)
        return (
            all(row[name] == value for name, value in asked.items())
            and all(
                _as_saved(row["parameters"].get(name)) == _as_saved(value)
                for name, value in self.parameters
            )
            and row.get("isa") == row.get("torch_isa") == self.isa
            and row.get("memory") == self.memory
        )

    @property
    def text(self) -> str:
        return f"≥ {self.bound:g}" if self.at_least else f"≤ {self.bound:g}"


def _as_saved(value):
    return list(value) if isinstance(value, tuple) else value


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One line of the table of goals; value and spread are None where nothing was measured."""

    work: str
    against: str
    goal: str
    value: Optional[float] = None
    low: Optional[float] = None
    high: Optional[float] = None
    met: Optional[bool] = None


def _beside(against, pattern, part, bounds: dict, **where) -> list:
    """bounds: dtype -> bound, or (dtype, head_dim) -> bound."""
    goals = []
    for key, bound in bounds.items():
        dtype, head_dim = key if isinstance(key, tuple) else (key, None)
        sizes = {"head_dim": head_dim, **where}
        goals.append(Goal(against, bound, pattern, part, dtype=dtype, **sizes))
    return goals


def _price(against, pattern, bound, parameters=()) -> list:
    """At most so much more than the yardstick, in both dtypes, forward and with the backward."""
    return [
        Goal(against, bound, pattern, part, False, dtype, parameters=parameters)
        for dtype in (FLOAT, HALF)
        for part in ("forward", "both")
    ]


def _rotations(memory) -> list:
    copies = [
        Goal(COPY, 1.8, "rotary", at_least=False, dtype=dtype, memory=memory)
        for dtype in (FLOAT, HALF)
    ]
    return _beside(EAGER, "rotary", "forward", {FLOAT: 6.0, HALF: 6.0}, memory=memory) + copies


_HEADS = ((FLOAT, 64), (FLOAT, 128), (HALF, 64), (HALF, 128))

_SINKS = {"parameters": (("window", 1024), ("sink_tokens", 64)), "length": 8192, "head_dim": 128}
_BRANCHES = {
    "parameters": (("segment_lengths", (1024, 2048, 4096)), ("dilation_rates", (1, 2, 4))),
    "length": 16384,
}
GOALS = [
    *_beside(SDPA, "dense", "forward", dict(zip(_HEADS, (1.5, 1.35, 2.0, 1.7))), length=4096),
    *_beside(SDPA, "dense", "backward", dict.fromkeys(_HEADS, 1.0), length=4096),
    *_beside(
        SDPA, "dense", "both",
        {(FLOAT, 64): 1.3, (HALF, 64): 2.5, (HALF, 128): 2.0}, length=2048,
    ),
    *_beside(CHUNKED, "sinks", "forward", {FLOAT: 2.3, HALF: 3.5}, **_SINKS),
    *_beside(CHUNKED, "sinks", "both", {FLOAT: 5.0, HALF: 8.0}, **_SINKS),
    *_beside(GATHERED, "dilated", "forward", {FLOAT: 2.5, HALF: 3.0}, **_BRANCHES),
    *(
        Goal(SDPA, 1.0, "dense", part, head_dim=64, length=4096, isa="avx2")
        for part in ("forward", "both")
    ),
    *_beside(ONE, "threads", "forward", {FLOAT: 1.8, HALF: 1.8}),
    *_beside(ONE, "threads", "both", {FLOAT: 1.8, HALF: 1.8}),
    *_rotations(None),
    *_rotations("kept"),
    *_price(DENSE, "rerope", 1.15),
    *_price(LAMBDA, "lm_infinite", 1.1),
    *_price(PLAIN, "biases", 1.05, (("kind", "alibi"),)),
    *_price(PLAIN, "biases", 1.25, (("kind", "table"),)),
    *_price(PLAIN, "biases", 1.25, (("kind", "kerple"),)),
    *_price(PLAIN, "biases", 1.25, (("kind", "sandwich"),)),
    *_price(PLAIN, "scores", 1.05, (("kind", "sink_logits"),)),
    *_price(PLAIN, "scores", 1.15, (("kind", "softcap"),)),
]  # fmt: skip
SMALL_CALL = ("longattn.attention", 30.0)  # µs with gradients


def verdicts(result: dict) -> list:
    """One for each goal and each row that it is about; one without a value where none is. They
    were set for one thread."""
    if result.get("kind") == record.GPU:
        return _of_a_gpu(result["rows"])
    found = []
    timed = [row for row in result["rows"] if "ratio" in row]
    if result["machine"]["threads"] != 1:
        timed = []
    for goal in GOALS:
        rows = [row for row in timed if goal.fits(row)]
        found += [_verdict(goal, row) for row in rows] or [_unmeasured(goal)]
    return found + _small_call(result) + _exponents(result) + _rings(result) + _busiest(result)


def _of_a_gpu(rows: list) -> list:
    return [
        Verdict(
            f"{one['goal']}, {one['part']}",
            one["against"],
            one["wanted"],
            *(one["ratio"],) * 3,
            one["met"],
        )
        for one in gpu_goals.verdicts(rows)
    ]


def _verdict(goal: Goal, row: dict) -> Verdict:
    median, low, high = row["ratio"]
    if not goal.at_least:
        median, low, high = 1 / median, 1 / high, 1 / low
    met = median >= goal.bound if goal.at_least else median <= goal.bound
    work = f"{row['title']}, {row['part']}, {row['dtype']} d{row['head_dim']} N {row['length']}"
    return Verdict(work + _held(goal), goal.against, goal.text, median, low, high, met)


def _unmeasured(goal: Goal) -> Verdict:
    sizes = [f"d{goal.head_dim}"] * bool(goal.head_dim) + [f"N {goal.length}"] * bool(goal.length)
    kind = "".join(f" {value}" for _, value in goal.parameters)
    work = " ".join([f"{goal.pattern}{kind}, {goal.part}, {goal.dtype}", *sizes])
    return Verdict(work + _held(goal), goal.against, goal.text)


def _held(goal: Goal) -> str:
    return held.text_of({"isa": goal.isa, "torch_isa": goal.isa, "memory": goal.memory})


def _small_call(result: dict) -> list:
    name, most = SMALL_CALL
    value = result.get("small_call", {}).get(name)
    met = None if value is None else value <= most
    work = f"{name} of 4 rows with gradients, µs"
    return [Verdict(work, "overhead alone", f"≤ {most:g}", value, value, value, met)]


def _exponents(result: dict) -> list:
    found = []
    for row in result.get("scaling", ()):
        if row["pattern"] not in LINEAR:
            continue
        for what in ("time", "memory"):
            value = row.get(f"{what}_exponent")
            work = f"{row['title']}, {row['part']}, {row['dtype']}: {what} against length"
            met = None if value is None else value <= MOST
            found.append(Verdict(work, "exponent", f"≤ {MOST:g}", value, value, value, met))
    return found


def _rings(result: dict) -> list:
    return [
        Verdict(
            f"{row['title']}, {row['part']}, {row['dtype']} N {row['length']}: CPU time of all "
            f"{row['world_size']} ranks",
            "one process",
            f"≤ {ring.MOST:g}",
            *(row["ratio"],) * 3,
            row["ratio"] <= ring.MOST,
        )
        for row in result.get("ring", ())
        if row["world_size"] > 1
    ]


def _busiest(result: dict) -> list:
    return [
        Verdict(
            f"{row['title']}, {row['part']}, {row['dtype']} N {row['length']}: CPU time of the "
            f"busiest of {row['world_size']} ranks",
            "the mean of all ranks",
            f"≤ {ring.MOST_UNEVEN:g}",
            *row["busiest"],
            row["busiest"][0] <= ring.MOST_UNEVEN,
        )
        for row in result.get("ring", ())
        if row["world_size"] > 1 and row.get("layout") in ring.EVEN and "busiest" in row
    ]


def text_of(verdict: Verdict) -> str:
    value = "not measured"
    if verdict.value is not None:
        spread = f"[{verdict.low:.2f}, {verdict.high:.2f}]" if verdict.low != verdict.high else ""
        value = f"{verdict.value:.2f} {spread}".strip()
    return value


def answer(verdict: Verdict) -> str:
    """By the median; says so where rounds disagree."""
    if verdict.met is None:
        return "–"
    bound = float(verdict.goal.split()[1])
    unsure = " (not in every round)" if verdict.low < bound < verdict.high else ""
    return ("met" if verdict.met else "NOT MET") + unsure


def tell(result: dict) -> None:
    """Prints them all."""
    found = verdicts(result)
    for one in found:
        print(
            f"{one.work:68} against {one.against:30} {one.goal:8} {text_of(one):22} {answer(one)}"
        )
    asked = [one.met for one in found if one.met is not None]
    print(f"{sum(asked)} of {len(asked)} goals met, {len(found) - len(asked)} not measured")
