# SPDX-License-Identifier: BSD-3-Clause
"""`python -m bench compare A.json B.json`: what moved, everywhere in a run.

Figures with a spread moved if every round of one run was beyond every round of the other; figures
without one if they moved by more than their kind is given here."""

from __future__ import annotations

import dataclasses

from bench import held, record
from bench.contenders.base import OURS

# Facts of a machine without which times cannot be compared, only ratios.
SAME_MACHINE = ("processor", "isa", "threads", "gpu")
ERRORS, MEMORY, EXPONENT, SHARE, SPEED = 1.25, 1.1, 0.05, 1.2, 1.15  # factors; of an exponent a sum


@dataclasses.dataclass(frozen=True)
class Change:
    what: str
    measure: str  # "time / longattn's", "ms", "rms error", "exponent"
    before: tuple  # median, low, high
    after: tuple
    better: bool


def compare(before: dict, after: dict) -> tuple:
    """(changes, sentences about what cannot be compared)."""
    same = all(before["machine"].get(name) == after["machine"].get(name) for name in SAME_MACHINE)
    remarks = [] if same else [_machines(before, after)]
    changes = []
    for (kind, key), old, new in _pairs(before, after, remarks):
        changes += _of(kind, key, old, new, same)
    return sorted(changes, key=lambda one: (one.better, one.what)), remarks


def lost(before: dict, after: dict) -> list:
    """Sentences: what longattn did in the first run and failed at in the second."""
    old = {record.key(row) for row in before["rows"] if "ms" in row}
    return [
        f"{_name(row)}: {row['not_timed']}"
        for row in after["rows"]
        if row["role"] == "ours" and "not_timed" in row
        if record.key(row) in old or row["not_timed"].startswith("wrong")
    ]


def _pairs(before: dict, after: dict, remarks: list):
    """((kind, key), row, row) of what both have; remarks grow by what only one has."""
    old, new = _keyed(before), _keyed(after)
    for names, where in ((old.keys() - new.keys(), "first"), (new.keys() - old.keys(), "second")):
        for kind in dict.fromkeys(kind for kind, _ in sorted(names, key=str)):
            count = sum(one == kind for one, _ in names)
            rows = "1 row is" if count == 1 else f"{count} rows are"
            remarks.append(f"{kind}: {rows} in the {where} run only")
    for place in old.keys() & new.keys():
        yield place, old[place], new[place]


def _keyed(result: dict) -> dict:
    """(kind, what tells it from others) -> row."""
    found = {("times", record.key(row)): row for row in result["rows"] if "ms" in row}
    for row in result.get("errors", ()):
        place = tuple(row[name] for name in ("title", "dtype", "tensor", "contender"))
        found["errors", place] = row
    for row in result.get("scaling", ()):
        found["growth", tuple(row[name] for name in ("title", "dtype", "part"))] = row
    for row in result.get("ring", ()):
        names = ("title", "dtype", "part", "length", "world_size")
        found["rings", tuple(row[name] for name in names)] = row
    for row in result.get("ring_errors", ()):
        found["errors of rings", (row["title"], row["dtype"])] = row
    for row in result.get("end_to_end", ()):
        found["models", (row["contender"], row["dtype"], row["length"])] = row
    for name, microseconds in result.get("small_call", {}).items():
        found["small calls", (name,)] = {"microseconds": microseconds}
    return found


def _of(kind: str, key: tuple, old: dict, new: dict, same_machine: bool) -> list:
    if kind == "times":
        return _of_times(old, new, same_machine)
    what = ", ".join(str(part) for part in key)
    if not _is_ours(kind, key):
        return []
    told = {
        "errors": [("rms error", "rms", ERRORS), ("largest error", "largest", 2 * ERRORS)],
        "rings": [("CPU time beside one process", "ratio", SHARE), ("MB", "megabytes", MEMORY)],
        "models": [("peak MiB", "peak_mib", MEMORY)],
    }.get(kind, [])
    if same_machine:
        told += {"small calls": [("µs", "microseconds", SPEED)]}.get(kind, [])
    found = [_moved(what, name, old.get(field), new.get(field), most) for name, field, most in told]
    if kind == "models" and same_machine:
        found.append(_moved(what, "tokens/s", *_speeds(old, new), SPEED, less_is_better=False))
    if kind == "models" and abs(old["losses"][-1] - new["losses"][-1]) > 0.01:
        last = (old["losses"][-1], new["losses"][-1])
        found.append(_change(what, "last loss", *last, last[1] < last[0]))
    if kind == "growth":
        for name in ("time_exponent", "memory_exponent"):
            if name in old and name in new and abs(old[name] - new[name]) > EXPONENT:
                better = new[name] < old[name]
                found.append(_change(what, name.replace("_", " "), old[name], new[name], better))
    if kind == "errors of rings":
        for name in ("out", "dq", "dk", "dv"):
            found.append(_moved(what, f"rms error of {name}", old[name][-1], new[name][-1], ERRORS))
    return [one for one in found if one is not None]


def _is_ours(kind: str, key: tuple) -> bool:
    """Rivals may change as they like."""
    named = {"errors": key[-1], "models": key[0], "small calls": key[0]}
    return kind not in named or named[kind].startswith(OURS)


def _speeds(old: dict, new: dict) -> tuple:
    return old["tokens_per_second"], new["tokens_per_second"]


def _change(what: str, measure: str, old: float, new: float, better: bool) -> Change:
    return Change(what, measure, (old,) * 3, (new,) * 3, better)


def _moved(what, measure, old, new, most: float, less_is_better: bool = True):
    """A change by more than the factor, or None."""
    if old is None or new is None or max(old, new) <= most * min(old, new):
        return None
    return _change(what, measure, old, new, (new < old) == less_is_better)


def _name(row: dict) -> str:
    return (
        f"{row['title']}, {row['part']}, {row['dtype']} d{row['head_dim']} N {row['length']}, "
        f"{row['contender']}{held.text_of(row)}"
    )


def _of_times(old: dict, new: dict, same_machine: bool) -> list:
    """A ratio says more than a time: it is independent of the clock speed of the day."""
    what, found = _name(new), []
    if "ratio" in old and "ratio" in new and _apart(old["ratio"], new["ratio"]):
        better = new["ratio"][0] > old["ratio"][0]
        found.append(
            Change(what, "time / longattn's", tuple(old["ratio"]), tuple(new["ratio"]), better)
        )
    if new["role"] != "ours":
        return found
    if same_machine and _apart(old["ms"], new["ms"]):
        better = new["ms"][0] < old["ms"][0]
        found.append(Change(what, "ms", tuple(old["ms"]), tuple(new["ms"]), better))
    peaks = (old.get("peak_mib"), new.get("peak_mib"))
    if None not in peaks and abs(peaks[1] - peaks[0]) > 1:  # below, the count of pages is coarse
        found.append(_moved(what, "peak MiB", *peaks, MEMORY))
    return [one for one in found if one is not None]


def _apart(a, b) -> bool:
    """Whether every round of one run was beyond every round of the other."""
    return a[2] < b[1] or b[2] < a[1]


def _machines(before: dict, after: dict) -> str:
    told = []
    for result in (before, after):
        machine = result["machine"]
        told.append(", ".join(str(machine.get(name)) for name in SAME_MACHINE if machine.get(name)))
    return f"the machines differ ({' | '.join(told)}): only ratios, errors and sizes are compared"


def text_of(change: Change) -> str:
    before, after = (_spread(values) for values in (change.before, change.after))
    word = "better" if change.better else "WORSE"
    return f"{word:6} {change.what}: {change.measure} {before} -> {after}"


def _spread(values: tuple) -> str:
    median, low, high = values
    return f"{median:.4g}" if low == high else f"{median:.4g} [{low:.4g}, {high:.4g}]"
