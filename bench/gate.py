# SPDX-License-Identifier: BSD-3-Clause
"""Small pairs that must not become slow: each against the ratio that was once measured.

`pytest bench` runs them; `python -m bench gates` measures and keeps what it finds. A floor is
SHARE of the measured ratio, wide enough for a shared machine. Ratios depend on the instruction sets
of both sides, so they are kept by those; where none was measured, nothing can be demanded."""

from __future__ import annotations

import dataclasses
import json
import pathlib

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
SHARE = 0.6
ROUNDS = 7
ATTEMPTS = 3  # of a ratio under its floor, before it counts

WINDOW = {"length": 2048, "window": 256, "head_dim": 64, "q_heads": 4}


@dataclasses.dataclass(frozen=True)
class Gate:
    name: str
    case: object
    rival: str
    training: bool = False

    def __str__(self):
        return self.name


def _gate(pattern, rival, dtype, training=False, **settings) -> Gate:
    case = PATTERNS[pattern](dtype=dtype, **{"length": 1024, "q_heads": 4, **settings})
    part = "forward and backward" if training else "forward"
    name = f"{case.title}, {dtype} d{case.head_dim}, {part} against {rival}"
    return Gate(name, case, rival, training)


GATES = [
    gate
    for dtype in ("float32", "bfloat16")
    for gate in (
        _gate("dense", SDPA, dtype),
        _gate("dense", SDPA, dtype, True),
        _gate("dense", SDPA, dtype, head_dim=128),
        _gate("sinks", CHUNKED, dtype, sink_tokens=16, **WINDOW),
        _gate("sinks", CHUNKED, dtype, True, sink_tokens=16, **WINDOW),
        _gate("dilated", GATHERED, dtype, length=4096, head_dim=64),
        _gate("shifted", GROUPED, dtype, length=2048, head_dim=64, group_size=512),
        _gate("rotary", EAGER, dtype, length=4096),
        _gate("rerope", DENSE, dtype, True, length=2048, window=256),
        _gate("lm_infinite", LAMBDA, dtype, sink_tokens=16, distance_ceiling=256, **WINDOW),
        _gate("biases", PLAIN, dtype, True, kind="alibi"),
        _gate("biases", PLAIN, dtype, True, kind="table"),
        _gate("scores", PLAIN, dtype, True, kind="sink_logits"),
        _gate("scores", PLAIN, dtype, kind="softcap"),
    )
]


def machine_class() -> str:
    """The vendor too: libraries under torch choose other code for each."""
    return f"{vendor()}, {native.isa()}, torch {torch.backends.cpu.get_cpu_capability()}"


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
        self.part = "both" if gate.training else "forward"
        self.sides = []
        for contender in (ours(OURS, case.ours()), rival):
            entrant = Entrant(contender)
            entrant.enter(inputs, gradients, truth, case.tolerance(), (self.passes,))
            if not entrant.runs(self.passes):
                raise AssertionError(f"{entrant.name}: {entrant.reasons[self.passes]}")
            self.sides.append(entrant)

    def call(self, side: int):
        """What is timed: 0 ours, 1 the rival's."""
        prepared = self.sides[side].prepared
        return prepared.training_step if self.part == "both" else prepared.inference

    def ratio(self) -> float:
        """Rival / ours, both at their best of some rounds: what disturbs one only ever adds."""
        samplers = {n: side.sampler(self.passes, timing.cpu_clock) for n, side in
                    enumerate(self.sides)}  # fmt: skip
        found = timing.interleave(samplers, ROUNDS, seconds=60.0)
        best = [min(sample[self.part] for sample in found[side]) for side in (0, 1)]
        return best[1] / best[0]


def record_all(tell=print) -> None:
    """Measures every gate and keeps the ratios for machines of this class."""
    found = {}
    for gate in GATES:
        ratios = sorted(Pair(gate).ratio() for _ in range(3))
        found[gate.name] = round(ratios[0], 2)  # the least of three: a floor is no boast
        tell(f"{gate.name}: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    kept = measured() | {machine_class(): found}
    MEASURED.parent.mkdir(exist_ok=True)
    MEASURED.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")
