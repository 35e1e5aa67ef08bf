# SPDX-License-Identifier: BSD-3-Clause
"""Against length: series of one contender, and the length at which a sparse pattern overtakes."""

from __future__ import annotations

import json
import math
from typing import NamedTuple

from bench import held


class Series(NamedTuple):
    contender: str
    role: str
    lengths: list
    ms: list
    peak_mib: list  # None where it was not counted
    rate: list  # GFLOP/s


def families(rows: list) -> dict:
    """(title, dtype, head_dim, q_heads, kv_heads, part) -> Series with two lengths at least.

    The title names a batch, a device and what the process was held to as well."""
    found = {}
    for row in rows:
        if "ms" not in row:
            continue
        names = ("dtype", "head_dim", "q_heads", "kv_heads", "part")
        others = json.dumps(row["parameters"], sort_keys=True)
        family = (_title(row), *(row[name] for name in names), others)
        who = (row["contender"], row["role"])
        found.setdefault(family, {}).setdefault(who, []).append(row)
    result = {}
    for family, contenders in found.items():
        series = [_series(who, own) for who, own in contenders.items()]
        series = [one for one in series if len(set(one.lengths)) > 1]
        if series:
            result[family[:-1]] = series
    return result


def _title(row: dict) -> str:
    batch = f", batch {row['batch']}" if row["batch"] > 1 else ""
    device = f", {row['device']}" if row["device"] != "cpu" else ""
    return row["title"] + batch + device + held.text_of(row)


def _series(who, rows: list) -> Series:
    rows = sorted(rows, key=lambda row: row["length"])
    return Series(
        *who,
        [row["length"] for row in rows],
        [row["ms"][0] for row in rows],
        [row.get("peak_mib") for row in rows],
        [row.get("gflops") for row in rows],
    )


def crossover(ours: Series, other: Series):
    """The length from which on ours is faster, between measured ones by the power laws through
    neighbours; 0 if it is faster throughout, None if it never is."""
    shared = [n for n in ours.lengths if n in other.lengths]
    if not shared:
        return None
    gaps = [math.log(_at(other, n) / _at(ours, n)) for n in shared]
    if gaps[-1] <= 0:
        return None
    for index in range(len(shared) - 1, 0, -1):
        if gaps[index - 1] <= 0 < gaps[index]:
            share = -gaps[index - 1] / (gaps[index] - gaps[index - 1])
            low, high = math.log(shared[index - 1]), math.log(shared[index])
            return round(math.exp(low + share * (high - low)))
    return 0


def _at(series: Series, length: int) -> float:
    return series.ms[series.lengths.index(length)]


def sentence(family: tuple, ours: Series, other: Series) -> str:
    title, dtype, head_dim, *_, part = family
    where = f"{title}, {part}, {dtype} d{head_dim}, beside {other.contender}"
    length = crossover(ours, other)
    if length is None:
        return f"{where}: not faster at any measured length"
    if length == 0:
        shortest = min(set(ours.lengths) & set(other.lengths))
        return f"{where}: faster from the shortest measured length, {shortest}, on"
    return f"{where}: faster from about {length} on"
