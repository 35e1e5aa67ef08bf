# SPDX-License-Identifier: BSD-3-Clause
"""`python -m bench compare A.json B.json`: what moved beyond its spread."""

from __future__ import annotations

import dataclasses

from bench import record

# Facts of a machine without which times cannot be compared, only ratios.
SAME_MACHINE = ("processor", "isa", "threads", "gpu")


@dataclasses.dataclass(frozen=True)
class Change:
    what: str
    measure: str  # "time / longattn's", "ms", "rms error", "exponent"
    before: tuple  # median, low, high
    after: tuple
    better: bool

    @property
    def factor(self) -> float:
        return self.after[0] / self.before[0] if self.before[0] else float("inf")


def compare(before: dict, after: dict) -> tuple:
    """(changes, sentences about what cannot be compared)."""
    same = all(before["machine"].get(name) == after["machine"].get(name) for name in SAME_MACHINE)
    remarks = [] if same else [_machines(before, after)]
    old, new = (
        {record.key(row): row for row in result["rows"] if "ms" in row}
        for result in (before, after)
    )
    for names, where in ((old.keys() - new.keys(), "first"), (new.keys() - old.keys(), "second")):
        if names:
            remarks.append(f"{len(names)} rows were timed in the {where} run only")
    changes = []
    for key in old.keys() & new.keys():
        changes += _of_rows(old[key], new[key], same)
    return sorted(changes, key=lambda one: (one.better, one.what)), remarks


def _of_rows(old: dict, new: dict, same_machine: bool) -> list:
    """A ratio says more than a time: it is independent of the clock speed of the day."""
    what = (
        f"{new['title']}, {new['part']}, {new['dtype']} d{new['head_dim']} N {new['length']}, "
        f"{new['contender']}"
    )
    found = []
    if "ratio" in old and "ratio" in new and _apart(old["ratio"], new["ratio"]):
        better = new["ratio"][0] > old["ratio"][0]
        found.append(
            Change(what, "time / longattn's", tuple(old["ratio"]), tuple(new["ratio"]), better)
        )
    if new["role"] == "ours" and same_machine and _apart(old["ms"], new["ms"]):
        better = new["ms"][0] < old["ms"][0]
        found.append(Change(what, "ms", tuple(old["ms"]), tuple(new["ms"]), better))
    return found


def _apart(a, b) -> bool:
    """Whether every round of one run was beyond every round of the other."""
    return a[2] < b[1] or b[2] < a[1]


def _machines(before: dict, after: dict) -> str:
    told = []
    for result in (before, after):
        machine = result["machine"]
        told.append(", ".join(str(machine.get(name)) for name in SAME_MACHINE if machine.get(name)))
    return f"the machines differ ({' | '.join(told)}): only ratios are compared"


def text_of(change: Change) -> str:
    before, after = (
        f"{values[0]:.4g} [{values[1]:.4g}, {values[2]:.4g}]"
        for values in (change.before, change.after)
    )
    word = "better" if change.better else "WORSE"
    return f"{word:6} {change.what}: {change.measure} {before} -> {after}"
