# SPDX-License-Identifier: BSD-3-Clause
"""`python -m bench readme`: the results that README.md shows, from the committed runs."""

from __future__ import annotations

import pathlib

from bench import end_to_end, gpu_summary, held, record, tables
from bench.cases import PATTERNS

RESULTS = record.ROOT / "bench" / "results"
README = record.ROOT / "README.md"
BEGIN = "<!-- made by `python -m bench readme` from bench/results; do not edit -->"
END = "<!-- end of what is made -->"
COLUMNS = (
    ("float32", "forward"),
    ("float32", "both"),
    ("bfloat16", "forward"),
    ("bfloat16", "both"),
)
HEADINGS = "float32 forward | with backward | bfloat16 forward | with backward"


def committed() -> list:
    """The runs on a CPU, then those of bench.gpu."""
    return [path for name in ("cpu", "gpu") for path in sorted(RESULTS.glob(f"{name}*.json"))]


def markdown(result: dict) -> str:
    """Of one run."""
    if result.get("kind") == record.GPU:
        return gpu_summary.markdown(result)
    machine, call = result["machine"], result.get("small_call", {})
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    lines = [
        f"{machine['processor']} (`{machine['isa']}`), {threads}, torch {machine['torch']}, "
        f"longattn {machine['longattn']} at {machine['commit']}: process CPU time, medians of "
        "rounds in which all run in turn, batch 1.",
    ]
    lines += like_against_like(result)
    rivals = _table(result, "rival", _speed_up)
    if rivals:
        lines += [
            "",
            "How many times faster than each rival (smallest to largest), and longattn's time:",
            "",
            f"| case | rival | {HEADINGS} |",
            "|---|---|--:|--:|--:|--:|",
            *rivals,
        ]
    prices = _table(result, "baseline", _price)
    if prices:
        lines += [
            "",
            "Beside a yardstick, simpler or denser: the time divided by that of the yardstick:",
            "",
            f"| case | yardstick | {HEADINGS} |",
            "|---|---|--:|--:|--:|--:|",
            *prices,
        ]
    if result.get("end_to_end"):
        lines += ["", end_to_end.sentence(result["end_to_end"][0]), ""]
        lines += [tables.end_to_end_table(result["end_to_end"])]
    if call:
        told = ", ".join(f"`{name}` {microseconds} µs" for name, microseconds in call.items())
        lines += ["", f"A call so small that only overhead is left, with gradients: {told}."]
    return "\n".join(lines)


SAME = 1.15  # times that differ by less are of the same code


def like_against_like(result: dict) -> list:
    """A paragraph for each rival that is as fast held to an instruction set as it is free: then
    other rows compare instruction sets as well."""
    ours = {case_key(row): row for row in result["rows"] if row["role"] == "ours"}
    free = {record.key(row): row for row in result["rows"] if "ms" in row}
    found = {}
    for row in result["rows"]:
        isa = row.get("torch_isa")
        if row["role"] != "rival" or not isa or "ratio" not in row or row["part"] == "backward":
            continue
        other = free.get(record.key(row | {"isa": None, "torch_isa": None}))
        if other and row["ms"][0] < SAME * other["ms"][0]:
            found.setdefault((row["contender"], isa), []).append((row, other))
    told = []
    for (contender, isa), pairs in found.items():
        ratios, times = [], []
        for row, other in pairs:
            part = {"forward": "forward", "both": "with backward"}[row["part"]]
            ratios.append(f"{row['ratio'][0]:.2f} {part}")
            times.append(f"{other['ms'][0]:.4g} ms free and {row['ms'][0]:.4g} ms held ({part})")
        row, _ = pairs[0]
        own = ours[case_key(pairs[0][1])].get("isa") or result["machine"]["isa"]
        told += [
            "",
            f"{contender} runs {isa.upper()} code here, whatever the processor can: "
            f"{row['title']}, N {row['length']}, d{row['head_dim']}, {row['dtype']} takes it "
            f"{', '.join(times)}, while longattn's kernels use {own}. So rows against torch show "
            "what one gets from `pip install torch`, and compare instruction sets as well. **Like "
            f"against like is the row in which both are held to {isa}: {', '.join(ratios)}.**",
        ]
    return told


def longest(rows: list) -> list:
    """Of rows that differ in length alone, those of the greatest."""
    most = {}
    for row in rows:
        place = record.key(row | {"length": 0})
        most[place] = max(most.get(place, 0), row["length"])
    return [row for row in rows if row["length"] == most[record.key(row | {"length": 0})]]


def _table(result: dict, role: str, cell) -> list:
    """A line for each case and contender, a cell for each of COLUMNS; nobody who was not timed."""
    ours = {case_key(row): row for row in result["rows"] if row["role"] == "ours"}
    cells, order = {}, []
    for row in longest(result["rows"]):
        if row["role"] != role or "ratio" not in row or row["part"] == "backward":
            continue
        sizes = f"N {row['length']}, d{row['head_dim']}, {row['q_heads']} heads"
        clock = ", wall clock" if PATTERNS[row["pattern"]].wall_clock else ""
        line = (f"{row['title']}{clock}, {sizes}{held.text_of(row)}", row["contender"])
        if line not in cells:
            order.append(line)
        place = (row["dtype"], row["part"])
        cells.setdefault(line, {})[place] = cell(row, ours[case_key(row)])
    return [
        f"| {' | '.join(line)} | {' | '.join(cells[line].get(c, '') for c in COLUMNS)} |"
        for line in order
    ]


def case_key(row: dict) -> tuple:
    """The key of the row but for its contender."""
    return tuple(part for part in record.key(row | {"contender": ""}))


def _speed_up(row: dict, ours: dict) -> str:
    ratio, low, high = row["ratio"]
    return f"{ratio:.2f} ({low:.2f} to {high:.2f}), {ours['ms'][0]:.4g} ms"


def _price(row: dict, ours: dict) -> str:
    ratio, low, high = row["ratio"]
    return f"{1 / ratio:.2f} ({1 / high:.2f} to {1 / low:.2f})"


def section() -> str:
    """All committed runs, with the marks around them."""
    runs = [markdown(record.load(path)) for path in committed()]
    return "\n\n".join([BEGIN, *runs, END])


def shown() -> str:
    """What README.md has between its marks, the marks included."""
    text = README.read_text(encoding="utf-8")
    start, stop = text.find(BEGIN), text.find(END)
    if start < 0 or stop < start:
        raise SystemExit(f"README.md lacks the lines {BEGIN!r} and {END!r}")
    return text[start : stop + len(END)]


def write() -> None:
    text = README.read_text(encoding="utf-8")
    pathlib.Path(README).write_text(text.replace(shown(), section()), encoding="utf-8")
