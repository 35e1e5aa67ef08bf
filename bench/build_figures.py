# SPDX-License-Identifier: BSD-3-Clause
"""`python -m bench build`: how long the native module takes to build, with how much memory, and how
large it is."""

from __future__ import annotations

import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

from bench.record import ROOT


def build(cuda: str = "AUTO", jobs: int | None = None) -> dict:
    """Configures and builds in a temporary folder; the figures."""
    jobs = jobs or os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        _run("cmake", "-S", str(ROOT), "-B", folder, f"-DLONGATTN_CUDA={cuda}",
             "-DCMAKE_BUILD_TYPE=Release", f"-DPython_EXECUTABLE={sys.executable}")  # fmt: skip
        _run("cmake", "--build", folder, "--parallel", str(jobs))
        seconds = time.perf_counter() - start
        (module,) = pathlib.Path(folder).glob("_native*.so")
        size = module.stat().st_size
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # KiB, of one process
    return {
        "minutes": round(seconds / 60, 2),
        "compilers at a time": jobs,
        "largest process, MiB": round(largest / 1024),
        "module, MiB": round(size / 2**20, 2),
        "CUDA": cuda,
    }


def _run(*command: str) -> None:
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(command)} fails:\n{result.stdout}")
