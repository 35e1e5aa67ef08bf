# SPDX-License-Identifier: BSD-3-Clause
"""Every row of every decoder on the same held-out text."""

from __future__ import annotations

from tqdm import tqdm

from longattn.demo.evaluation import Losses, measure
from longattn.demo.extrapolation.settings import ExtrapolationSettings
from longattn.demo.extrapolation.training import Runs
from longattn.demo.text import Corpus


def evaluate(
    runs: Runs, corpus: Corpus, settings: ExtrapolationSettings
) -> dict[str, dict[str, Losses]]:
    """Name of the weights -> label of the row -> its losses."""
    rows = [
        (name, label, attends_at)
        for name, weights in runs.weights.items()
        for label, attends_at in weights.rows.items()
    ]
    models = {name: run.model.eval() for name, run in runs.by_name.items()}
    total = len(rows) * sum(settings.multiples)
    with tqdm(total=total, desc="evaluation", unit="length") as progress:
        losses = runs.pool.map(
            lambda row: measure(models[row[0]], corpus, settings, row[2], progress), rows
        )
        result = {name: {} for name in models}
        for (name, label, _), of_row in zip(rows, losses):
            result[name][label] = of_row
    return result
