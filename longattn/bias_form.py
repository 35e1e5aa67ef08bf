# SPDX-License-Identifier: BSD-3-Clause
"""What every bias is made of: the form that the ops take, and checked numbers, one a head."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from numbers import Integral, Real
from typing import NamedTuple, Union

import torch

from longattn.readable import can_be_read

PerHead = Union[None, list, tuple, torch.Tensor]  # one number a head


class Form(NamedTuple):
    """What the op takes."""

    values: torch.Tensor  # linear: [heads, 1]; table: [heads, size]
    kind: int
    origin: int = 0  # table: the entry of distance 0
    symmetric: bool = False  # table: by |distance|


class Call(NamedTuple):
    """What a form may depend on."""

    q_heads: int
    nearest: int  # visible |distance|s of the call lie in [nearest, longest]
    longest: int
    dtype: torch.dtype  # of the values: float32, or float64 for float64 inputs
    device: torch.device


@dataclass(frozen=True, eq=False)
class Bias:
    """Base of all biases; immutable, the tensors that one holds apart."""

    def form(self, call: Call) -> Form:
        raise NotImplementedError(f"{type(self).__name__} does not define form(call)")


def distances(call: Call, end: int) -> torch.Tensor:
    """nearest .. end, at least one; exact in float64, then rounded to the call's dtype."""
    stop = max(end, call.nearest) + 1
    return torch.arange(call.nearest, stop, device=call.device).to(call.dtype)


def per_head(name: str, values, call: Call) -> torch.Tensor:
    given = values
    if not isinstance(values, torch.Tensor):
        given = torch.tensor([float(number) for number in values], dtype=call.dtype, device="cpu")
    if tuple(given.shape) != (call.q_heads,) or not given.is_floating_point():
        raise ValueError(
            f"{name} must hold one floating point number for each of the {call.q_heads} heads of "
            f"q, got shape {tuple(given.shape)} and {given.dtype}"
        )
    if given is not values and call.device.type != "cpu":
        # Filled one by one: a copy from the host would wait for a GPU.
        place = dict(dtype=call.dtype, device=call.device)
        return torch.cat([torch.full((1,), float(number), **place) for number in values])
    check_device(name, given, call)
    return given.to(call.dtype)


def check_device(name: str, tensor, call: Call) -> None:
    if tensor.device != call.device:
        raise ValueError(f"{name} must be on q's device {call.device}, got {tensor.device}")


def check_numbers(name: str, values) -> None:
    """[q_heads], but for the count of heads, which a call knows."""
    accepted = f"{name} must be a tensor [q_heads] or a list of numbers, one a head"
    if isinstance(values, torch.Tensor):
        if values.dim() != 1 or not values.is_floating_point():
            raise ValueError(
                f"{accepted}, floating point; got shape {tuple(values.shape)} and {values.dtype}"
            )
        return
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"{accepted}, got {values!r}")
    for value in values:
        if not isinstance(value, Real) or isinstance(value, bool):
            raise TypeError(f"{accepted}, got {value!r} among them")
        if not math.isfinite(value):
            raise ValueError(f"{accepted}, all finite, got {value!r} among them")


def check_at_least_0(name: str, values: torch.Tensor) -> None:
    if can_be_read(values) and bool((values < 0).any()):
        raise ValueError(
            f"{name} must be at least 0, got {values.min().item():g}: clamp it before the call, as "
            "in r2.data.clamp_(min=0.01)"
        )


def set_count(bias: Bias, name: str) -> None:
    """Of NumPy's integers Python's."""
    object.__setattr__(bias, name, plain_count(name, getattr(bias, name)))


def plain_count(name: str, value):
    if value is None:
        return None
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < 0:
        raise ValueError(f"{name} must be at least 0, got {value}")
    return operator.index(value)
