# SPDX-License-Identifier: BSD-3-Clause
"""Arguments whose lists of tensors stand there one by one, as autograd.Function wants them."""

from __future__ import annotations

import torch


def flatten(arguments) -> tuple:
    """(flat, counts): the tensors of each list in its place, and how many each argument became;
    counts is () where no argument is a list of tensors."""
    if not any(map(_is_list, arguments)):
        return tuple(arguments), ()
    flat, counts = [], []
    for argument in arguments:
        is_list = _is_list(argument)
        flat += argument if is_list else (argument,)
        counts.append(len(argument) if is_list else None)
    return tuple(flat), tuple(counts)


def regroup(flat, counts) -> tuple:
    """The way back. What follows the counted arguments stays as it is."""
    if not counts:
        return tuple(flat)
    arguments, begin = [], 0
    for count in counts:
        arguments.append(flat[begin] if count is None else list(flat[begin : begin + count]))
        begin += 1 if count is None else count
    return (*arguments, *flat[begin:])


def lists_first(counts) -> tuple:
    """The counts of an op's results, which are a list for each list among its arguments first."""
    return tuple(count for count in counts if count is not None)


def _is_list(argument) -> bool:
    """A list of tensors, some of which may be None."""
    return isinstance(argument, list) and any(isinstance(x, torch.Tensor) for x in argument)
