# SPDX-License-Identifier: BSD-3-Clause
"""Runs jobs with a progress bar, and keeps what was measured, whatever happens later."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import torch
from tqdm import tqdm

from bench import (
    end_to_end,
    errors,
    goals,
    held,
    record,
    ring,
    scaling,
    show,
    small_call,
    standard,
    timing,
)
from bench.measure import Options, measure


class Run:
    """A result that grows, printed and saved as it does."""

    def __init__(self, settings: dict, path, device: str = "cpu"):
        self.result = record.empty(settings, device)
        self.path = path
        told = ", ".join(f"{name} {value}" for name, value in self.result["machine"].items())
        print(told, flush=True)

    def add(self, kind: str, rows: list, lines: list) -> None:
        self.result.setdefault(kind, []).extend(rows)
        for line in lines:
            tqdm.write(line)
        self.save()

    def save(self) -> None:
        if self.path:
            record.save(self.result, self.path)

    def small_call(self) -> None:
        self.result["small_call"] = small_call.overhead()
        print(small_call.text_of(self.result["small_call"]), flush=True)
        self.save()

    def measure(self, jobs: list, options: Options) -> None:
        with tqdm(total=len(jobs), unit="case", file=sys.stderr) as progress:
            for job in jobs:
                rows = measure(job, options, progress.set_description_str)
                rows = [row | held.labels(os.environ) for row in rows]
                self.add("rows", rows, show.lines_of(rows))
                progress.update()

    def errors(self, jobs: list, options: Options) -> None:
        with tqdm(total=len(jobs), unit="case", file=sys.stderr) as progress:
            for job in jobs:
                rows = errors.errors_of(job, options.seed, progress.set_description_str)
                self.add("errors", rows, [errors.text_of(row) for row in rows])
                progress.update()

    def scaling(self, dtypes, options: Options, patterns=None) -> None:
        known = (*scaling.LINEAR, "dense")
        studies = [(name, dtype) for name in patterns or known for dtype in dtypes]
        with tqdm(total=len(studies), unit="study", file=sys.stderr) as progress:
            for name, dtype in studies:
                rows = scaling.study(name, dtype, options, tell=progress.set_description_str)
                self.add("scaling", rows, [scaling.text_of(row) for row in rows])
                progress.update()

    def end_to_end(self, dtypes, options: Options, **sizes) -> None:
        reason = end_to_end.cannot_run()
        if reason:
            print(f"no whole model: {reason}", flush=True)
            return
        for dtype in dtypes:
            shape = end_to_end.Shape(dtype=dtype, **sizes)
            rows = end_to_end.train(shape, options.clock, options.seed)
            self.add("end_to_end", rows, [end_to_end.text_of(row) for row in rows])

    def ring(self, options: Options, **sizes) -> None:
        reason = ring.cannot_run()
        if reason:
            print(f"no ring: {reason}", flush=True)
            return
        for case in ring.cases(**sizes):
            rows = ring.measure(case, options.repeats)
            self.add("ring", rows, [ring.text_of(row) for row in rows])
        for mask, layout in (("causal", "zigzag"), ("causal", "striped")):
            row = ring.errors(ring.RingCase(mask, layout, dtype="bfloat16"))
            self.add("ring_errors", [row], [ring.text_of(row)])

    def wrong(self) -> list:
        """What longattn itself got wrong."""
        return [
            f"{row['title']}, {row['dtype']}, {row['part']}: {row['not_timed']}"
            for row in self.result["rows"]
            if row["role"] == "ours" and "not_timed" in row
        ]


def standard_run(options: Options, settings: dict, path) -> Run:
    start = time.monotonic()
    run = Run(settings, path)
    run.small_call()
    run.measure(standard.standard_jobs(), options)
    for name in standard.forced_jobs():
        rows = forced(name, settings)
        run.add("rows", rows, show.lines_of(rows))
    run.errors(standard.error_jobs(), options)
    run.scaling(["float32"], options)
    run.ring(options)
    run.end_to_end(standard.DTYPES, options)
    run.result["minutes"] = round((time.monotonic() - start) / 60, 1)
    run.save()
    goals.tell(run.result)
    print(f"all of it took {run.result['minutes']} minutes")
    return run


def forced(name: str, settings: dict) -> list:
    """Rows of a process of one of held.ENVIRONMENTS."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "forced.json"
        command = [sys.executable, "-m", "bench", "forced", name, "--json", str(path)]
        for option in ("repeats", "seconds", "seed"):
            command += [f"--{option}", str(settings[option])]
        result = subprocess.run(
            command,
            env={**os.environ, **held.ENVIRONMENTS[name]},
            stdout=subprocess.PIPE,
            text=True,
        )
        if result.returncode != 0:
            print(f"the process of {name} failed with {result.returncode}: {result.stdout}")
            return []
        return json.loads(path.read_text())["rows"]


def clock_for(device: str, threads: int):
    """The clock that goes with a device and so many threads, which torch is told."""
    torch.set_num_threads(threads)
    if device != "cpu":
        return timing.CudaClock(torch)
    return timing.cpu_clock if threads == 1 else timing.wall_clock
