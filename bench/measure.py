# SPDX-License-Identifier: BSD-3-Clause
"""From a case to rows: who takes part, who is right, how long each takes."""

from __future__ import annotations

import dataclasses
from typing import Callable, Optional

import torch

from bench import timing, truth, work
from bench.contenders.base import OURS, ours
from bench.entrant import PASS_OF, Entrant

PARTS = ("forward", "backward", "both")


@dataclasses.dataclass(frozen=True)
class Options:
    repeats: int = 9  # rounds, in which every contender runs once
    seconds: float = 2.0  # of one contender and pass; where one is slower, all run fewer rounds
    seed: int = 0
    clock: Callable = timing.cpu_clock


@dataclasses.dataclass(frozen=True)
class Job:
    """A case, the parts that are timed, and the names of the rivals; None: all."""

    case: object
    parts: tuple = PARTS
    rivals: Optional[tuple] = None

    def contenders(self) -> list:
        found = [
            rival
            for rival in self.case.rivals()
            if self.rivals is None or rival.name in self.rivals
        ]
        return [ours(OURS, self.case.ours()), *found]

    @property
    def passes(self) -> tuple:
        return tuple(dict.fromkeys(PASS_OF[part] for part in self.parts))


def nobody(what: str) -> None:
    """Hears what is being done, and says nothing."""


def measure(job: Job, options: Options, tell: Callable = nobody) -> list:
    """Rows, one for each contender and part."""
    threads = torch.get_num_threads()
    try:
        if job.case.wall_clock:
            options = dataclasses.replace(options, clock=timing.wall_clock)
        return _measure(job, options, tell)
    finally:
        torch.set_num_threads(threads)


def _measure(job: Job, options: Options, tell: Callable) -> list:
    case = job.case
    tell(f"{case.title}: truth in float64")
    inputs = case.inputs(options.seed)
    exact = truth.truth_of(case, inputs, options.seed)
    gradients = case.gradients(options.seed)
    entrants = [Entrant(contender) for contender in job.contenders()]
    for entrant in entrants:
        tell(f"{case.title}: {entrant.name}, is it right?")
        entrant.enter(inputs, gradients, exact, case.tolerance(), job.passes)
    samples = {}
    for name in job.passes:
        runners = [entrant for entrant in entrants if entrant.runs(name)]
        for entrant in runners:
            tell(f"{case.title}: {entrant.name}, memory of {name}")
            entrant.warm(name, case.device)
        tell(f"{case.title}: timing {name}")
        samples[name] = timing.interleave(
            {
                one.name: timing.repeated(one.sampler(name, options.clock), one.seconds[name])
                for one in runners
            },
            options.repeats,
            options.seconds,
        )
    return [
        row(case, part, entrant, samples[PASS_OF[part]], options)
        for part in job.parts
        for entrant in entrants
    ]


def identity(case) -> dict:
    """What a row is about; with contender and part its key."""
    return {
        "pattern": case.pattern,
        "title": case.title,
        "parameters": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in case.parameters().items()
        },
        "length": case.length,
        "dtype": case.dtype,
        "head_dim": case.head_dim,
        "q_heads": case.q_heads,
        "kv_heads": case.key_heads,
        "batch": case.batch,
        "device": case.device,
    }


def row(case, part: str, entrant: Entrant, samples: dict, options: Options) -> dict:
    name = PASS_OF[part]
    result = identity(case)
    result |= {"part": part, "contender": entrant.name, "role": entrant.role}
    if entrant.errors:
        result["errors"] = {
            tensor: [float(f"{x:.3g}") for x in error] for tensor, error in entrant.errors.items()
        }
    if not entrant.runs(name):
        return result | {"not_timed": entrant.reasons[name]}
    mine = samples[entrant.name]
    spread = timing.times(mine, part)
    result["ms"] = [float(f"{seconds * 1e3:.4g}") for seconds in spread]
    if entrant.role != "ours" and OURS in samples:
        ratio = timing.ratios(mine, samples[OURS], part)
        result["ratio"] = [round(x, 3) for x in ratio]  # its time / ours
    result["rounds"] = len(mine)
    if not case.wall_clock:
        result |= _rates(case, part, spread.median, options.clock)
    peak = entrant.peaks[name]
    if peak is not None and part != "backward":
        result["peak_mib"] = round(peak / 2**20, 1)
        rest = peak - entrant.result_bytes(name, case)
        result["temporaries_mib"] = round(max(0, rest) / 2**20, 1)
    return result


def _rates(case, part: str, seconds: float, clock) -> dict:
    """Of multiplications where there are any, else of memory; beside this run's ceilings."""
    multiply, copy = work.ceilings(case.torch_dtype, case.device, torch.get_num_threads(), clock)
    rates = {}
    if case.visible_pairs():
        gflops = work.operations(case, part) / seconds / 1e9
        rates = {"gflops": round(gflops, 1), "matmul_share": round(gflops / multiply, 3)}
    gigabytes = work.bytes_moved(case, part) / seconds / 1e9
    return rates | {"gbs": round(gigabytes, 2), "copy_share": round(gigabytes / copy, 3)}
