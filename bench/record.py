# SPDX-License-Identifier: BSD-3-Clause
"""What a run leaves: one JSON file with the machine, what was measured, and how."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import re
import subprocess
import sys

import torch

import longattn
from longattn import native

ROOT = pathlib.Path(__file__).resolve().parent.parent
FORMAT = 2  # of the file; 1 had one rival a case
GPU = "gpu"  # the kind of a file of bench.gpu; those of a CPU say none


def commit() -> str:
    """What was measured; "+" marks a tree with changes of its own."""
    if os.environ.get("LONGATTN_COMMIT"):  # of a copy without its history
        return os.environ["LONGATTN_COMMIT"]
    return said_by("git", "-C", str(ROOT), "describe", "--always", "--dirty=+") or "unknown"


def said_by(*command: str) -> str:
    """What a program prints; "" where it cannot run or fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def processor() -> str:
    return _told("model name") or platform.processor() or platform.machine()


def vendor() -> str:
    """With the family of its processors."""
    family = _told("cpu family")
    name = _told("vendor_id") or platform.machine()
    return f"{name} family {family}" if family else name


def _told(field: str) -> str:
    """By /proc/cpuinfo, of the first processor; "" where it does not say."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith(field))
    except (OSError, StopIteration):
        return ""


@functools.lru_cache(maxsize=None)
def torch_matmul() -> str:
    """Which code oneMKL runs here, by its own word; "unknown" for torch with another library."""
    command = [sys.executable, "-c", "import torch; torch.ones(64, 64) @ torch.ones(64, 64)"]
    environment = {**os.environ, "MKL_VERBOSE": "1"}
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    told = re.search(r"^MKL_VERBOSE (oneMKL .*? processors),", result.stdout, re.MULTILINE)
    return told.group(1) if told else "unknown"


def machine(device: str = "cpu") -> dict:
    found = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "isa": native.isa(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "torch_matmul": torch_matmul(),
        "python": platform.python_version(),
        "longattn": longattn.__version__,
        "commit": commit(),
    }
    for package in ("flash_attn", "xformers", "natten", "transformers"):
        if importlib.util.find_spec(package):
            found[package] = _version(package)
    if device != "cpu":
        found |= gpu()
    return found


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # a folder on the path
        return "unknown"


def gpu() -> dict:
    """The current one, its driver, and its clocks before the run."""
    index = torch.cuda.current_device()
    major, minor = torch.cuda.get_device_capability(index)
    fields = ("driver_version", "clocks.sm", "clocks.max.sm", "power.limit", "temperature.gpu")
    query = f"--query-gpu={','.join(fields)}"
    values = said_by("nvidia-smi", query, "--format=csv,noheader", f"--id={index}").split(", ")
    said = dict(zip(fields, values)) if len(values) == len(fields) else {}
    return {
        "gpu": torch.cuda.get_device_name(index),
        "compute_capability": f"{major}.{minor}",
        "driver": said.pop("driver_version", "unknown"),
        "before": said,
        "cuda_of_torch": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def empty(options: dict, device: str = "cpu") -> dict:
    return {"format": FORMAT, "machine": machine(device), "options": options, "rows": []}


def save(result: dict, path) -> None:
    """Whole or not at all: a run that is stopped leaves what it had before."""
    path = pathlib.Path(path)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(path)


def load(path) -> dict:
    try:
        result = json.loads(pathlib.Path(path).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise SystemExit(f"{path} cannot be read: {error}") from error
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise SystemExit(
            f"{path} is no file of `python -m bench --json` in format {FORMAT}, which is the one "
            "read here"
        )
    return result


def key(row: dict) -> tuple:
    """Rows of two runs with the same key measured the same."""
    fields = ("pattern", "length", "dtype", "head_dim", "q_heads", "kv_heads", "batch", "device")
    settings = json.dumps(row["parameters"], sort_keys=True)
    case = tuple(row[field] for field in fields)
    held = (row.get("isa"), row.get("torch_isa"), row.get("memory"))
    return (*case, settings, *held, row["contender"], row["part"])
