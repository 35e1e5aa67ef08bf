# SPDX-License-Identifier: BSD-3-Clause
"""`python -m longattn demo`: train short, evaluate long, on text that every Python carries."""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import time

NEEDED = ("tqdm", "matplotlib")  # beyond longattn's own dependencies
REPORT, PICTURE, RESULTS = FILES = ("report.txt", "report.png", "results.json")


def main(arguments: list[str] | None = None) -> int:
    """0: done. 1: something the demo needs is missing; one sentence on stderr says what."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return _refuse(f"{' and '.join(missing)} must be installed: pip install longattn[demo]")

    from longattn import backends
    from longattn.demo.settings import parse
    from longattn.demo.text import NotEnoughText, read_corpus

    settings = parse(arguments)
    usable, reason = backends.available("cpu")
    if not usable:
        return _refuse(reason)
    try:
        corpus = read_corpus(longest=settings.longest_context)
    except NotEnoughText as error:
        return _refuse(str(error))
    reason = why_not_writable(settings.output)
    if reason:
        return _refuse(reason)
    save(run(settings, corpus))
    return 0


def _refuse(reason: str) -> int:
    print(f"the demo cannot run: {reason}", file=sys.stderr)
    return 1


def why_not_writable(folder) -> str | None:
    """A sentence where the results could not be saved, which should not turn out after training."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        for old in (folder / name for name in FILES):
            if old.exists():
                old.open("r+b").close()
    except OSError as error:
        return f"--output {folder} cannot be written: {error.strerror} ({error.filename})"
    return None


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
    contexts = evaluation.held_out_contexts(corpus, settings, evaluation.MULTIPLES[-1])[:8]
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
    from longattn.demo import picture, report

    folder = results.settings.output
    folder.mkdir(parents=True, exist_ok=True)
    page = report.text_report(results)
    (folder / REPORT).write_text(page, encoding="utf-8")
    (folder / RESULTS).write_text(json.dumps(report.as_json(results), indent=1) + "\n")
    picture.save(results, folder / PICTURE)
    print("\n" + page)
    print("Saved " + ", ".join(str(folder / name) for name in FILES))
