# SPDX-License-Identifier: BSD-3-Clause
"""A contender with tensors of its own: what is called when the clock runs."""

from __future__ import annotations

from typing import Callable

import torch

from bench.contenders.base import Contender


def as_tuple(result) -> tuple:
    return result if isinstance(result, tuple) else (result,)


class Prepared:
    def __init__(self, contender: Contender, inputs: list, gradients: list):
        """Values are [batch, length, heads, dim], or whatever an input beside q, k and v is."""
        self.contender = contender
        self.function = contender.prepare()
        self.values = [self._own(value) for value in inputs]
        self.leaves = [value.detach().requires_grad_() for value in self.values]  # the same memory
        self.gradients = [self._own(value) for value in gradients]

    def outputs(self) -> list:
        """Without gradients, [batch, length, heads, dim]."""
        return [self._rows_first(x) for x in self.inference()]

    def input_gradients(self, gradients) -> list:
        """Zero where the output does not depend on an input."""
        given = [self._own(value) for value in gradients]
        found = self._backward(self._forward(), given)
        return [
            self._rows_first(torch.zeros_like(value) if gradient is None else gradient)
            for gradient, value in zip(found, self.values)
        ]

    def inference(self) -> tuple:
        with torch.no_grad():
            return as_tuple(self.function(*self.values))

    def training_step(self) -> list:
        return self._backward(self._forward(), self.gradients)

    def forward_sampler(self, clock: Callable) -> Callable:
        return lambda: {"forward": clock(self.inference)[1]}

    def training_sampler(self, clock: Callable) -> Callable:
        """Times the backward pass alone and both, in one go."""

        def sample():
            outs, forward = clock(self._forward)
            _, backward = clock(lambda: self._backward(outs, self.gradients))
            return {"backward": backward, "both": forward + backward}

        return sample

    def _forward(self) -> tuple:
        return as_tuple(self.function(*self.leaves))

    def _backward(self, outs, gradients) -> list:
        return torch.autograd.grad(outs, self.leaves, gradients, allow_unused=True)

    def _own(self, value):
        swap = self.contender.heads_first and value.dim() == 4
        return value.transpose(1, 2).contiguous() if swap else value.clone()

    def _rows_first(self, value):
        return value.transpose(1, 2) if self.contender.heads_first and value.dim() == 4 else value
