# SPDX-License-Identifier: BSD-3-Clause
"""`python -m longattn extrapolate`: what happens beyond the training length, system by system."""

from __future__ import annotations

import time


def main(arguments: list[str] | None = None) -> int:
    from longattn.demo.extrapolation.settings import parse
    from longattn.demo.start import launch

    return launch("comparison", parse, lambda *prepared: save(run(*prepared)), arguments)


def run(settings, corpus):
    """Train every decoder, measure every row. Results.repeat says how to get the numbers again."""
    from longattn.demo.extrapolation.workers import workers
    from longattn.demo.start import CannotRun

    most = len(corpus.held_out) // settings.longest_context
    if settings.contexts > most:
        raise CannotRun(
            f"--contexts {settings.contexts} of {settings.longest_context} bytes would overlap in "
            f"the {len(corpus.held_out)} bytes that are held out; at most {most} fit"
        )
    with workers(settings.threads) as pool:
        return _train_and_measure(settings, corpus, pool)


def _train_and_measure(settings, corpus, pool):
    from longattn.demo import text
    from longattn.demo.extrapolation.evaluation import evaluate
    from longattn.demo.extrapolation.results import Results
    from longattn.demo.extrapolation.training import Runs
    from longattn.demo.settings import repeat_command
    from longattn.demo.training import descend

    seconds, cpu_seconds = time.perf_counter(), time.process_time()
    runs = Runs(corpus, settings, pool)
    steps = len(descend(runs.step, settings))
    training_seconds = time.perf_counter() - seconds
    rows = evaluate(runs, corpus, settings)
    return Results(
        settings=settings,
        text=str(corpus),
        model=str(next(iter(runs.by_name.values())).model),
        repeat=repeat_command(settings, steps),
        training_losses=runs.losses,
        unigram=text.unigram_loss(corpus),
        bigram=text.bigram_loss(corpus),
        rows=rows,
        training_seconds=training_seconds,
        seconds=time.perf_counter() - seconds,
        cpu_seconds=time.process_time() - cpu_seconds,
    )


def save(results) -> None:
    """The report (also printed), its picture and its numbers, in the output folder."""
    from longattn.demo import files
    from longattn.demo.extrapolation import picture, report

    page, numbers = report.text_report(results), report.as_json(results)
    files.save(results.settings.output, page, numbers, lambda path: picture.save(results, path))
