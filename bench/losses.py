# SPDX-License-Identifier: BSD-3-Clause
"""Where we lose, in sentences: rivals that are faster, smaller or more exact, and missed goals."""

from __future__ import annotations

from bench import end_to_end, goals, record
from bench.contenders.base import OURS
from bench.tables import sizes, spread

MORE_MEMORY = 1.1  # times a rival's, and a MiB: below it pages are counted, not tensors
LESS_EXACT = 1.25  # times the error of the most exact rival


def losses(result: dict) -> list:
    rows = result["rows"]
    return [
        *_slower(rows),
        *_larger(rows),
        *_larger_models(result.get("end_to_end", ())),
        *_less_exact(result.get("errors", ())),
        *_small_calls(result.get("small_call", {})),
        *_missed(result),
    ]


def _slower(rows: list) -> list:
    found = []
    for row in rows:
        if row["role"] != "rival" or "ratio" not in row or row["ratio"][0] >= 1:
            continue
        sure = "" if row["ratio"][2] < 1 else " (but not in every round)"
        found.append(
            f"{row['title']}, {row['part']}, {sizes(row)}: {row['contender']} takes "
            f"{spread(row['ratio'], '.2f')} of longattn's time{sure}"
        )
    return found


def _more(mine: float, other: float) -> bool:
    return mine > MORE_MEMORY * other and mine > other + 1


def _larger(rows: list) -> list:
    """Peaks, beside those of rivals that do the same."""
    ours = {
        record.key(row | {"contender": ""}): row["peak_mib"]
        for row in rows
        if row["contender"] == OURS and "peak_mib" in row
    }
    found = []
    for row in rows:
        mine = ours.get(record.key(row | {"contender": ""}))
        if row["role"] == "rival" and mine and "peak_mib" in row and _more(mine, row["peak_mib"]):
            found.append(
                f"{row['title']}, {row['part']}, {sizes(row)}: longattn's peak is {mine:.1f} MiB, "
                f"that of {row['contender']} {row['peak_mib']:.1f}"
            )
    return found


def _larger_models(rows) -> list:
    peaks = {
        row["dtype"]: row.get("peak_mib") for row in rows if row["contender"] == end_to_end.SDPA
    }
    return [
        f"a whole model in {row['dtype']}: the peak of a step with {row['contender']} is "
        f"{row['peak_mib']:.0f} MiB, with {end_to_end.SDPA} {peaks[row['dtype']]:.0f}"
        for row in rows
        if peaks.get(row["dtype"]) and "peak_mib" in row
        if _more(row["peak_mib"], peaks[row["dtype"]])
    ]


def _less_exact(rows) -> list:
    best = {}
    for row in rows:
        line = (row["title"], row["dtype"], row["tensor"])
        if row["contender"] != OURS and (line not in best or row["rms"] < best[line]["rms"]):
            best[line] = row
    found = []
    for row in rows:
        rival = best.get((row["title"], row["dtype"], row["tensor"]))
        if row["contender"] == OURS and rival and row["rms"] > LESS_EXACT * rival["rms"]:
            found.append(
                f"{row['title']}, {row['dtype']}: the rms error of {row['tensor']} is "
                f"{row['rms']:.1e}, that of {rival['contender']} {rival['rms']:.1e}"
            )
    return found


def _small_calls(calls: dict) -> list:
    rivals = {name: time for name, time in calls.items() if not name.startswith(OURS)}
    return [
        f"a call that does next to nothing: {name} takes {time:g} µs, {rival} {least:g}"
        for name, time in calls.items()
        for rival, least in rivals.items()
        if name == "longattn.attention" and time > least
    ]


def _missed(result: dict) -> list:
    return [
        f"goal missed: {one.work} against {one.against}: {one.goal} was asked, "
        f"{goals.text_of(one)} is reached"
        for one in goals.verdicts(result)
        if one.met is False
    ]
