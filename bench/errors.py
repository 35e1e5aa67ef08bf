# SPDX-License-Identifier: BSD-3-Clause
"""Errors against float64, ours beside the rivals': every row of the output and of the gradients."""

from __future__ import annotations

from bench import truth
from bench.entrant import INFERENCE, TRAINING, Entrant
from bench.measure import Job, identity, nobody


def errors_of(job: Job, seed: int, tell=nobody) -> list:
    """Rows, one for each contender and tensor: largest, rms, relative."""
    case = job.case
    tell(f"{case.title}: errors")
    inputs = case.inputs(seed)
    exact = truth.truth_of(case, inputs, seed, blocks=[(0, case.length)])
    rows = []
    for contender in job.contenders():
        entrant = Entrant(contender)
        passes = (INFERENCE, TRAINING)
        entrant.enter(inputs, exact.gradients, exact, case.tolerance(), passes)
        for name, error in entrant.errors.items():
            row = identity(case) | {"contender": entrant.name, "tensor": name}
            rows.append(row | {key: float(f"{x:.3g}") for key, x in error._asdict().items()})
    return rows


def text_of(row: dict) -> str:
    return (
        f"{row['title']:44} {row['dtype']:9} {row['tensor']:12} {row['contender']:32} "
        f"largest {row['largest']:.2e}  rms {row['rms']:.2e}  relative {row['relative']:.2e}"
    )
