# SPDX-License-Identifier: BSD-3-Clause
"""`python -m longattn demo`: train short, evaluate long, on text that every Python carries."""

from __future__ import annotations

import time


def main(arguments: list[str] | None = None) -> int:
    from longattn.demo.settings import parse
    from longattn.demo.start import launch

    return launch("demo", parse, lambda *prepared: save(run(*prepared)), arguments)


def run(settings, corpus):
    """Train and measure. The losses repeat on one machine; Results.repeat says how."""
    import torch

    from longattn.demo import training
    from longattn.demo.attends import longattn_attends

    attends = longattn_attends(settings.length)
    threads_before = torch.get_num_threads()
    torch.set_num_threads(training.threads_to_use(corpus, settings, attends["causal"]))
    try:
        return _train_and_measure(settings, corpus, attends)
    finally:
        torch.set_num_threads(threads_before)


def _train_and_measure(settings, corpus, attends):
    import torch

    from longattn.demo import evaluation, long_layer, speed, text, training
    from longattn.demo.attends import contenders, sdpa_attends
    from longattn.demo.report import Results
    from longattn.demo.settings import repeat_command

    rivals = sdpa_attends(settings.length)
    start = time.perf_counter()
    model, losses = training.train(corpus, settings, attends["causal"])
    training_seconds = time.perf_counter() - start

    masks = evaluation.evaluate(model, corpus, settings, attends)
    speeds = speed.measure(model, corpus, settings, contenders(settings.length))
    contexts = evaluation.held_out_contexts(corpus, settings, settings.multiples[-1])[:8]
    available, reason = long_layer.available()
    return Results(
        settings=settings,
        training_seconds=training_seconds,
        training_losses=losses,
        text=str(corpus),
        model=f"{model}; threads: {torch.get_num_threads()}",
        repeat=repeat_command(settings, len(losses), torch.get_num_threads()),
        unigram=text.unigram_loss(corpus),
        bigram=text.bigram_loss(corpus),
        masks=masks,
        speeds=speeds,
        largest_difference=evaluation.largest_difference(model, contexts, attends, rivals),
        long_layer=long_layer.measure(torch.device("cuda")) if available else [],
        long_layer_reason=reason,
    )


def save(results) -> None:
    """The report (also printed), its picture and its numbers, in the output folder."""
    from longattn.demo import files, picture, report

    page, numbers = report.text_report(results), report.as_json(results)
    files.save(results.settings.output, page, numbers, lambda path: picture.save(results, path))
