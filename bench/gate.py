# SPDX-License-Identifier: BSD-3-Clause
"""Small pairs that must not become slow: each against the ratio that was once measured.

`pytest bench` runs them; `python -m bench gates` measures and keeps what it finds. A floor is a
share of the measured ratio, wide enough for a shared machine and too tight for a call that takes
1.3 times as long. Ratios depend on the processor and the instruction sets of both sides, so they
are kept by those. Where none was measured, nothing can be demanded beside a rival; the price of
something beside longattn itself is much the same everywhere, so it has a floor on every machine."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
from typing import Optional

import torch

from bench import timing
from bench.cases import PATTERNS
from bench.cases.scores import PLAIN
from bench.cases.two_bands import DENSE, LAMBDA
from bench.contenders.base import OURS, ours
from bench.contenders.chunked import CHUNKED
from bench.contenders.gathered import GATHERED
from bench.contenders.grouped import GROUPED
from bench.contenders.rotation import EAGER
from bench.contenders.sdpa import SDPA
from bench.entrant import INFERENCE, TRAINING, Entrant
from bench.record import vendor
from bench.truth import truth_of
from longattn import native

MEASURED = pathlib.Path(__file__).resolve().parent / "gates" / "measured.json"
# Of the measured ratio. On a shared machine, its cores twice as wanted as they are many, ratios of
# rivals lie within 6 % of their median, those of longattn's calls within 4 %.
RIVAL_SHARE = 0.78
PRICE_SHARE = 0.85
MEMORY_SHARE = 0.65  # peaks are counted in pages, by the operating system
ANYWHERE_SHARE = 0.8  # of the least ratio of all machines: the floor of a price where none is known
ROUNDS, MOST_ROUNDS = 7, 41  # more where both sides together take less than SECONDS
SECONDS = 0.6
SAMPLE = 0.003  # seconds; calls of ours that are shorter are repeated, and as many of the rival's
ATTEMPTS = 5  # of a ratio under its floor, before it counts
PAUSE = 1.0  # seconds before another one: who shares the machine may be done by then

WINDOW = {"length": 2048, "window": 256, "head_dim": 64, "q_heads": 4}


@dataclasses.dataclass(frozen=True)
class Gate:
    name: str
    case: object
    rival: str
    training: bool = False
    memory: bool = False  # peaks are compared, not times

    def __str__(self):
        return self.name

    @property
    def share(self) -> float:
        if self.memory:
            return MEMORY_SHARE
        return PRICE_SHARE if self.is_price else RIVAL_SHARE

    @property
    def is_price(self) -> bool:
        """Whether both sides are longattn's."""
        return self.rival.startswith(OURS)


def _gate(pattern, rival, dtype, training=False, memory=False, **settings) -> Gate:
    case = PATTERNS[pattern](dtype=dtype, **{"length": 1024, "q_heads": 4, **settings})
    part = "forward and backward" if training else "forward"
    part = f"memory of {part}" if memory else part
    name = f"{case.title}, {dtype} d{case.head_dim} N {case.length}, {part} against {rival}"
    return Gate(name, case, rival, training, memory)


GATES = [
    gate
    for dtype in ("float32", "bfloat16")
    for gate in (
        _gate("dense", SDPA, dtype),
        _gate("dense", SDPA, dtype, True),
        _gate("dense", SDPA, dtype, head_dim=128),
        _gate("dense", SDPA, dtype, True, memory=True, length=2048),
        _gate("sinks", CHUNKED, dtype, sink_tokens=16, **WINDOW),
        _gate("sinks", CHUNKED, dtype, True, sink_tokens=16, **WINDOW),
        _gate("sinks", CHUNKED, dtype, True, memory=True, sink_tokens=16, **WINDOW),
        _gate("dilated", GATHERED, dtype, length=4096, head_dim=64),
        _gate("dilated", GATHERED, dtype, True, length=4096, head_dim=64),
        _gate("shifted", GROUPED, dtype, length=2048, head_dim=64, group_size=512),
        _gate("shifted", GROUPED, dtype, True, length=2048, head_dim=64, group_size=512),
        _gate("rotary", EAGER, dtype, length=4096),
        _gate("rotary", EAGER, dtype, True, length=4096),
        _gate("rerope", DENSE, dtype, True, length=2048, window=256),
        _gate("lm_infinite", LAMBDA, dtype, sink_tokens=16, distance_ceiling=256, **WINDOW),
        _gate("lm_infinite", LAMBDA, dtype, True, sink_tokens=16, distance_ceiling=256, **WINDOW),
        _gate("biases", PLAIN, dtype, True, kind="alibi"),
        _gate("biases", PLAIN, dtype, True, kind="table"),
        _gate("scores", PLAIN, dtype, True, kind="sink_logits"),
        _gate("scores", PLAIN, dtype, kind="softcap"),
    )
] + [_gate("dense", SDPA, "float32", True, length=4, q_heads=2, head_dim=16)]  # overhead alone


def machine_class() -> str:
    """The family of the processor too: libraries under torch choose other code for each vendor, and
    AVX-512 is twice as wide in one family as in another of the same vendor."""
    sets = f"{native.isa()}, torch {torch.backends.cpu.get_cpu_capability()}"
    return f"{vendor()}, {sets}"


def measured() -> dict:
    """machine class -> {name of a gate: ratio}."""
    return json.loads(MEASURED.read_text()) if MEASURED.exists() else {}


class Pair:
    """Both sides of a gate, compared with the truth and ready for the clock."""

    def __init__(self, gate: Gate):
        case = gate.case
        inputs = case.inputs()
        truth, gradients = truth_of(case, inputs, 0), case.gradients()
        rival = next(one for one in case.rivals() if one.name == gate.rival)
        self.passes = TRAINING if gate.training else INFERENCE
        self.memory = gate.memory
        self.sides = []
        for contender in (ours(OURS, case.ours()), rival):
            entrant = Entrant(contender)
            entrant.enter(inputs, gradients, truth, case.tolerance(), (self.passes,))
            if not entrant.runs(self.passes):
                raise AssertionError(f"{entrant.name}: {entrant.reasons[self.passes]}")
            self.sides.append(entrant)
        self.calls = 1
        self.seconds(0)
        self.calls = max(1, round(SAMPLE / self.seconds(0)))

    def call(self, side: int):
        """What is timed: 0 ours, 1 the rival's; a call, or as many as make a sample."""
        prepared = self.sides[side].prepared
        once = prepared.training_step if self.passes == TRAINING else prepared.inference

        def several():
            for _ in range(self.calls):
                once()

        return several

    def seconds(self, side: int) -> float:
        return timing.cpu_clock(self.call(side))[1]

    def rounds(self) -> int:
        """How many it takes to be sure of the best; the first of each warms up."""
        self.seconds(0), self.seconds(1)
        return max(ROUNDS, min(MOST_ROUNDS, int(SECONDS / (self.seconds(0) + self.seconds(1)))))

    def ratio(self) -> float:
        """Rival / ours, both at their best of some rounds: what disturbs one only ever adds."""
        if self.memory:
            return self._peak(1) / self._peak(0)
        best = [float("inf")] * 2
        for number in range(self.rounds()):
            for side in (0, 1) if number % 2 else (1, 0):
                best[side] = min(best[side], self.seconds(side))
        return best[1] / best[0]

    def _peak(self, side: int) -> int:
        """The least of some: what is mapped or unmapped at an unlucky time only ever adds."""
        peaks = []
        for _ in range(3):
            self.sides[side].warm(self.passes, "cpu")
            peaks.append(self.sides[side].peaks[self.passes])
        return min(peaks)


def floor(gate: Gate, ratios: Optional[dict] = None) -> Optional[float]:
    """What its ratio must reach on this machine, by these ratios of machine classes (default: those
    that are kept); None where nothing can be demanded."""
    ratios = measured() if ratios is None else ratios
    own = ratios.get(machine_class(), {}).get(gate.name)
    if own is not None:
        return own * gate.share
    others = [of_class[gate.name] for of_class in ratios.values() if gate.name in of_class]
    return ANYWHERE_SHARE * min(others) if gate.is_price and others else None


def record_all(tell=print) -> None:
    """Measures every gate and keeps the ratios for machines of this class."""
    found = {}
    for gate in GATES:
        ratios = sorted(Pair(gate).ratio() for _ in range(3))
        found[gate.name] = round(statistics.median(ratios), 2)
        tell(f"{gate.name}: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    kept = measured() | {machine_class(): found}
    MEASURED.parent.mkdir(exist_ok=True)
    MEASURED.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")
