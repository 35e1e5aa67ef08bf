# SPDX-License-Identifier: BSD-3-Clause
"""Plots and pictures of masks, as PNG."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure  # without pyplot: no display, no global state

import longattn
from bench import held
from longattn import reference

STYLES = {"ours": "-", "rival": "--", "baseline": ":"}


def against_length(family: tuple, series: list, path) -> None:
    """Time, memory and rate of everybody."""
    title, dtype, head_dim, heads, kv_heads, part = family
    figure = Figure(figsize=(15, 4.5), layout="tight")
    axes = figure.subplots(1, 3)
    labels = ("milliseconds", "peak MiB beyond the inputs", "GFLOP/s of visible pairs")
    for axis, field, label in zip(axes, ("ms", "peak_mib", "rate"), labels):
        for number, one in enumerate(series):
            values = getattr(one, field)
            points = [(n, y) for n, y in zip(one.lengths, values) if y]
            if points:
                style = STYLES[one.role]
                axis.plot(*zip(*points), style, marker=".", color=f"C{number}", label=one.contender)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set(xlabel="length", ylabel=label)
        axis.grid(True, which="both", linewidth=0.3)
    axes[0].legend(fontsize="small")
    figure.suptitle(f"{title}, {part}, {dtype}, head_dim {head_dim}, {heads}/{kv_heads} heads")
    figure.savefig(path, dpi=100)


def ratios(rows: list, path) -> None:
    """A bar for each rival, its whiskers the spread."""
    shown = [row for row in rows if row["role"] == "rival" and "ratio" in row]
    figure = Figure(figsize=(11, 1 + 0.22 * len(shown)), layout="tight")
    axis = figure.subplots()
    names = [
        f"{row['title']}, {row['part']}, {row['dtype']} d{row['head_dim']}, N {row['length']}"
        f" | {row['contender']}{held.text_of(row)}"
        for row in shown
    ]
    medians = [row["ratio"][0] for row in shown]
    whiskers = [
        [row["ratio"][0] - row["ratio"][1] for row in shown],
        [row["ratio"][2] - row["ratio"][0] for row in shown],
    ]
    colors = ["C0" if value >= 1 else "C3" for value in medians]
    axis.barh(range(len(shown)), medians, xerr=whiskers, color=colors, error_kw={"linewidth": 0.8})
    axis.set_yticks(range(len(shown)), names, fontsize=6)
    axis.invert_yaxis()
    axis.axvline(1.0, color="black", linewidth=0.8)
    axis.set_xlabel("times longattn's time: to the right of 1 longattn is faster")
    figure.savefig(path, dpi=100)


def scaling(rows: list, path) -> None:
    figure = Figure(figsize=(11, 4.5), layout="tight")
    for axis, field, label in zip(
        figure.subplots(1, 2), ("ms", "peak_mib"), ("milliseconds", "peak MiB beyond the inputs")
    ):
        for row in rows:
            if field in row:
                axis.plot(
                    row["lengths"], row[field], marker=".",
                    label=f"{row['title']}, {row['part']}, {row['dtype']}",
                )  # fmt: skip
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.set(xlabel="length", ylabel=label)
        axis.grid(True, linewidth=0.3)
        axis.legend(fontsize="xx-small")
    figure.savefig(path, dpi=100)


def losses(rows: list, path) -> None:
    """Of whole models; what computes the same lies on one line."""
    figure = Figure(figsize=(11, 4.5), layout="tight")
    dtypes = list(dict.fromkeys(row["dtype"] for row in rows))
    for axis, dtype in zip(figure.subplots(1, len(dtypes), squeeze=False)[0], dtypes):
        for width, row in zip((4, 2, 1), (row for row in rows if row["dtype"] == dtype)):
            axis.plot(row["losses"], linewidth=width, label=row["contender"])
        axis.set(xlabel="step", ylabel="loss, nats per byte", title=dtype)
        axis.grid(True, linewidth=0.3)
        axis.legend(fontsize="small")
    figure.savefig(path, dpi=100)


MASKS = {
    "Full()": longattn.Full(),
    "Causal()": longattn.Causal(),
    "Window(16)": longattn.Window(16),
    "Window(16, sink_tokens=4)": longattn.Window(16, sink_tokens=4),
    "Band(16, 8)": longattn.Band(16, 8),
    "Groups(16)": longattn.Groups(16),
    "Groups(16, shift=8)": longattn.Groups(16, shift=8),
    "Prefix(20)": longattn.Prefix(20),
}
PICTURED = 64  # rows


def masks(path) -> None:
    """Each mask of 64 queries and keys; LongNet's branches, by how often a key counts."""
    position = torch.arange(PICTURED)
    shown = {name: reference.visible(mask, position, position) for name, mask in MASKS.items()}
    shown["dilated [16, 32, 64] / [1, 2, 4], head 0"] = sum(
        reference.dense._dilated(w, r, 0, True, position, position).int()
        for w, r in ((16, 1), (32, 2), (64, 4))
    )
    figure = Figure(figsize=(12, 8), layout="tight")
    for axis, (name, pairs) in zip(figure.subplots(3, 3).flat, shown.items()):
        axis.imshow(pairs.float().numpy(), cmap="Blues", vmin=0, interpolation="nearest")
        axis.set(title=name, xlabel="key", ylabel="query")
    figure.savefig(path, dpi=90)
