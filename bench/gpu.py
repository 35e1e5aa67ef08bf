# SPDX-License-Identifier: BSD-3-Clause
"""`python -m bench.gpu --json FILE [--seconds S]`: longattn beside its rivals on one GPU.

The file is written anew after every case: what is in it was measured, whatever happens later."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import subprocess
import time

import torch

import longattn
from bench.gpu_cases import OURS, Case, Contender, standard_cases
from bench.gpu_timing import milliseconds, peak_mebibytes

# Largest |ours - theirs| / |theirs| as vectors. bfloat16 rounds to 1 in 256, both of them; one key
# more or less in a window of 1024 shows as 1 in 32.
AGREEMENT = 0.02

# Products of dim multiplications and additions a visible pair, forward and backward.
PRODUCTS = {"forward": 2, "backward": 5}


class Prepared:
    """A contender with tensors of its own, and its results."""

    def __init__(self, contender: Contender, values: list):
        self.contender = contender
        *qkv, d_out = (self._own(value) for value in values)
        self.leaves = [tensor.requires_grad_() for tensor in qkv]
        function = contender.prepare()
        self.forward = lambda: function(*self.leaves)
        self.out = self.forward()
        self.backward = lambda: torch.autograd.grad(self.out, self.leaves, d_out, retain_graph=True)

    def without_gradients(self):
        with torch.no_grad():
            return self.forward()

    def both(self):
        out = self.forward()
        return torch.autograd.grad(out, self.leaves, torch.ones_like(out))

    def _own(self, value):
        """Values are [batch, length, heads, dim]."""
        return value.clone() if self.contender.rows_first else value.transpose(1, 2).contiguous()

    def results(self) -> list:
        """out and gradients as [batch, length, heads, dim]."""
        tensors = [self.out.detach(), *self.backward()]
        return tensors if self.contender.rows_first else [x.transpose(1, 2) for x in tensors]


def differences(ours: Prepared, theirs: Prepared) -> dict:
    names = ("out", "dq", "dk", "dv")
    return {
        name: round(((a.float() - b.float()).norm() / b.float().norm()).item(), 5)
        for name, a, b in zip(names, ours.results(), theirs.results())
    }


def measure(case: Case) -> list:
    """Rows of this case: a contender that fails has a row that says why."""
    generator = torch.Generator("cuda").manual_seed(0)
    shape = (1, case.length, case.heads, case.head_dim)
    values = [torch.randn(shape, generator=generator, device="cuda").bfloat16() for _ in range(4)]
    prepared, rows = {}, []
    for contender in case.contenders:
        row = {"case": case.name, "length": case.length, "heads": case.heads}
        row |= {"head_dim": case.head_dim, "dtype": "bfloat16", "contender": contender.name}
        rows.append(row)
        try:
            ready = Prepared(contender, values)
            if contender.agrees_with is not None:
                row["difference"] = differences(prepared[contender.agrees_with], ready)
                if not max(row["difference"].values()) <= AGREEMENT:
                    raise AssertionError(f"its results differ from {contender.agrees_with}'s")
            row["peak_mib"] = round(peak_mebibytes(ready.both), 1)
            prepared[contender.name] = ready
        except Exception as error:  # a rival that is not there, or too large, or wrong
            row["error"] = f"{type(error).__name__}: {error}"[:500]
    for part, operations in PRODUCTS.items():
        method = "without_gradients" if part == "forward" else "backward"
        times = milliseconds({name: getattr(ready, method) for name, ready in prepared.items()})
        for row in rows:
            if row["contender"] in times:
                row[part] = figures(times[row["contender"]], operations * 2 * case.head_dim, case)
    return rows


def figures(times: tuple, operations_of_pair: int, case: Case) -> dict:
    median, smallest, largest = times
    return {
        "ms": round(median, 4),
        "ms_range": [round(smallest, 4), round(largest, 4)],
        "tflops": round(operations_of_pair * case.visible_pairs / median / 1e9, 1),
    }


def command(*words: str) -> str:
    """What a program prints, or "" where it cannot run."""
    try:
        result = subprocess.run(words, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def commit() -> str:
    root = str(pathlib.Path(__file__).resolve().parent.parent)
    name = command("git", "-C", root, "rev-parse", "HEAD")
    changed = " with changes" if command("git", "-C", root, "status", "--porcelain") else ""
    return os.environ.get("LONGATTN_COMMIT") or (name + changed if name else "unknown")


def machine() -> dict:
    index = torch.cuda.current_device()
    major, minor = torch.cuda.get_device_capability(index)
    fields = ("driver_version", "clocks.sm", "clocks.max.sm", "power.limit", "temperature.gpu")
    query = f"--query-gpu={','.join(fields)}"
    values = command("nvidia-smi", query, "--format=csv,noheader", f"--id={index}").split(", ")
    said = dict(zip(fields, values)) if len(values) == len(fields) else {}
    return {
        "gpu": torch.cuda.get_device_name(index),
        "compute_capability": f"{major}.{minor}",
        "driver": said.pop("driver_version", "unknown"),
        "before": said,
        "torch": torch.__version__,
        "cuda_of_torch": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "python": platform.python_version(),
        "longattn": longattn.__version__,
        "commit": commit(),
    }


def text_of(row: dict) -> str:
    head = f"{row['case']:36} d{row['head_dim']:<4}{row['contender']:28}"
    if "error" in row:
        return f"{head} {row['error']}"
    parts = "".join(
        f"{row[part]['ms']:10.3f} ms {row[part]['tflops']:7.1f} TFLOP/s" for part in PRODUCTS
    )
    return f"{head}{parts}{row['peak_mib']:10.1f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--json", required=True, help="the file that results are written to")
    parser.add_argument("--seconds", type=float, default=150, help="no case begins after these")
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    result = {
        "machine": machine(),
        "method": "milliseconds between events around one call, median of interleaved rounds, "
        "L2 flushed before each; TFLOP/s of visible pairs, 2 products forward and 5 backward; "
        "peak_mib: forward and backward, beyond the inputs",
        "rows": [],
        "left_out": [],
    }
    print(json.dumps(result["machine"], indent=1))
    print(f"forward, backward, peak memory; {OURS} first")
    for case in standard_cases():
        if time.monotonic() > deadline:
            result["left_out"].append(f"{case.name}, head_dim {case.head_dim}: out of time")
        else:
            for row in measure(case):
                result["rows"].append(row)
                print(text_of(row), flush=True)
            torch.cuda.empty_cache()
        pathlib.Path(options.json).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
