# SPDX-License-Identifier: BSD-3-Clause
"""What README.md shows of a run on a GPU: a table of times, and the goals."""

from __future__ import annotations

from bench import tables
from bench.gpu_goals import PARTS


def markdown(result: dict) -> str:
    machine = result["machine"]
    lines = [
        f"{machine['gpu']} (compute capability {machine['compute_capability']}), driver "
        f"{machine['driver']}, CUDA {machine['cuda_of_torch']}, torch {machine['torch']}, longattn "
        f"{machine['longattn']} at {machine['commit']}, bfloat16, batch 1: {result['method']}. "
        "In brackets the time divided by longattn's of the same round.",
        "",
        times_table(result["rows"]),
        "",
        tables.goals_table(result),
    ]
    return "\n".join([*lines, *_left_out(result)])


def times_table(rows: list) -> str:
    """A line for each case and contender; nobody who was not timed."""
    lines = {}
    for row in rows:
        sizes = f"N {row['length']}, d{row['head_dim']}, {tables.heads(row)} heads"
        line = (f"{row['title']}, {sizes}", row["contender"])
        lines.setdefault(line, {})[row["part"]] = row
    cells = []
    for line, parts in lines.items():
        if any("ms" in row for row in parts.values()):
            peaks = [f"{row['peak_mib']:.0f}" for row in parts.values() if "peak_mib" in row]
            times = (_cell(parts.get(part, {})) for part in PARTS)
            cells.append([*line, *times, *(peaks[:1] or [""])])
    return tables.table(["case", "contender", *PARTS, "peak MiB"], cells)


def _cell(row: dict) -> str:
    if "ms" not in row:
        return ""
    rate = f"{row['gflops'] / 1e3:.0f} TFLOP/s" if "gflops" in row else f"{row['gbs']:.0f} GB/s"
    beside = f" ({row['ratio'][0]:.2f})" if "ratio" in row else ""
    return f"{row['ms'][0]:.4g} ms, {rate}{beside}"


def _left_out(result: dict) -> list:
    told = [f"Not measured: {sentence}." for sentence in result["left_out"]]
    for row in result["rows"]:
        if "not_timed" in row and row["role"] == "ours":
            who = f"{row['title']}, {row['contender']}, {row['part']}"
            told.append(f"Not timed: {who}: {row['not_timed']}.")
    return ["", *told] if told else []
