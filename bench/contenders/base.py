# SPDX-License-Identifier: BSD-3-Clause
"""Who is measured beside longattn, and why somebody is not."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Callable

OURS = "longattn"


class Absent(Exception):
    """A contender cannot take part; the message says why."""


@dataclasses.dataclass(frozen=True)
class Contender:
    name: str
    prepare: Callable  # -> the function of the case's inputs; may compile; may raise Absent
    heads_first: bool = True  # it takes [batch, heads, length, dim]
    baseline: bool = False  # it does other work: its results differ, its time is a yardstick


def ours(name: str, function: Callable, *, baseline: bool = False) -> Contender:
    """A call of longattn."""
    return Contender(name, lambda: function, heads_first=False, baseline=baseline)


def imported(module: str):
    """A package that is no dependency of longattn, or Absent."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        missing = isinstance(error, ModuleNotFoundError) and error.name == package
        raise Absent(
            f"{package} is not installed" if missing else f"importing {module} fails: {error}"
        ) from error


def cuda_only(name: str, case) -> None:
    if case.device == "cpu":
        raise Absent(f"{name} runs on CUDA only")


def bytes_available() -> int:
    """Of main memory; a large number where nobody says."""
    try:
        with open("/proc/meminfo") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if "MemAvailable" in line)
    except (OSError, StopIteration):
        return 2**60


def square_fits(case, matrices: float) -> None:
    """Raises Absent unless so many [heads, length, length] matrices leave half the memory."""
    if case.device != "cpu":
        return  # torch says so itself, and nothing is lost
    square = case.batch * case.q_heads * case.length**2
    _fits(square * case.torch_dtype.itemsize * matrices, "matrices of scores need")


def pairs_fit(case) -> None:
    """Raises Absent unless what is made of one mask of all pairs leaves half the memory: about ten
    bytes a pair."""
    if case.device == "cpu":
        _fits(10 * case.length**2, "mask of all pairs needs")


def _fits(needed: float, what: str) -> None:
    free = bytes_available()
    if needed > free / 2:
        raise Absent(f"its {what} about {needed / 2**30:.0f} GiB, {free / 2**30:.0f} GiB are free")
