# SPDX-License-Identifier: BSD-3-Clause
"""The page: what was measured and how, goals, tables, errors, scaling, and where we lose."""

from __future__ import annotations

import pathlib

from bench import end_to_end, losses, small_call, summary, support_matrix, tables
from bench.report import lengths, pictures


SUPPORT = (
    "From the results of tests/test_support.py: each cell names the places where forward, and "
    "gradients too but in the first column, were seen to agree with the reference in float64. "
    "Emulated: the CUDA kernels, run on a CPU. no: it refuses, with a sentence. A blank: nobody "
    "has looked."
)


def write(results: list, folder) -> pathlib.Path:
    """A page of these runs (name, result), one after the other; returns its path."""
    folder, matrix = pathlib.Path(folder), support_matrix.committed()
    folder.mkdir(parents=True, exist_ok=True)
    pictures.masks(folder / "masks.png")
    parts = ["# longattn: what was measured", _how()]
    for number, (name, result) in enumerate(results):
        parts += _run(name, result, folder, number)
    parts += ["## What is supported where", SUPPORT, support_matrix.markdown(matrix)]
    parts += ["## The masks", "![masks](masks.png)"]
    page = folder / "report.md"
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return page


def _how() -> str:
    return (
        "Every contender gets the same numbers, and its output and gradients are compared with "
        "dense ones in float64 before it is timed; who is wrong is not timed. All run in turn, "
        "round by round; a ratio is the median of the ratios of single rounds, the spread its "
        "smallest and largest. The clock is the process's CPU time, with more than one thread the "
        "wall's. GFLOP/s count the pairs that the mask shows, two products forward and five "
        "backward; GB/s the bytes that cannot be saved. Shares are of torch's own matrix product "
        "(2048 x 2048, the case's dtype) and copy in the same run: no ceiling of the machine, only "
        "what is reached there. Peak: the most memory during a call beyond what was held before; "
        "temporaries: what of it is no result."
    )


def _run(name: str, result: dict, folder: pathlib.Path, number: int) -> list:
    rows = result["rows"]
    parts = [f"## {name}", _machine(result), *filter(None, summary.like_against_like(result))]
    if "method" in result:
        parts.append(f"Here: {result['method']}.")
    if result.get("left_out"):
        told = (f"- {sentence}" for sentence in result["left_out"])
        parts.append("Not measured:\n\n" + "\n".join(told))
    if "note" in result:
        parts.append(f"Note: {result['note']}.")
    if rows:
        parts += ["### Goals", tables.goals_table(result)]
        picture = f"ratios_{number}.png"
        pictures.ratios(rows, folder / picture)
        parts += ["### Beside rivals", f"![ratios]({picture})"]
        parts += _patterns(rows)
        parts += _against_length(rows, folder, number)
    if result.get("errors"):
        parts += ["### Errors against float64", tables.errors_table(result["errors"])]
    if result.get("scaling"):
        picture = f"scaling_{number}.png"
        pictures.scaling(result["scaling"], folder / picture)
        parts += ["### Growth with length", tables.scaling_table(result["scaling"])]
        parts.append(f"![growth]({picture})")
    if result.get("ring"):
        parts += ["### Rings of processes on one machine", tables.ring_table(result["ring"])]
    if result.get("ring_errors"):
        parts += [tables.ring_errors_table(result["ring_errors"])]
    if result.get("end_to_end"):
        picture = f"loss_{number}.png"
        pictures.losses(result["end_to_end"], folder / picture)
        parts += ["### A whole model", end_to_end.sentence(result["end_to_end"][0])]
        parts += [tables.end_to_end_table(result["end_to_end"]), f"![losses]({picture})"]
    if result.get("small_call"):
        parts += ["### Overhead", _sentence(small_call.text_of(result["small_call"]))]
    if result.get("build"):
        parts += ["### Build", _build(result["build"])]
    return parts + ["### Where we lose", _losses(result)]


def _machine(result: dict) -> str:
    facts = {**result["machine"], **result["options"]}
    if "minutes" in result:
        facts["minutes of this run"] = result["minutes"]
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _patterns(rows: list) -> list:
    parts = []
    for title, table, absent in tables.patterns(rows):
        parts += [f"#### {title}", table]
        if absent:
            told = (f"- {name}: {reason}" for name, reason in absent.items())
            parts.append("Not timed:\n\n" + "\n".join(told))
    return parts


def _against_length(rows: list, folder: pathlib.Path, number: int) -> list:
    parts = []
    for index, (family, series) in enumerate(lengths.families(rows).items()):
        picture = f"length_{number}_{index}.png"
        pictures.against_length(family, series, folder / picture)
        parts.append(f"![{family[0]}]({picture})")
        ours = next((one for one in series if one.role == "ours"), None)
        others = [one for one in series if one is not ours]
        if ours and others:
            told = (f"- {lengths.sentence(family, ours, one)}" for one in others)
            parts.append("\n".join(told))
    return ["### Against length", *parts] if parts else []


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _build(build: dict) -> str:
    return tables.table(["what", "value"], [[name, str(value)] for name, value in build.items()])


def _losses(result: dict) -> str:
    found = losses.losses(result)
    if not found:
        return "Nowhere in this run."
    return "\n".join(f"- {sentence}" for sentence in found)
