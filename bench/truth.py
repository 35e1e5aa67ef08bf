# SPDX-License-Identifier: BSD-3-Clause
"""Is it right? Outputs and gradients of a contender beside dense ones in float64.

Truth is dense, so long cases have it for some rows: the gradient of the output is zero elsewhere,
and then dq, dk and dv are exact as a whole."""

from __future__ import annotations

from typing import NamedTuple

import torch

from bench.prepared import Prepared


class Truth(NamedTuple):
    blocks: list  # rows [start, stop) of the outputs
    gradients: list  # of the outputs, zero outside the blocks
    outputs: dict  # name -> those rows, float64
    input_gradients: dict  # "d" + name -> float64


# Inputs are of size 1: a truth with this rms is what float64 leaves of a difference, as dq where a
# query sees one key.
NOTHING = 1e-12


class Error(NamedTuple):
    """Of one tensor."""

    largest: float
    rms: float
    relative: float  # |x - truth| / |truth|, as vectors; rms where the truth is nothing


def truth_of(case, inputs: list, seed: int, blocks=None) -> Truth:
    blocks = case.blocks() if blocks is None else blocks
    gradients = case.gradients(seed, blocks)
    leaves = [x.detach().double().requires_grad_() for x in inputs]
    found = {name: [] for name in case.output_names}
    sums = [torch.zeros_like(leaf) for leaf in leaves]
    for start, stop in blocks:
        outs = case.truth(leaves, start, stop)
        rows = [gradient[:, start:stop].double() for gradient in gradients]
        parts = torch.autograd.grad(outs, leaves, rows, allow_unused=True)
        for total, part in zip(sums, parts):
            if part is not None:
                total += part
        for name, out in zip(case.output_names, outs):
            found[name].append(out.detach())
    return Truth(
        blocks,
        gradients,
        {name: torch.cat(rows, 1) for name, rows in found.items()},
        {f"d{name}": total for name, total in zip(case.input_names, sums)},
    )


def output_errors(prepared: Prepared, truth: Truth) -> dict:
    made = [
        torch.cat([out[:, start:stop] for start, stop in truth.blocks], 1)
        for out in prepared.outputs()
    ]
    return _errors(made, truth.outputs)


def gradient_errors(prepared: Prepared, truth: Truth) -> dict:
    return _errors(prepared.input_gradients(truth.gradients), truth.input_gradients)


def _errors(made: list, exact: dict) -> dict:
    if [tuple(x.shape) for x in made] != [tuple(x.shape) for x in exact.values()]:
        shapes = [tuple(x.shape) for x in made]
        raise ValueError(f"its results have shapes {shapes}")
    return {name: _error(x, y) for x, (name, y) in zip(made, exact.items())}


def _error(made, exact) -> Error:
    difference = made.double() - exact
    root = max(1, exact.numel()) ** 0.5
    norm, size = difference.norm().item(), exact.norm().item()
    rms = norm / root
    relative = rms if size <= NOTHING * root else norm / size
    return Error(difference.abs().max().item(), rms, relative)


def wrong(errors: dict, tolerance: float):
    """A sentence if a result is not the truth, else None."""
    for name, error in errors.items():
        if not error.relative <= tolerance:  # NaN is wrong too
            return (
                f"wrong: {name} differs from the truth by {error.relative:.1e} of its norm (rms "
                f"{error.rms:.1e}), {tolerance:.0e} is accepted"
            )
    return None
