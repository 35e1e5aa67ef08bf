# SPDX-License-Identifier: BSD-3-Clause
"""`python -m bench.gpu --json FILE [--seconds S]`: longattn beside its rivals on one GPU.

The file is written anew after every case: what is in it was measured, whatever happens later. Fails
if a case was left out or a call of longattn failed; a rival may."""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import subprocess
import sys
import time

import torch

import longattn
from bench import gpu_goals, record
from bench.gpu_cases import standard_cases
from bench.gpu_contender import Case, Prepared, differences
from bench.gpu_timing import Times, milliseconds, peak_mebibytes

# Largest |ours - theirs| / |theirs| as vectors. bfloat16 rounds to 1 in 256, both of them; one key
# more or less in a window of 1024 shows as 1 in 32.
AGREEMENT = 0.02

# Products of dim multiplications and additions a visible pair, forward and backward.
PRODUCTS = {"forward": 2, "backward": 5}
RIVALS = ("SDPA", "FlexAttention", "torch", "gather")


def measure(case: Case, device="cuda") -> list:
    """Rows of this case: a contender that fails has a row that says why."""
    inputs, gradients = case.tensors(device)
    prepared, rows = {}, []
    for contender in case.contenders:
        row = {"case": case.name, "length": case.length, "heads": case.heads}
        row |= {"head_dim": case.head_dim, "dtype": "bfloat16", "contender": contender.name}
        rows.append(row)
        try:
            ready = Prepared(contender, inputs, gradients)
            if contender.agrees_with is not None:
                row["difference"] = differences(prepared[contender.agrees_with], ready)
                if not max(row["difference"]) <= AGREEMENT:
                    raise AssertionError(f"its results differ from {contender.agrees_with}'s")
            row["peak_mib"] = round(peak_mebibytes(ready.both), 1)
            prepared[contender.name] = ready
        except Exception as error:  # a rival that is not there, or too large, or wrong
            row["error"] = told(error)
    for part in PRODUCTS:
        method = "without_gradients" if part == "forward" else "backward"
        times = milliseconds({name: getattr(ready, method) for name, ready in prepared.items()})
        for row, contender in zip(rows, case.contenders):
            result = times.get(contender.name)
            if isinstance(result, Exception):
                row["error"] = f"{part}: {told(result)}"
            elif result is not None:
                row[part] = figures(result, part, case, contender.visible_pairs)
    return rows


def told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def figures(times: Times, part: str, case: Case, visible_pairs=None) -> dict:
    median, smallest, largest, host = (round(number, 4) for number in times)
    found = {"ms": median, "ms_range": [smallest, largest], "host_ms": host}
    if case.moved_bytes:
        return found | {"gb_s": round(case.moved_bytes / times.median / 1e6, 1)}
    operations = PRODUCTS[part] * 2 * case.head_dim * (visible_pairs or case.visible_pairs)
    return found | {"tflops": round(operations / times.median / 1e9, 1)}


def command(*words: str) -> str:
    """What a program prints, or "" where it cannot run."""
    try:
        result = subprocess.run(words, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


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
        "commit": record.commit(),
    }


def text_of(row: dict) -> str:
    head = f"{row['case'][:40]:41}{row['length']:6} d{row['head_dim']:<4}{row['contender']:26}"
    for part in PRODUCTS:
        found = row.get(part)
        if found is not None:
            speed = f"{found['tflops']:7.1f} TFLOP/s" if "tflops" in found else (
                f"{found['gb_s']:7.1f} GB/s   ")  # fmt: skip
            head += f"{found['ms']:10.3f} ms {speed}"
            head += " (the host's time)" if found["host_ms"] >= found["ms"] else ""
    return head + (f" {row['error']}" if "error" in row else f"{row['peak_mib']:10.1f} MiB")


def is_lost() -> bool:
    """Whether an error has ended the use of the GPU for this process."""
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def missing(result: dict) -> list:
    """What was to be measured of longattn and was not."""
    failed = [
        f"{row['case']}, {row['contender']}: {row['error']}"
        for row in result["rows"]
        if "error" in row and not row["contender"].startswith(RIVALS)
    ]
    return failed + result["left_out"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--json", required=True, help="the file that results are written to")
    parser.add_argument("--seconds", type=float, default=150, help="no case begins after these")
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    result = {
        "machine": machine(),
        "method": "milliseconds between events around one call, median of interleaved rounds, "
        "L2 flushed before each; host_ms: until the call returned; "
        "TFLOP/s of visible pairs, 2 products forward and 5 backward; "
        "GB/s of inputs and results; peak_mib: forward and backward, beyond the inputs",
        "rows": [],
        "left_out": [],
    }
    print(json.dumps(result["machine"], indent=1))
    why_not = None
    for case in standard_cases():
        if why_not is None and time.monotonic() > deadline:
            why_not = "out of time"
        if why_not is not None:
            result["left_out"].append(f"{case.name}, head_dim {case.head_dim}: {why_not}")
        else:
            try:
                rows = measure(case)
            except Exception as error:
                rows = []
                result["left_out"].append(f"{case.name}, head_dim {case.head_dim}: {told(error)}")
            result["rows"] += rows
            print(*map(text_of, rows), sep="\n", flush=True)
            why_not = "the GPU was lost" if is_lost() else None
        if why_not is None:
            torch.cuda.empty_cache()
        result["goals"] = gpu_goals.verdicts(result["rows"])
        pathlib.Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
    print(*map(gpu_goals.text_of, result["goals"]), sep="\n")
    not_measured = missing(result)
    print(*(f"not measured: {sentence}" for sentence in not_measured), sep="\n")
    return 1 if not_measured else 0


if __name__ == "__main__":
    sys.exit(main())
