# SPDX-License-Identifier: BSD-3-Clause
"""Rows of a run as Markdown tables."""

from __future__ import annotations

from bench import end_to_end, goals, held


def table(header: list, rows: list) -> str:
    """The first column to the left, numbers to the right."""
    numbers = [
        all(_is_number(row[column]) for row in rows if row[column]) for column in range(len(header))
    ]
    lines = [
        "| " + " | ".join(header) + " |",
        "|" + "|".join("--:" if number else "---" for number in numbers) + "|",
    ]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _is_number(cell: str) -> bool:
    return cell.lstrip("+-≈< ")[:1].isdigit()


def sizes(row: dict) -> str:
    """What differs between the rows of a pattern."""
    batch = "" if row["batch"] == 1 else f", batch {row['batch']}"
    where = f"{row['dtype']} d{row['head_dim']}, N {row['length']}, {heads(row)} heads{batch}"
    return where + held.text_of(row)


def heads(row: dict) -> str:
    """Of queries, and of keys where they are fewer."""
    same = row["kv_heads"] == row["q_heads"]
    return f"{row['q_heads']}" if same else f"{row['q_heads']}/{row['kv_heads']}"


def patterns(rows: list) -> list:
    """(title, table of everybody who was timed, {contender: why not}) in the order of the run."""
    titles = list(dict.fromkeys(row["title"] for row in rows))
    found = []
    for title in titles:
        own = [row for row in rows if row["title"] == title]
        absent = {row["contender"]: row["not_timed"] for row in own if "not_timed" in row}
        timed = [row for row in own if "ms" in row]
        found.append((title, _timed(timed), absent))
    return found


def _timed(rows: list) -> str:
    header = [
        "sizes", "part", "contender", "ms (spread)", "GFLOP/s", "of torch's matmul", "GB/s",
        "of a copy", "peak MiB", "temporaries", "time / longattn's (spread)",
    ]  # fmt: skip
    return table(header, [_cells(row) for row in rows]) if rows else "Nobody was timed."


def _cells(row: dict) -> list:
    def share(name):
        return f"{row[name]:.0%}" if name in row else ""

    def number(name):
        return f"{row[name]:.1f}" if name in row else ""

    return [
        sizes(row),
        row["part"],
        f"**{row['contender']}**" if row["role"] == "ours" else row["contender"],
        spread(row["ms"], ".4g"),
        number("gflops"),
        share("matmul_share"),
        number("gbs"),
        share("copy_share"),
        number("peak_mib"),
        number("temporaries_mib"),
        spread(row["ratio"], ".2f") if "ratio" in row else "",
    ]


def spread(values, form: str) -> str:
    median, low, high = values
    if low == high:
        return f"{median:{form}}"
    return f"{median:{form}} ({low:{form}} to {high:{form}})"


def goals_table(result: dict) -> str:
    rows = [
        [one.work, one.against, one.goal, goals.text_of(one), goals.answer(one)]
        for one in goals.verdicts(result)
    ]
    return table(["work", "against", "goal", "value [spread]", ""], rows)


def errors_table(rows: list) -> str:
    """A line for each case and tensor; ours, then the rivals."""
    lines = {}
    for row in rows:
        line = (row["title"], row["dtype"], row["tensor"])
        lines.setdefault(line, []).append(row)
    cells = []
    for (title, dtype, tensor), own in lines.items():
        ours = next((row for row in own if row["contender"] == "longattn"), None)
        rivals = [row for row in own if row["contender"] != "longattn"]
        told = "; ".join(f"{row['contender']} {_error(row)}" for row in rivals)
        cells.append([title, dtype, tensor, _error(ours) if ours else "", told])
    return table(["case", "dtype", "tensor", "longattn, largest / rms", "rivals"], cells)


def _error(row: dict) -> str:
    return f"{row['largest']:.1e} / {row['rms']:.1e}"


def scaling_table(rows: list) -> str:
    cells = [
        [
            row["title"],
            row["dtype"],
            row["part"],
            f"{row['lengths'][0]} to {row['lengths'][-1]}",
            f"{row['time_exponent']:.3f}",
            f"{row['memory_exponent']:.3f}" if "memory_exponent" in row else "",
        ]
        for row in rows
    ]
    return table(["case", "dtype", "part", "lengths", "time ~ N^", "memory ~ N^"], cells)


def ring_table(rows: list) -> str:
    cells = [
        [
            row["title"], row["part"], str(row["world_size"]), f"{row['cpu_ms']:.4g}",
            f"{row['ratio']:.2f}", spread(row["busiest"], ".2f") if "busiest" in row else "",
            f"{row['megabytes']:.3g}", str(row["hops"]),
        ]
        for row in rows
    ]  # fmt: skip
    header = [
        "case", "part", "ranks", "CPU ms of all ranks", "beside one process",
        "busiest rank beside the mean", "MB", "hops",
    ]  # fmt: skip
    return table(header, cells)


def ring_errors_table(rows: list) -> str:
    cells = []
    for row in rows:
        for name in ("out", "dq", "dk", "dv"):
            told = [f"{value:.2e}" for value in row[name]]
            cells.append([row["title"], row["dtype"], name, *told, str(row[f"{name}_exponent"])])
    ranks = [f"{count} rank{'s' * (count > 1)}" for count in rows[0]["ranks"]]
    return table(["case", "dtype", "rms error of", *ranks, "~ P^"], cells)


def end_to_end_table(rows: list) -> str:
    """Whole models; the losses at both ends, and how far from SDPA's they ever are."""
    base = {row["dtype"]: row for row in rows if row["contender"] == end_to_end.SDPA}
    cells = []
    for row in rows:
        sdpa = base.get(row["dtype"])
        apart = speed = ""
        if sdpa:
            speed = f"{row['tokens_per_second'] / sdpa['tokens_per_second']:.2f}"
        if sdpa and row["contender"] == end_to_end.DENSE:
            apart = _apart(max(abs(a - b) for a, b in zip(row["losses"], sdpa["losses"])))
        cells.append([
            row["dtype"],
            row["contender"],
            f"{row['tokens_per_second']:.0f}",
            speed,
            f"{row['peak_mib']:.0f}" if "peak_mib" in row else "",
            f"{row['losses'][0]:.4f} to {row['losses'][-1]:.4f}",
            apart,
        ])  # fmt: skip
    header = ["weights", "attention", "tokens/s", "times SDPA's", "peak MiB of a step", "loss",
              "largest difference from SDPA's"]  # fmt: skip
    return table(header, cells)


def _apart(difference: float) -> str:
    """Losses are kept to five digits."""
    return f"{difference:.0e}" if difference else "< 1e-05"
