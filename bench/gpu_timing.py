# SPDX-License-Identifier: BSD-3-Clause
"""Timing on a GPU: events around single calls, contenders in turn, the L2 cache cold."""

from __future__ import annotations

import time
from typing import Callable, NamedTuple

import torch

DEVICE = "cuda"
FLUSH_BYTES = 2**30  # larger than any L2, and long enough to queue the next call meanwhile


class Times(NamedTuple):
    """Milliseconds of a call, of each round."""

    gpu: list  # between events around it
    host: list  # until the call had queued its work: where the GPU may wait for the host


def milliseconds(calls: dict, most_rounds: int = 25, seconds: float = 1.2) -> dict:
    """name -> Times of a call, after three calls of each to warm up; or the exception of a call
    that fails, which the others survive.

    In every round each contender runs once, so that all meet the same clocks.
    """
    found = {name: [] for name in calls}
    errors = {}
    try:
        flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=DEVICE)
    except torch.OutOfMemoryError as error:
        return dict.fromkeys(calls, error)

    def attempt(name, measure):
        try:
            return measure(calls[name])
        except Exception as error:
            errors[name] = error

    for name in calls:
        attempt(name, _warm_up)
    deadline = time.monotonic() + seconds
    for round_number in range(most_rounds):
        if round_number >= 5 and time.monotonic() > deadline:
            break
        for name in calls:
            if name not in errors:
                found[name].append(attempt(name, lambda call: _once(call, flush)))
    return errors | {
        name: Times(*map(list, zip(*rounds)))
        for name, rounds in found.items()
        if name not in errors
    }


def _warm_up(call: Callable) -> None:
    for _ in range(3):
        call()
    torch.cuda.synchronize()


def _once(call: Callable, flush: torch.Tensor) -> tuple:
    """-> milliseconds (between events around the call, until it returned)."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    flush.zero_()
    start.record()
    called = time.perf_counter()
    result = call()
    host = (time.perf_counter() - called) * 1e3
    stop.record()
    torch.cuda.synchronize()
    del result
    return start.elapsed_time(stop), host


def peak_mebibytes(call: Callable) -> float:
    """The most memory that torch held during the call, beyond what it held before."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = call()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    del result
    return peak / 2**20
