# SPDX-License-Identifier: BSD-3-Clause
"""`python -m bench.table FILE`: the Markdown that README.md shows of a saved run."""

from __future__ import annotations

import json
import sys


def markdown(path) -> str:
    with open(path) as file:
        result = json.load(file)
    machine, call = result["machine"], result["small_call"]
    lines = [
        f"{machine['processor']} (`{machine['isa']}`), {machine['threads']} thread, torch "
        f"{machine['torch']}, longattn {machine['longattn']} at {machine['commit']}: process CPU "
        "time, medians of pairs run in turn, batch 1.",
        "",
        "| case | dtype | head_dim | part | longattn | GFLOP/s | speed-up over | ratio (range) |",
        "|---|---|--:|---|--:|--:|---|--:|",
    ]
    for row in result["rows"]:
        low, high = row["ratio_range"]
        lines.append(
            f"| {row['case']}, {row['length']} x {row['heads']} heads | {row['dtype']} "
            f"| {row['head_dim']} | {row['part']} | {row['ours_ms']} ms | {row['ours_gflops']} "
            f"| {row['rival']} | {row['ratio']} ({low} to {high}) |"
        )
    lines += [
        "",
        f"A call so small that only overhead is left, with gradients: {call['ours_us']} µs; torch "
        f"SDPA {call['sdpa_us']} µs. GFLOP/s count the pairs that the mask shows.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(sys.argv[1]))
