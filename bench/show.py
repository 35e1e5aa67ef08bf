# SPDX-License-Identifier: BSD-3-Clause
"""Rows as lines of text."""

from __future__ import annotations


def text_of(row: dict) -> str:
    sizes = f"{row['dtype']:9} d{row['head_dim']:<4} N {row['length']:<7}"
    line = f"{row['title']:36} {sizes} {row['part']:9} {row['contender']:34}"
    if "ms" not in row:
        return f"{line} not timed: {row['not_timed']}"
    median, low, high = row["ms"]
    line += f"{median:10.4g} ms"
    if "gflops" in row:
        line += f" {row['gflops']:8.1f} GFLOP/s {row['matmul_share']:5.0%} of torch's matmul"
    elif "gbs" in row:
        line += f" {row['gbs']:8.2f} GB/s    {row['copy_share']:5.0%} of copy  "
    if "peak_mib" in row:
        line += f" {row['peak_mib']:7.1f} MiB"
    if "ratio" in row:
        ratio, low, high = row["ratio"]
        line += f"  {ratio:.2f} x ours [{low:.2f}, {high:.2f}]"
    return line


def lines_of(rows: list) -> list:
    """One for each row that was timed; who was not is told once."""
    told, lines = set(), []
    for row in rows:
        reason = (row["contender"], row.get("not_timed"))
        if "ms" not in row:
            if reason in told:
                continue
            told.add(reason)
        lines.append(text_of(row))
    return lines
