# SPDX-License-Identifier: BSD-3-Clause
"""The matrix of what is supported where, from the results of tests/test_support.py."""

from __future__ import annotations

import json
import pathlib

from bench import record, tables

RESULTS = record.ROOT / "bench" / "results"
FEATURES = ("forward", "backward", "GQA", "packed", "compile", "ring")
NO = "no"  # it refuses, with a sentence
FAILS = "FAILS"


def save(cells: list, path, device: str = "cpu") -> None:
    """cells: [{"subject", "feature", "place", "found": "yes", NO or FAILS}]."""
    kept = {"machine": record.machine(device), "cells": cells}
    pathlib.Path(path).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def committed() -> list:
    """Cells of all runs of the tests that are kept."""
    runs = [json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("support*.json"))]
    return [cell for run in runs for cell in run["cells"]]


def markdown(cells: list) -> str:
    """A line for each subject, a column for each feature: the places where it was seen to work."""
    found = {}
    for cell in cells:
        told = found.setdefault(cell["subject"], {}).setdefault(cell["feature"], [])
        told.append((cell["place"], cell["found"]))
    lines = [
        [subject, *(_cell(features.get(name, [])) for name in FEATURES)]
        for subject, features in found.items()
    ]
    return tables.table(["", *FEATURES], lines)


def _cell(told: list) -> str:
    """Nothing where nobody looked."""
    if told and all(found == NO for _, found in told):
        return NO
    seen = [place for place, found in told if found == "yes"]
    failed = [f"**fails: {place}**" for place, found in told if found == FAILS]
    return ", ".join(dict.fromkeys(seen + failed))
