# SPDX-License-Identifier: BSD-3-Clause
"""The comparison as text: what was measured and how, and nothing that was not."""

from __future__ import annotations

import dataclasses
import platform

import torch

from longattn import native
from longattn.demo.evaluation import Losses, standard_error
from longattn.demo.extrapolation.results import Results
from longattn.demo.tables import table
from longattn.version import __version__


def text_report(results: Results) -> str:
    parts = [head(results), explanation(results), loss_table(results), notes(results)]
    return "\n\n".join(parts) + "\n"


def head(results: Results) -> str:
    settings = results.settings
    steps = len(next(iter(results.training_losses.values())))
    seen = f"{settings.batch * settings.length * steps:,} bytes"
    return (
        f"text    {results.text}\n"
        f"model   {results.model}; {len(results.rows)} of them, the same batches for each\n"
        f"train   {steps} steps of {settings.batch} x {settings.length} bytes each: {seen}\n"
        f"took    {results.seconds:.0f} s, {results.training_seconds:.0f} s of them training; "
        f"{results.cpu_seconds:.0f} s of processor time\n"
        f"with    {versions()}\n"
        f"repeat  {results.repeat}"
    )


def versions() -> str:
    return (
        f"longattn {__version__} ({native.isa()}), torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )


def explanation(results: Results) -> str:
    length, contexts = results.settings.length, results.settings.contexts
    longest, scored = results.settings.multiples[-1], contexts * length
    at_end, everywhere = (largest_error(results, part) for part in ("at_end", "everywhere"))
    return (
        f"Loss in nats per byte on {contexts} held-out contexts of 1 to {longest} times {length} "
        "bytes, the same text for every row\n"
        f"  end       the last {length} bytes of each context: {scored:,} bytes, the same at every "
        "length. From 2x on their positions are\n"
        f"            {length} and more, which training never had, and each has at least {length} "
        "bytes before it.\n"
        f"  {longest}x - 1x  mean change of a context's loss at the end ± the standard error of "
        "that mean over the contexts\n"
        f"  all       all bytes of each context: {2 * scored:,} bytes at 2x, {longest * scored:,} "
        f"at {longest}x; at 1x the end is all\n"
        f"The standard error of an entry, over the contexts, is at most {at_end:.3f} at the end "
        f"and {everywhere:.3f} for all bytes."
    )


def largest_error(results: Results, field: str) -> float:
    return max(
        standard_error(of_contexts)
        for rows in results.rows.values()
        for losses in rows.values()
        for of_contexts in getattr(losses, field).values()
    )


def loss_table(results: Results) -> str:
    multiples = results.settings.multiples
    header = ["", *(f"{m}x" for m in multiples), f"{multiples[-1]}x - 1x"]
    header[1] = f"end {header[1]}"
    header += [f"{m}x" for m in multiples[1:]]
    header[len(multiples) + 2] = "all " + header[len(multiples) + 2]
    rows = []
    for title, group in results.groups().items():
        rows.append([f"{title}:"])
        rows += [[f"  {label}", *_cells(losses, multiples)] for label, losses in group.items()]
    return table(header, rows)


def _cells(losses: Losses, multiples: tuple) -> list[str]:
    change, error = losses.change(multiples[-1])
    at_end = [f"{losses.mean(m):.3f}" for m in multiples]
    everywhere = [f"{losses.everywhere[m].mean().item():.3f}" for m in multiples[1:]]
    return [*at_end, f"{change:+.3f} ± {error:.3f}", *everywhere]


def notes(results: Results) -> str:
    return (
        "At 1x the first bytes have little before them: a loss may fall from 1x to 2x by context "
        "alone.\n"
        "Position interpolation, NTK and YaRN have the factor context length / training length and "
        "no fine-tuning. With\n"
        "factor 1 dynamic NTK would be NTK, since a context is scored in one pass.\n"
        f"Baselines on all held-out text: {results.unigram:.3f} for byte frequencies (unigram), "
        f"{results.bigram:.3f} for byte pairs (bigram).\n"
        f"One seed ({results.settings.seed}), one text, one size of model, one training: the "
        "standard errors cover the choice of\ncontexts and nothing else."
    )


def as_json(results: Results) -> dict:
    """Plain numbers; tensors as lists."""
    fields = {field.name: getattr(results, field.name) for field in dataclasses.fields(results)}
    settings = {k: str(v) if k == "output" else v for k, v in vars(results.settings).items()}
    rows = {
        name: {label: _losses_as_json(losses) for label, losses in rows.items()}
        for name, rows in results.rows.items()
    }
    return fields | {"settings": settings, "rows": rows, "versions": versions()}


def _losses_as_json(losses: Losses) -> dict:
    change, error = losses.change(max(losses.at_end))
    return {
        "end": _means(losses.at_end),
        "all": _means(losses.everywhere),
        "change": change,
        "change_standard_error": error,
        "by_position": losses.by_position.tolist(),
    }


def _means(by_multiple: dict[int, torch.Tensor]) -> dict:
    return {
        str(multiple): {"mean": values.mean().item(), "standard_error": standard_error(values)}
        for multiple, values in by_multiple.items()
    }
