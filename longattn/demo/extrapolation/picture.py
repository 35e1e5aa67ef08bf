# SPDX-License-Identifier: BSD-3-Clause
"""The comparison as one PNG: loss by context length and by position, both parts of the table."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure  # without pyplot: no display, no global state

from longattn.demo.evaluation import Losses
from longattn.demo.extrapolation.results import Results

POSITIONS_A_POINT = 32  # of the loss by position; single positions are noisy


def save(results: Results, path: Path) -> None:
    figure = Figure(figsize=(17, 11), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True)
    for (by_length, by_position), (title, group) in zip(panels, results.groups().items()):
        _draw_lengths(by_length, title, group, results)
        _draw_positions(by_position, title, group, results)
    figure.savefig(path, dpi=100)


def _draw_lengths(axes, title: str, group: dict[str, Losses], results: Results) -> None:
    settings = results.settings
    lengths = [multiple * settings.length for multiple in settings.multiples]
    for (label, losses), look in zip(group.items(), _looks(len(group))):
        axes.plot(lengths, [losses.mean(m) for m in settings.multiples], marker=".", **look)
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.set(
        title=f"{title}: last {settings.length} bytes of the context",
        xlabel="context length in bytes",
        ylabel="nats per byte",
    )


def _draw_positions(axes, title: str, group: dict[str, Losses], results: Results) -> None:
    settings = results.settings
    size = min(POSITIONS_A_POINT, settings.length)
    for (label, losses), look in zip(group.items(), _looks(len(group))):
        points = losses.by_position.unfold(0, size, size).mean(dim=1)
        centres = [size * (i + 0.5) for i in range(len(points))]
        axes.plot(centres, points.tolist(), label=label, linewidth=1, **look)
    axes.axvline(settings.length, linestyle=":", color="grey", label="training length")
    axes.set(
        title=f"contexts of {settings.longest_context} bytes (means over {size} positions)",
        xlabel="position in the context",
    )
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def _looks(count: int) -> list[dict]:
    """A colour for each line, and dashes from the eleventh on."""
    colors = matplotlib.colormaps["tab10"].colors
    return [
        {"color": colors[i % len(colors)], "linestyle": "-" if i < len(colors) else "--"}
        for i in range(count)
    ]
