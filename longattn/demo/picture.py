# SPDX-License-Identifier: BSD-3-Clause
"""The demo's numbers as one PNG: training, loss by position, tokens per second."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure  # without pyplot: no display, no global state

from longattn.demo.report import Results

POSITIONS_A_POINT = 32  # of the loss by position; single positions are noisy


def save(results: Results, path: Path) -> None:
    figure = Figure(figsize=(18, 5), layout="tight")
    training, positions, speed = figure.subplots(1, 3)
    _draw_training(training, results)
    _draw_positions(positions, results)
    _draw_speed(speed, results)
    figure.savefig(path, dpi=110)


def _draw_training(axes, results: Results) -> None:
    axes.plot(results.training_losses, linewidth=0.8)
    for name, value in (("unigram", results.unigram), ("bigram", results.bigram)):
        axes.axhline(value, linestyle="--", linewidth=0.8, color="grey")
        axes.annotate(name, (0, value), xytext=(2, 3), textcoords="offset points", color="grey")
    axes.set(title="training", xlabel="step", ylabel="nats per byte of the step's batch")


def _draw_positions(axes, results: Results) -> None:
    size = min(POSITIONS_A_POINT, results.settings.length)
    for name, losses in results.masks.items():
        points = losses.by_position.unfold(0, size, size).mean(dim=1)
        centre = [size * (i + 0.5) for i in range(len(points))]
        axes.plot(centre, points.tolist(), label=name)
    axes.axvline(results.settings.length, linestyle=":", color="grey", label="training length")
    axes.set(
        title=f"held-out loss by position (means over {size})",
        xlabel="position in the context",
        ylabel="nats per byte",
    )
    axes.legend(fontsize="small")


def _draw_speed(axes, results: Results) -> None:
    color = -1
    for label, speed in results.speeds.items():
        ours = label.startswith("longattn")
        color += ours  # a rival shares the colour of the function before it
        lengths, rates = zip(*speed.tokens_a_second.items())
        style = "-" if ours else "--"
        axes.plot(lengths, rates, style, marker=".", color=f"C{color}", label=label)
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    axes.set(
        title="forward + backward of the decoder",
        xlabel="context length",
        ylabel="tokens per second",
    )
    axes.legend(fontsize="x-small")
