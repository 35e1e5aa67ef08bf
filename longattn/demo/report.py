# SPDX-License-Identifier: BSD-3-Clause
"""The demo's numbers as text. Sentences about numbers are made from the numbers."""

from __future__ import annotations

import dataclasses

from longattn.demo.evaluation import Losses
from longattn.demo.long_layer import LayerRow
from longattn.demo.settings import MULTIPLES, SINK_TOKENS, Settings
from longattn.demo.speed import Speed
from longattn.demo.tables import table


@dataclasses.dataclass(frozen=True)
class Results:
    settings: Settings
    training_seconds: float
    training_losses: list[float]
    text: str  # one line about the corpus
    model: str  # one line about the decoder
    repeat: str  # the command that repeats the losses
    unigram: float
    bigram: float
    masks: dict[str, Losses]
    speeds: dict[str, Speed]  # of longattn's and SDPA's functions, by label
    largest_difference: float
    long_layer: list[LayerRow]
    long_layer_reason: str  # why long_layer is empty


def loss_table(results: Results) -> str:
    length = results.settings.length
    header = ["attention", *(f"{m * length} ({m}x)" for m in MULTIPLES), f"{MULTIPLES[-1]}x - 1x"]
    rows = []
    for name, losses in results.masks.items():
        change, error = losses.change(MULTIPLES[-1])
        means = [f"{losses.mean(multiple):.3f}" for multiple in MULTIPLES]
        rows.append([name, *means, f"{change:+.3f} ± {error:.3f}"])
    return table(header, rows)


def speed_table(results: Results) -> str:
    lengths = _speed_lengths(results)
    header = ["attention", *map(str, lengths), f"peak MB at {lengths[-1]}"]
    return table(header, [[label, *_speed_cells(speed)] for label, speed in results.speeds.items()])


def _speed_lengths(results: Results) -> list[int]:
    return list(next(iter(results.speeds.values())).tokens_a_second)


def _speed_cells(speed: Speed) -> list[str]:
    rates = [f"{rate:,.0f}" for rate in speed.tokens_a_second.values()]
    return [*rates, "not counted" if speed.peak_bytes is None else f"{speed.peak_bytes / 1e6:,.0f}"]


def long_layer_table(rows: list[LayerRow]) -> str:
    cells = [
        [
            f"{row.length:,} tokens  {row.name}",
            row.note if row.milliseconds is None else f"{row.milliseconds:,.1f}",
            "" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:,.0f}",
            "" if row.largest_error is None else f"{row.largest_error:.2e}",
        ]
        for row in rows
    ]
    return table(["one layer, forward + backward", "ms", "peak MB", "largest error"], cells)


def head(results: Results) -> str:
    settings, steps = results.settings, len(results.training_losses)
    size = f"{settings.batch} x {settings.length} bytes"
    total = f"{settings.batch * settings.length * steps:,} bytes"
    return (
        f"text    {results.text}\n"
        f"model   {results.model}\n"
        f"train   {steps} steps of {size}: {total} in {results.training_seconds:.1f} s\n"
        f"repeat  {results.repeat}"
    )


def remarks(results: Results) -> str:
    length, longest = results.settings.length, MULTIPLES[-1]
    at_start = [losses.mean(1) for losses in results.masks.values()]
    at_end = {name: losses.mean(longest) for name, losses in results.masks.items()}
    trained = sum(at_start) / len(at_start)
    best = min(at_end, key=at_end.get)
    return (
        f"Baselines on held-out text: {results.unigram:.3f} nats/byte for a model of byte "
        f"frequencies (unigram),\n{results.bigram:.3f} for one of byte pairs (bigram). The decoder "
        f"at {length}: {trained:.3f}, {_below(results.unigram - trained)} the unigram and "
        f"{_below(results.bigram - trained)} the bigram.\n"
        "At 1x the window holds the whole context, so all masks show the same keys; their losses "
        f"differ by {max(at_start) - min(at_start):.1e}.\n"
        f"At {longest}x the lowest loss is that of '{best}', {at_end[best]:.3f}; causal attention "
        f"has {at_end['causal']:.3f}.\n"
        f"The plain lambda mask keeps {SINK_TOKENS} sinks at their true distance, up to "
        f"{longest * length - 1}, while training showed none beyond {length - 1};\nthe last row "
        f"counts them as {length} away (LM-Infinite's ceiling), from two merged partials."
    )


def _below(gap: float) -> str:
    return f"{abs(gap):.3f} {'below' if gap >= 0 else 'above'}"


def text_report(results: Results) -> str:
    length, contexts = results.settings.length, results.settings.contexts
    if results.long_layer:
        long_layer = long_layer_table(results.long_layer)
    else:
        lengths = "one layer at 128k, 512k and 1M tokens on CUDA"
        long_layer = f"Not run: {lengths}: {results.long_layer_reason}"
    parts = [
        head(results),
        f"Loss in nats per byte by context length: the last {length} bytes of {contexts} held-out "
        "contexts, the same bytes at every length.\nThe last column is the mean change of a "
        "context's loss ± the standard error of that mean, over the contexts.",
        loss_table(results),
        remarks(results),
        "Tokens/s by context length: forward + backward of the decoder, float32, "
        f"{_speed_lengths(results)[-1]} tokens a batch, fastest of the rounds.\n"
        "peak MB: the most memory that one forward + backward held beyond what was held before it, "
        "in millions of bytes.",
        speed_table(results),
        "The largest difference of a byte's loss between longattn and SDPA, same mask and decoder: "
        f"{results.largest_difference:.1e} nats.",
        long_layer,
    ]
    return "\n\n".join(parts) + "\n"


def as_json(results: Results) -> dict:
    """Plain numbers; tensors as lists."""
    masks = {
        name: {
            "loss": {str(m * results.settings.length): losses.mean(m) for m in MULTIPLES},
            "loss_by_position": losses.by_position.tolist(),
        }
        for name, losses in results.masks.items()
    }
    fields = {field.name: getattr(results, field.name) for field in dataclasses.fields(results)}
    fields |= {
        "settings": {k: str(v) if k == "output" else v for k, v in vars(results.settings).items()},
        "masks": masks,
        "speeds": {label: dataclasses.asdict(speed) for label, speed in results.speeds.items()},
        "long_layer": [dataclasses.asdict(row) for row in results.long_layer],
    }
    return fields
