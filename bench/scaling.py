# SPDX-License-Identifier: BSD-3-Clause
"""How time and memory grow with length: the exponent of a power law through several lengths.

Windows are short beside the lengths, so that queries near the beginning, which see less than a
window, do not look like growth."""

from __future__ import annotations

import math
from typing import Callable

from bench import timing
from bench.cases import PATTERNS
from bench.contenders.base import OURS, ours
from bench.entrant import INFERENCE, PASS_OF, TRAINING, Entrant
from bench.measure import Options, identity, nobody

LENGTHS = (16384, 32768, 65536, 131072)
DENSE_LENGTHS = (1024, 2048, 4096, 8192)  # for contrast
LINEAR = ("window", "sinks", "dilated", "lm_infinite")
MOST = 1.05  # exponent of a linear pattern
SHAPE = {"q_heads": 2, "head_dim": 64}
SIZES = {
    "window": {"window": 256},
    "sinks": {"window": 256, "sink_tokens": 16},
    "dilated": {"segment_lengths": (256, 512, 1024)},
    "lm_infinite": {"window": 256, "sink_tokens": 16, "distance_ceiling": 256},
}


def exponent(lengths, values) -> float:
    """Slope of the least squares line through the logarithms."""
    xs, ys = ([math.log(v) for v in pair] for pair in (lengths, values))
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys))
    return covariance / sum((x - mean_x) ** 2 for x in xs)


def study(
    pattern: str, dtype: str, options: Options, lengths=None, tell: Callable = nobody
) -> list:
    """Rows for forward and for both: times, peaks and exponents over the lengths, which are run in
    turn."""
    if lengths is None:
        lengths = LENGTHS if pattern in LINEAR else DENSE_LENGTHS
    settings = {**SHAPE, **SIZES.get(pattern, {}), "dtype": dtype}
    cases = [PATTERNS[pattern](length=length, **settings) for length in lengths]
    rows = []
    for part in ("forward", "both"):
        name = PASS_OF[part]
        entrants = [_entrant(case, options.seed) for case in cases]
        for case, entrant in zip(cases, entrants):
            tell(f"{case.title}: {part}, {case.length} rows")
            entrant.warm(name, case.device)
        samples = timing.interleave(
            {
                case.length: timing.repeated(one.sampler(name, options.clock), one.seconds[name])
                for case, one in zip(cases, entrants)
            },
            options.repeats,
            options.seconds,
        )
        milliseconds = [min(sample[part] for sample in samples[n]) * 1e3 for n in lengths]
        peaks = [entrant.peaks[name] for entrant in entrants]
        row = identity(cases[-1]) | {"part": part, "lengths": list(lengths)}
        row["ms"] = [float(f"{x:.4g}") for x in milliseconds]
        row["time_exponent"] = round(exponent(lengths, milliseconds), 3)
        if all(peaks):
            row["peak_mib"] = [round(peak / 2**20, 1) for peak in peaks]
            row["memory_exponent"] = round(exponent(lengths, peaks), 3)
        rows.append(row)
    return rows


def _entrant(case, seed: int) -> Entrant:
    """Ours; that it is right is asked elsewhere."""
    entrant = Entrant(ours(OURS, case.ours()))
    entrant.accept(case.inputs(seed), case.gradients(seed), (INFERENCE, TRAINING))
    return entrant


def text_of(row: dict) -> str:
    memory = row.get("memory_exponent", "not counted")
    return (
        f"{row['title']:44} {row['dtype']:9} {row['part']:8} {row['lengths'][0]} to "
        f"{row['lengths'][-1]}: time ~ N^{row['time_exponent']}, memory ~ N^{memory}"
    )
