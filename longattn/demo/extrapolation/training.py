# SPDX-License-Identifier: BSD-3-Clause
"""All decoders are trained side by side: the same steps, batches and first weights for each."""

from __future__ import annotations

from concurrent.futures import Executor

from longattn.demo.extrapolation.settings import ExtrapolationSettings
from longattn.demo.extrapolation.weights import all_weights
from longattn.demo.text import Corpus
from longattn.demo.training import Run


class Runs:
    """One run for each entry of `all_weights`; a step is a step of each."""

    def __init__(self, corpus: Corpus, settings: ExtrapolationSettings, pool: Executor):
        self.pool, self.weights = pool, all_weights(settings)
        self.by_name = {
            name: Run(corpus, settings, weights.attends, weights.learned)
            for name, weights in self.weights.items()
        }
        self.losses: dict[str, list[float]] = {name: [] for name in self.by_name}

    def step(self, learning_rate: float) -> float:
        """The mean of their losses."""
        losses = list(self.pool.map(lambda run: run.step(learning_rate), self.by_name.values()))
        for kept, loss in zip(self.losses.values(), losses):
            kept.append(loss)
        return sum(losses) / len(losses)
