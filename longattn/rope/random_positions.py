# SPDX-License-Identifier: BSD-3-Clause
"""Random positions for training, so that a model meets those of longer sequences.

Draw once a forward pass and use the same positions in all layers. All results rise along the last
dimension and have shape [batch_size, length], or [length] with batch_size=None, on the generator's
device. The generator is never torch's default one: the draw is reproducible and leaves the rest of
the training as it was.

`longattn.apply_rotary` takes fractional positions (float64) as they are; for code that knows
integers only there are `to_grid` and `longattn.rope.Grid`.
"""

from __future__ import annotations

from typing import Optional

import torch

from longattn.rope import fields


def giraffe(
    length: int,
    *,
    generator: torch.Generator,
    batch_size: Optional[int] = None,
    minimum_step: float = 0.0,
) -> torch.Tensor:
    """Giraffe's randomised positions (2308.10882), float64.

    Sums of steps drawn evenly from [minimum_step, 2), shrunk to end at length where they end
    beyond; never stretched. The paper has a positive lower bound, the official code 0:
    minimum_step selects.
    """
    shape = _shape(length, batch_size)
    low = fields.number("minimum_step", minimum_step, at_least=0)
    if low >= 2:
        raise ValueError(f"minimum_step must be at least 0 and less than 2, got {minimum_step}")
    ends = torch.cumsum(low + (2 - low) * _uniform(shape, generator), dim=-1)
    return ends * (length / ends[..., -1:].clamp(min=length))


def subset(
    length: int, longest: int, *, generator: torch.Generator, batch_size: Optional[int] = None
) -> torch.Tensor:
    """Randomised positional encodings (2305.16843; kexue.fm/archives/9444), int64.

    length of the positions 0 … longest - 1, without repetition, in order; every such subset is
    equally likely. For the test see `spread`. Takes time and memory for longest numbers a row.
    """
    shape = _shape(length, batch_size)
    _check_longest(length, longest)
    _check(generator)
    rows = [
        torch.randperm(longest, generator=generator, device=generator.device)[:length]
        for _ in range(batch_size or 1)
    ]
    return torch.stack(rows).sort(dim=-1).values.reshape(shape)


def spread(length: int, longest: int) -> torch.Tensor:
    """What a model trained with `subset` is tested with: int64 [length], on the CPU.

    length positions spread evenly over 0 … longest - 1, rounded. The paper draws at random here
    too; the post found even positions better.
    """
    _shape(length, None)
    _check_longest(length, longest)
    even = torch.arange(length, dtype=torch.float64, device="cpu") * (longest - 1)
    return (even / max(length - 1, 1)).round().long()


def equal_mean(
    length: int,
    *,
    generator: torch.Generator,
    batch_size: Optional[int] = None,
    longest: Optional[int] = None,
    alpha: float = 1.0,
) -> torch.Tensor:
    """Random positions of equal mean (kexue.fm/archives/9444; no paper), float64.

    length points spread evenly over [0, n], ends included, where n is random with mean length; the
    test has the plain positions 0, 1, 2, ….

    longest: None draws n from the exponential distribution, which the post found good for tests at
      8 times the length; a length draws it from longest * Beta(alpha, beta) with beta such that the
      mean is length: a small alpha brings more long rows.
    """
    shape = _shape(length, batch_size)
    spans = shape[:-1] + (1,)
    if longest is None:
        n = -length * torch.log1p(-_uniform(spans, generator))
    else:
        _check_longest(length, longest)
        alpha = fields.number("alpha", alpha, above=0)
        _check(generator)
        n = longest * _beta(spans, alpha, alpha * (longest / length - 1), generator)
    grid = torch.linspace(0, 1, length, dtype=torch.float64, device=generator.device)
    return n * grid


def to_grid(positions: torch.Tensor, steps: int) -> torch.Tensor:
    """Fractional positions in whole steps of 1 / steps, int64, for a rotation with `Grid(steps)`.

    steps=2**20 is off by at most 5e-7 of a position; steps * position must stay below 2**61.
    """
    steps = fields.integer("steps", steps, at_least=1)
    if not isinstance(positions, torch.Tensor) or not positions.dtype.is_floating_point:
        raise TypeError(f"positions must be a tensor of floating point numbers, got {positions!r}")
    return (positions.double() * steps).round().long()


def _shape(length: int, batch_size: Optional[int]) -> tuple:
    length = fields.integer("length", length, at_least=1)
    if batch_size is None:
        return (length,)
    return (fields.integer("batch_size", batch_size, at_least=1), length)


def _check(generator) -> None:
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {generator!r}")


def _check_longest(length: int, longest: int) -> None:
    fields.integer("longest", longest, at_least=1)
    if longest < length:
        raise ValueError(f"longest must be at least length = {length}, got {longest}")


def _uniform(shape: tuple, generator) -> torch.Tensor:
    _check(generator)
    return torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)


def _beta(shape: tuple, alpha: float, beta: float, generator) -> torch.Tensor:
    """Beta(alpha, beta) as a quotient of gammas; torch.distributions takes no generator."""
    if beta == 0:
        return torch.ones(shape, dtype=torch.float64, device=generator.device)
    full = torch.full(shape, alpha, dtype=torch.float64, device=generator.device)
    first = torch._standard_gamma(full, generator=generator)
    second = torch._standard_gamma(torch.full_like(full, beta), generator=generator)
    return first / (first + second)
