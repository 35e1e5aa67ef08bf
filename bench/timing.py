# SPDX-License-Identifier: BSD-3-Clause
"""Honest timing on a CPU: process CPU time, contenders interleaved, ratios from pairs.

CPU time does not count what other processes do, and a pair of neighbouring runs meets the same
clock speed and the same traffic in shared caches, so that ratios hold where times drift."""

from __future__ import annotations

import statistics
import time
from typing import Callable, NamedTuple


class Pair(NamedTuple):
    """Median seconds of both, and of rival / ours: median, smallest and largest of the pairs."""

    ours: float
    rival: float
    ratio: float
    ratio_low: float
    ratio_high: float


def cpu_seconds(call: Callable) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def compare(ours: Callable, rival: Callable, repeats: int) -> Pair:
    """Times both in turn, after one call of each to warm up."""
    ours()
    rival()
    pairs = [(cpu_seconds(ours), cpu_seconds(rival)) for _ in range(repeats)]
    ratios = [rival_time / our_time for our_time, rival_time in pairs]
    return Pair(
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
    )


def seconds_per_call(call: Callable, calls: int = 2000, rounds: int = 7) -> float:
    """CPU time of one small call: the best of several rounds."""

    def round_of_calls():
        for _ in range(calls):
            call()

    round_of_calls()
    return min(cpu_seconds(round_of_calls) for _ in range(rounds)) / calls
