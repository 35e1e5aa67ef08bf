# SPDX-License-Identifier: BSD-3-Clause
"""What limits a kernel, from the CSV of Nsight Compute (`ncu --csv --page details`)."""

from __future__ import annotations

import csv
import dataclasses
import io

BUSY = 60.0  # % of peak from which on ncu itself calls a unit the limit; below: latency
# (section, metric) -> field; the unit tells percentages from rates of the same name.
PERCENT = {
    "Compute (SM) Throughput": "compute",
    "Memory Throughput": "memory",
    "DRAM Throughput": "dram",
    "L2 Cache Throughput": "l2",
    "L1/TEX Cache Throughput": "l1",
    "Achieved Occupancy": "occupancy",
    "Theoretical Occupancy": "possible_occupancy",
    "No Eligible": "stalled",
}
TIMES = {"second": 1e6, "s": 1e6, "msecond": 1e3, "ms": 1e3, "usecond": 1.0, "us": 1.0,
         "nsecond": 1e-3, "ns": 1e-3}  # fmt: skip


@dataclasses.dataclass
class Launch:
    """One launch of a kernel; None where ncu was not asked."""

    kernel: str
    microseconds: float | None = None
    registers: float | None = None
    compute: float | None = None  # % of peak, as all that follow
    memory: float | None = None
    dram: float | None = None
    l2: float | None = None
    l1: float | None = None
    occupancy: float | None = None
    possible_occupancy: float | None = None
    stalled: float | None = None  # of cycles: no warp could issue

    @property
    def limit(self) -> str:
        if self.compute is None or self.memory is None:
            return "unknown: the section SpeedOfLight is missing"
        if max(self.compute, self.memory) < BUSY:
            return "latency: neither compute nor memory is busy"
        if self.compute >= self.memory:
            return "compute"
        levels = {"DRAM": self.dram, "L2": self.l2, "L1 and shared memory": self.l1}
        known = {name: share for name, share in levels.items() if share is not None}
        return f"memory: {max(known, key=known.get)}" if known else "memory"


def read(text: str) -> list:
    """Launches in their order."""
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        raise ValueError('ncu\'s CSV has no header: no line starts with "ID"')
    launches = {}
    for row in csv.DictReader(io.StringIO("\n".join(lines[start:]))):
        launch = launches.setdefault(row["ID"], Launch(row["Kernel Name"]))
        name, unit, value = row["Metric Name"], row["Metric Unit"], row["Metric Value"]
        if name in PERCENT and unit == "%":
            setattr(launch, PERCENT[name], _number(value))
        elif name == "Duration" and unit in TIMES:
            launch.microseconds = _number(value) * TIMES[unit]
        elif name == "Registers Per Thread":
            launch.registers = _number(value)
    return list(launches.values())


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def table(launches: list) -> str:
    """A line for each kernel name: its launches added up, the shares of the longest one."""
    names = {}
    for launch in launches:
        names.setdefault(launch.kernel, []).append(launch)
    lines = [
        f"{'µs':>10} {'calls':>6} {'compute':>8} {'memory':>7} {'occupancy':>10} "
        f"{'stalled':>8}  limit, kernel"
    ]
    for name, own in names.items():
        longest = max(own, key=lambda one: one.microseconds or 0.0)
        total = sum(one.microseconds or 0.0 for one in own)
        shares = (longest.compute, longest.memory, longest.occupancy, longest.stalled)
        cells = ["-" if share is None else f"{share:.0f}%" for share in shares]
        lines.append(
            f"{total:10.1f} {len(own):6} {cells[0]:>8} {cells[1]:>7} {cells[2]:>10} "
            f"{cells[3]:>8}  {longest.limit}: {name}"
        )
    return "\n".join(lines)
