# SPDX-License-Identifier: BSD-3-Clause
"""Honest timing: contenders in turn, ratios from neighbouring runs, medians and spreads.

On a CPU the clock is the process's CPU time: what other processes do does not count, and runs that
are neighbours meet the same clock speed and the same traffic in shared caches, so that ratios hold
where times drift. It adds up all threads, so more threads than one are compared by wall time."""

from __future__ import annotations

import statistics
import time
from typing import Callable, NamedTuple

LEAST_ROUNDS = 5  # however slow somebody is, unless fewer are asked for
SHORT_ROUND = 2.0  # seconds
LEAST_SECONDS = 0.01  # of a sample; shorter calls are repeated


class Spread(NamedTuple):
    """Median, smallest and largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


def cpu_clock(call: Callable) -> tuple:
    """-> (result, seconds of CPU time of this process)."""
    start = time.process_time()
    result = call()
    return result, time.process_time() - start


def wall_clock(call: Callable) -> tuple:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


class CudaClock:
    """Events around a call, the L2 cache cold."""

    FLUSH_BYTES = 2**30  # larger than any L2, and long enough to queue the call meanwhile

    def __init__(self, torch):
        self.torch = torch
        self.flush = torch.empty(self.FLUSH_BYTES, dtype=torch.int8, device="cuda")

    def __call__(self, call: Callable) -> tuple:
        event = self.torch.cuda.Event
        start, stop = event(enable_timing=True), event(enable_timing=True)
        self.flush.zero_()
        start.record()
        result = call()
        stop.record()
        self.torch.cuda.synchronize()
        return result, start.elapsed_time(stop) / 1e3


def interleave(samplers: dict, repeats: int, seconds: float) -> dict:
    """name -> a list of samples, one of each round.

    samplers: name -> function without arguments that returns {part: seconds}. In every round each
    runs once, in the order of the round before reversed: nobody is always the first. After
    LEAST_ROUNDS the first that has used up its seconds ends it for all: times of other rounds
    would contradict the ratios. A first round that is short does not count: memory and caches are
    as these neighbours leave them from the second on."""
    names, rounds = list(samplers), []
    spent = dict.fromkeys(names, 0.0)
    for number in range(repeats + 1):
        if len(rounds) == repeats:
            break
        if len(rounds) >= LEAST_ROUNDS and max(spent.values(), default=0.0) > seconds:
            break
        found = {}
        begin = time.perf_counter()
        for name in names:
            start = time.perf_counter()
            found[name] = samplers[name]()
            spent[name] += time.perf_counter() - start
        names.reverse()
        if number > 0 or time.perf_counter() - begin > SHORT_ROUND:
            rounds.append(found)
    return {name: [one[name] for one in rounds] for name in samplers}


def times(samples: list, part: str) -> Spread:
    return Spread.of([sample[part] for sample in samples])


def ratios(samples: list, base: list, part: str) -> Spread:
    """Of sample / base of the same round. The quotient of the medians of both lies within."""
    return Spread.of([a[part] / b[part] for a, b in zip(samples, base, strict=True)])


def repeated(sampler: Callable, seconds: float) -> Callable:
    """A sampler whose sample is the mean of as many calls as it takes to fill LEAST_SECONDS."""
    calls = max(1, round(LEAST_SECONDS / max(seconds, 1e-7)))
    if calls == 1:
        return sampler

    def mean():
        made = [sampler() for _ in range(calls)]
        return {part: sum(one[part] for one in made) / calls for part in made[0]}

    return mean


def seconds_per_call(call: Callable, calls: int = 2000, rounds: int = 7) -> float:
    """CPU time of one small call: the best of several rounds."""

    def round_of_calls():
        for _ in range(calls):
            call()

    round_of_calls()
    return min(cpu_clock(round_of_calls)[1] for _ in range(rounds)) / calls
