# SPDX-License-Identifier: BSD-3-Clause
"""Checks of the numbers that describe a rotary embedding, each with a sentence of its own."""

from __future__ import annotations

import math
import numbers

import torch

# Far beyond any use; products, quotients and powers of accepted numbers stay finite.
LARGEST = 10**18
SMALLEST = 1e-9


def number(
    name: str, value, *, at_least: float = -LARGEST, above: float = -math.inf, at_most=LARGEST
) -> float:
    """value as a float, or a sentence that names the field and what it accepts."""
    if above > -math.inf:
        accepted = f"a number greater than {above:g}"
    elif at_least > -LARGEST:
        accepted = f"a number of at least {at_least:g}"
    else:
        accepted = "a number"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be {accepted}, got {value!r}")
    exact = value if isinstance(value, int) else float(value)  # NumPy would compare in its own type
    if not (at_least <= exact <= at_most and exact > above):  # NaN fails too
        raise ValueError(f"{name} must be {accepted} and at most {at_most:g}, got {value!r}")
    return float(value)


def optional_number(name: str, value, **limits):
    return None if value is None else number(name, value, **limits)


def integer(name: str, value, *, at_least: int, at_most: int = LARGEST) -> int:
    """value as an int; 4096.0, as some config files write it, is 4096."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer of at least {at_least}, got {value!r}")
    if not at_least <= value <= at_most:
        raise ValueError(
            f"{name} must be an integer of at least {at_least} and at most {at_most:g}, got {value}"
        )
    return int(value)


def optional_integer(name: str, value, *, at_least: int):
    return None if value is None else integer(name, value, at_least=at_least)


def flag(name: str, value) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


def choice(name: str, value, accepted: tuple) -> str:
    if value not in accepted:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, accepted))}, got {value!r}")
    return value


def length(name: str, value):
    """A sequence length as an int, under torch.compile possibly a symbolic one."""
    if isinstance(value, bool) or not isinstance(value, (numbers.Integral, torch.SymInt)):
        raise TypeError(f"{name} must be an integer of at least 0, got {value!r}")
    if value < 0 or value > LARGEST:
        raise ValueError(
            f"{name} must be an integer of at least 0 and at most {LARGEST:g}, got {value}"
        )
    return plain_integer(value)


def plain_integer(value):
    """Of an accepted integer: NumPy's as Python's, symbolic ones as they are."""
    return value if isinstance(value, (int, torch.SymInt)) else int(value)
