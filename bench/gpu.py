# SPDX-License-Identifier: BSD-3-Clause
"""`python -m bench.gpu --json FILE [--seconds S]`: longattn beside its rivals on one GPU.

Results and gradients of everybody, longattn too, are compared with dense ones in float64 before the
clock runs. The file is written anew after every case: what is in it was measured, whatever happens
later. Fails if a case was left out or a call of longattn failed or was wrong; a rival may."""

from __future__ import annotations

import argparse
import json
import sys
import time

import torch

from bench import gpu_goals, gpu_truth, record
from bench.gpu_cases import standard_cases
from bench.gpu_contender import OURS, Case, Prepared
from bench.gpu_goals import PARTS
from bench.gpu_timing import Times, milliseconds, peak_mebibytes
from bench.timing import Spread
from bench.work import PRODUCTS

METHOD = (
    "milliseconds between events around one call, median of interleaved rounds, L2 flushed before "
    "each; host_ms: until the call returned; GFLOP/s of visible pairs, 2 products forward and 5 "
    "backward; GB/s of inputs and results; peak_mib: forward and backward, beyond the inputs; "
    "errors: of the rows and gradients that bench.truth samples, largest, rms and relative"
)


def measure(case: Case, device="cuda") -> list:
    """Rows of this case, one for each contender and part. Who fails or is wrong is not timed, and
    its rows say why."""
    inputs, gradients = case.tensors(device)
    prepared, known, told, facts = {}, {}, {}, {}
    for contender in case.contenders:
        name = contender.name
        try:
            ready = Prepared(contender, inputs, gradients)
            errors = gpu_truth.errors(contender, ready, inputs, known)
            facts[name] = {"errors": {x: _rounded(error) for x, error in errors.items()}}
            told[name] = gpu_truth.wrong(errors, gpu_truth.TOLERANCE)
            if told[name] is None:
                facts[name]["peak_mib"] = round(peak_mebibytes(ready.both), 1)
                prepared[name] = ready
        except Exception as error:  # a rival that is not there, or too large
            told[name] = told_of(error)
    known.clear()
    rows = []
    for part in PARTS:
        method = "without_gradients" if part == "forward" else "backward"
        times = milliseconds({name: getattr(ready, method) for name, ready in prepared.items()})
        for contender in case.contenders:
            name = contender.name
            row = identity(case) | {"part": part, "contender": name, "role": contender.role}
            row |= facts.get(name, {})
            if isinstance(times.get(name), Exception):
                row["not_timed"] = f"{part}: {told_of(times[name])}"
            elif name not in times:
                row["not_timed"] = told[name]
            else:
                row |= figures(times[name], part, case, contender.visible_pairs)
                row |= ratio(times, name)
            rows.append(row)
    return rows


def identity(case: Case) -> dict:
    """What a row is about, by the names that rows of a CPU have."""
    return {
        "pattern": case.name, "title": case.name, "parameters": {}, "length": case.length,
        "dtype": "bfloat16", "head_dim": case.head_dim, "q_heads": case.heads,
        "kv_heads": case.kv_heads or case.heads, "batch": 1, "device": "cuda",
    }  # fmt: skip


def told_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def _rounded(values) -> list:
    return [float(f"{value:.4g}") for value in values]


def figures(times: Times, part: str, case: Case, visible_pairs=None) -> dict:
    spread, host = Spread.of(times.gpu), Spread.of(times.host)
    found = {"ms": _rounded(spread), "host_ms": _rounded(host)[0], "rounds": len(times.gpu)}
    if case.moved_bytes:
        return found | {"gbs": round(case.moved_bytes / spread.median / 1e6, 1)}
    operations = PRODUCTS[part] * 2 * case.head_dim * (visible_pairs or case.visible_pairs)
    return found | {"gflops": round(operations / spread.median / 1e6, 1)}


def ratio(times: dict, name: str) -> dict:
    """Its time / longattn's of the same round."""
    base = times.get(OURS)
    if name == OURS or not isinstance(base, Times):
        return {}
    rounds = [theirs / ours for theirs, ours in zip(times[name].gpu, base.gpu)]
    return {"ratio": [round(x, 3) for x in Spread.of(rounds)]}


def text_of(row: dict) -> str:
    head = f"{row['title'][:40]:41}{row['length']:6} d{row['head_dim']:<4}{row['contender']:26}"
    head += f"{row['part']:9}"
    if "not_timed" in row:
        return f"{head} {row['not_timed']}"
    teraflops = "gflops" in row
    speed = f"{row['gflops'] / 1e3:7.1f} TFLOP/s" if teraflops else f"{row['gbs']:7.1f} GB/s   "
    worst = max(relative for _, _, relative in row["errors"].values())
    head += f"{row['ms'][0]:10.3f} ms {speed}"
    head += " (the host's time)" if row["host_ms"] >= row["ms"][0] else ""
    return f"{head}{row['peak_mib']:10.1f} MiB, error {worst:.1e}"


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
        f"{row['title']}, {row['contender']}, {row['part']}: {row['not_timed']}"
        for row in result["rows"]
        if "not_timed" in row and row["role"] != "rival"
    ]
    return failed + result["left_out"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--json", required=True, help="the file that results are written to")
    parser.add_argument("--seconds", type=float, default=150, help="no case begins after these")
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    result = record.empty({"seconds": options.seconds, "seed": 0}, "cuda")
    result |= {"kind": record.GPU, "method": METHOD, "left_out": []}
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
                name = f"{case.name}, head_dim {case.head_dim}"
                result["left_out"].append(f"{name}: {told_of(error)}")
            result["rows"] += rows
            print(*map(text_of, rows), sep="\n", flush=True)
            why_not = "the GPU was lost" if is_lost() else None
        if why_not is None:
            torch.cuda.empty_cache()
        result["goals"] = gpu_goals.verdicts(result["rows"])
        record.save(result, options.json)
    print(*map(gpu_goals.text_of, result["goals"]), sep="\n")
    not_measured = missing(result)
    print(*(f"not measured: {sentence}" for sentence in not_measured), sep="\n")
    return 1 if not_measured else 0


if __name__ == "__main__":
    sys.exit(main())
