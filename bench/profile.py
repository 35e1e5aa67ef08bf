# SPDX-License-Identifier: BSD-3-Clause
"""`python -m bench profile PATTERN ...`: profilers' command lines for one case, run where they can
be, and what limits each kernel.

`python -m bench once PATTERN ...` is what a profiler watches: longattn's calls and nothing else.
Ranges for nsys come from torch's `emit_nvtx`, which names every op and its backward pass while it
is on, and every step of a ring; without it none are made."""

from __future__ import annotations

import contextlib
import pathlib
import shlex
import shutil
import subprocess
import sys

import torch

from bench import limiter
from bench.contenders.base import OURS, ours
from bench.prepared import Prepared
from longattn import native

KERNELS = "regex:longattn::cuda::"
SECTIONS = (
    "SpeedOfLight",
    "LaunchStats",
    "Occupancy",
    "WarpStateStats",
    "MemoryWorkloadAnalysis",
    "SchedulerStats",
)
CPU_CALLS, GPU_CALLS = 20, 2  # samples need time; ncu runs every kernel many times over
HOTTEST = 12  # functions that are shown of a profile on a CPU


def run_once(case, part: str, calls: int) -> None:
    """The calls of `python -m bench once`, each in a range of its own."""
    prepared = Prepared(ours(OURS, case.ours()), case.inputs(), case.gradients())
    call = prepared.inference if part == "forward" else prepared.training_step
    on_gpu = case.device != "cpu"
    with torch.autograd.profiler.emit_nvtx() if on_gpu else contextlib.nullcontext():
        for _ in range(calls):
            call()
    if on_gpu:
        torch.cuda.synchronize()


def command_lines(words: list, device: str, folder: pathlib.Path) -> dict:
    """Tool -> command, as a list of words. words: those of `python -m bench once`."""
    calls = CPU_CALLS if device == "cpu" else GPU_CALLS
    target = [sys.executable, "-m", "bench", "once", "--calls", str(calls), *words]
    if device == "cpu":
        return {
            "perf": ["perf", "record", "--call-graph", "fp", "--output", str(folder / "perf.data"),
                     *target],
            "valgrind": ["valgrind", "--tool=callgrind",
                         f"--callgrind-out-file={folder / 'callgrind.out'}", *target],
        }  # fmt: skip
    sections = [word for section in SECTIONS for word in ("--section", section)]
    return {
        "ncu": ["ncu", "--target-processes", "all", "--clock-control", "none",
                "--kernel-name-base", "demangled", "--kernel-name", KERNELS, *sections,
                "--csv", "--page", "details", "--log-file", str(folder / "ncu.csv"), *target],
        "nsys": ["nsys", "profile", "--trace", "cuda,nvtx", "--force-overwrite", "true",
                 "--output", str(folder / "nsys"), *target],
    }  # fmt: skip


def cannot_run(tool: str, device: str) -> str | None:
    """Why, or None."""
    if shutil.which(tool) is None:
        return f"{tool} is not on the PATH"
    if device != "cpu" and not torch.cuda.is_available():
        return "torch finds no GPU here"
    if tool == "valgrind":
        return "it takes minutes and knows no AVX-512: set LONGATTN_ISA=avx2 and run it yourself"
    return None


def profile(words: list, device: str, folder) -> None:
    """Prints every command, runs those that can, and reads what ncu left."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    script = ["#!/usr/bin/env bash", "# Run these in the root of the repository."]
    for tool, command in command_lines(words, device, folder).items():
        line = shlex.join(command)
        script.append(line)
        print(f"{tool}:\n  {line}", flush=True)
        reason = cannot_run(tool, device)
        if reason is None:
            reason = _run(tool, command, folder)
        print(f"  not run: {reason}" if reason else f"  done, in {folder}")
    (folder / "profile.sh").write_text("\n".join(script) + "\n")
    if (folder / "ncu.csv").exists():
        print(limiter.table(limiter.read((folder / "ncu.csv").read_text())))
    if (folder / "perf.data").exists():
        print(hottest(folder / "perf.data"))


def hottest(data: pathlib.Path) -> str:
    """The functions of the native module that were on the processor most, with their shares of all
    samples: the rest is Python, torch and their start."""
    module = pathlib.Path(native.module().__file__).name
    command = ["perf", "report", "--input", str(data), "--stdio", "--no-children", "--call-graph",
               "none", "--fields", "overhead,symbol", "--dsos", module]  # fmt: skip
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    shown = [line for line in lines if "%" in line and not line.startswith("#")]
    return "\n".join(shown[:HOTTEST]) or f"perf report shows no samples in {module}"


def _run(tool: str, command: list, folder: pathlib.Path) -> str | None:
    """None, or why it failed; what it said is in the folder."""
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    (folder / f"{tool}.log").write_text(result.stdout)
    if result.returncode == 0:
        return None
    last = next((line for line in reversed(result.stdout.splitlines()) if line.strip()), "nothing")
    return f"{tool} ended with {result.returncode}, its last line: {last.strip()}"
