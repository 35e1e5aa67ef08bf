# SPDX-License-Identifier: BSD-3-Clause
"""Is a contender on a GPU right? Its results and gradients beside dense ones in float64, of the
rows that bench.truth samples: the comparison that the cases of a CPU go through."""

from __future__ import annotations

import dataclasses
import functools
from typing import Callable

import torch

from bench import truth
from bench.cases import Case
from bench.prepared import as_tuple
from longattn import reference

# Largest |result - truth| / |truth|, as vectors: the cases' own, of bfloat16.
TOLERANCE = Case(dtype="bfloat16").tolerance()
# Gradients of what is learned are sums over all pairs, of which next to nothing is left.
LEARNED = 4


@functools.lru_cache(maxsize=None)
def attention(mask) -> Callable:
    """The truth of calls under a mask; equal masks have the same."""
    return rows_of(lambda *qkv, **start: reference.attention(*qkv, mask, **start))


def rows_of(function) -> Callable:
    """The truth of a function of longattn.reference that takes q_start."""

    def truth_of_rows(inputs, start, stop):
        q, *rest = inputs
        return as_tuple(function(q[:, start:stop], *rest, q_start=start))

    return truth_of_rows


def documents(ends, mask) -> Callable:
    """The truth of packed documents with these borders, the first of them 0."""

    def truth_of_rows(inputs, start, stop):
        q, k, v = inputs
        rows = []
        for first, last in zip(ends, ends[1:]):
            low, high = max(start, first), min(stop, last)
            if low < high:
                own = (q[:, low:high], k[:, first:last], v[:, first:last])
                rows.append(reference.attention(*own, mask, q_start=low - first))
        return (torch.cat(rows, 1),)

    return truth_of_rows


@dataclasses.dataclass(frozen=True)
class Asked(Case):
    """What bench.truth asks of a case, for tensors that exist already."""

    rows: Callable = None  # (inputs, start, stop) -> rows of the outputs
    shapes: tuple = ()  # of the outputs
    input_names: tuple = ()
    output_names: tuple = ()

    def truth(self, inputs, start, stop):
        return self.rows(inputs, start, stop)

    def gradients(self, seed=0, blocks=None):
        """Random in these blocks, made on the host: few numbers, the same everywhere."""
        generator = torch.Generator().manual_seed(seed + 1)
        made = []
        for shape in self.shapes:
            gradient = torch.zeros(shape, dtype=self.torch_dtype, device=self.device)
            for start, stop in blocks:
                numbers = torch.randn(gradient[:, start:stop].shape, generator=generator)
                gradient[:, start:stop] = numbers.to(self.torch_dtype).to(self.device)
            made.append(gradient)
        return made


def errors(contender, prepared, inputs: list, known: dict) -> dict:
    """name of a tensor -> truth.Error, the largest where a layout makes several calls.

    known: keeps truths, which contenders of a case share."""
    found = {}
    for number, one in enumerate(prepared.compared(inputs)):
        key = (contender.truth, len(prepared.extra), len(prepared.calls), number)
        if key not in known:
            known[key] = truth.truth_of(_asked(contender, one, len(prepared.extra)), one.inputs, 0)
        made = truth.output_errors(one, known[key]) | truth.gradient_errors(one, known[key])
        for name, error in made.items():
            if name not in found or not error.relative <= found[name].relative:
                found[name] = error
    return found


def _asked(contender, one, extra: int) -> Asked:
    first = one.inputs[0]
    count = len(one.inputs) - extra
    outputs = [tuple(x.shape) for x in one.outputs()]
    return Asked(
        length=first.shape[1],
        dtype=str(first.dtype).removeprefix("torch."),
        device=str(first.device),
        rows=contender.truth,
        shapes=tuple(outputs),
        input_names=(*"qkv"[:count], *(f"learned_{n}" for n in range(extra))),
        output_names=("out",) if len(outputs) == 1 else tuple(f"{x}_out" for x in "qk"),
    )


def wrong(found: dict, tolerance: float):
    """A sentence, or None."""
    learned = {name: error for name, error in found.items() if name.startswith("dlearned")}
    plain = {name: error for name, error in found.items() if name not in learned}
    return truth.wrong(plain, tolerance) or truth.wrong(learned, LEARNED * tolerance)
