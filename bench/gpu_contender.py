# SPDX-License-Identifier: BSD-3-Clause
"""What a benchmark on a GPU is made of: a case, and contenders that do its work."""

from __future__ import annotations

import dataclasses
from typing import Callable, NamedTuple, Optional

import torch

import longattn
from bench import gpu_truth
from bench.contenders.base import OURS


class Layout(NamedTuple):
    """Between the tensors of a case and those that a contender takes."""

    split: Callable  # of a tensor -> the contender's own, one a call
    join: Optional[Callable] = None  # the way back, of all pieces; None: every call is compared
    together: bool = False  # one call takes and gives lists of all pieces


ROWS_FIRST = Layout(lambda x: [x.clone()], lambda x: x[0])  # longattn's own
HEADS_FIRST = Layout(lambda x: [x.transpose(1, 2).contiguous()], lambda x: x[0].transpose(1, 2))
PACKED = Layout(lambda x: [x[0].clone()], lambda x: x[0][None])


@dataclasses.dataclass(frozen=True)
class Contender:
    name: str
    prepare: Callable  # of the device -> (function of the inputs and of `extra`, list of `extra`)
    truth: Callable  # (inputs and `extra` in float64, start, stop) -> rows of the results
    layout: Layout = ROWS_FIRST
    role: str = "rival"  # "ours": a call of longattn; "baseline": a yardstick
    visible_pairs: Optional[int] = None  # None: those of the case


def plain(function) -> Callable:
    """prepare() of a function that needs no preparation."""
    return lambda device: (function, [])


def ours(function, truth, name=OURS, **fields) -> Contender:
    return Contender(name, plain(function), truth, role="ours", **fields)


def attend(mask, name=OURS, **fields) -> Contender:
    truth = gpu_truth.attention(mask)
    return ours(lambda *qkv: longattn.attention(*qkv, mask), truth, name, **fields)


@dataclasses.dataclass(frozen=True)
class Case:
    """Inputs are q, k, v [1, length, heads, head_dim] in bfloat16; results are like q."""

    name: str
    length: int
    heads: int
    head_dim: int
    contenders: tuple
    visible_pairs: int = 0  # of all heads; 0 where bytes are counted instead
    kv_heads: Optional[int] = None  # None: heads
    moved_bytes: int = 0  # of inputs and results together, forward and backward alike
    inputs: str = "qkv"  # those that there are
    results: str = "q"  # what results are like

    def tensors(self, device) -> tuple:
        """-> (inputs, gradients of the results)."""
        generator = torch.Generator(device).manual_seed(0)

        def values(letter):
            heads = self.heads if letter == "q" else self.kv_heads or self.heads
            shape = (1, self.length, heads, self.head_dim)
            return torch.randn(shape, generator=generator, device=device).bfloat16()

        return [values(letter) for letter in self.inputs], [values(x) for x in self.results]


class Compared(NamedTuple):
    """Tensors and functions that bench.truth asks for; the layout is that of `inputs`."""

    inputs: list
    outputs: Callable
    input_gradients: Callable  # of gradients of the outputs


class Prepared:
    """A contender with tensors of its own."""

    def __init__(self, contender: Contender, inputs: list, gradients: list):
        self.layout = contender.layout
        self.function, self.extra = contender.prepare(inputs[0].device)
        pieces = [[x.requires_grad_() for x in self.layout.split(value)] for value in inputs]
        # Most contenders make one call, of one piece of each tensor.
        self.calls = [tuple(pieces)] if self.layout.together else list(zip(*pieces))
        in_order = pieces if self.layout.together else self.calls
        self.leaves = [leaf for several in in_order for leaf in several] + self.extra
        self.pieces = len(pieces[0]) if self.layout.together else 1  # of a tensor, in a call
        self.gradients = self._own(gradients)
        self.results = self.forward()

    def _own(self, gradients: list) -> list:
        return [gradient for call in zip(*map(self.layout.split, gradients)) for gradient in call]

    def forward(self) -> list:
        results = []
        for call in self.calls:
            result = self.function(*call, *self.extra)
            results += [result] if isinstance(result, torch.Tensor) else result
        return results

    def without_gradients(self) -> list:
        with torch.no_grad():
            return self.forward()

    def backward(self) -> tuple:
        return torch.autograd.grad(self.results, self.leaves, self.gradients, retain_graph=True)

    def both(self) -> tuple:
        return torch.autograd.grad(self.forward(), self.leaves, self.gradients)

    def compared(self, inputs: list) -> list:
        """What there is to compare: the whole, or each call where nothing joins them."""
        if self.layout.join is None:
            return [self._of_call(number) for number in range(len(self.calls))]
        return [Compared([*inputs, *self.extra], self._outputs, self._input_gradients)]

    def _outputs(self) -> list:
        return self._joined([result.detach() for result in self.results])

    def _input_gradients(self, gradients: list) -> list:
        found = torch.autograd.grad(
            self.results, self.leaves, self._own(gradients), retain_graph=True
        )
        count = len(self.leaves) - len(self.extra)
        return [*self._joined(found[:count]), *found[count:]]

    def _joined(self, found) -> list:
        count = self.pieces
        groups = [found[i : i + count] for i in range(0, len(found), count)]
        return [self.layout.join(pieces) for pieces in groups]

    def _of_call(self, number: int) -> Compared:
        call, result = self.calls[number], self.results[number]

        def input_gradients(gradients):
            return torch.autograd.grad(result, call, gradients, retain_graph=True)

        return Compared(list(call), lambda: [result.detach()], input_gradients)
