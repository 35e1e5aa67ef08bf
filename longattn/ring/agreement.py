# SPDX-License-Identifier: BSD-3-Clause
"""Do all ranks make the same call? Asked at first calls: ranks that do not would wait for each
other until the group's timeout, or exchange numbers that mean different things."""

from __future__ import annotations

import dataclasses
from collections import Counter
from numbers import Integral, Real

import torch

from longattn import transforms
from longattn.ring.communicator import Communicator


SHOWN = (bool, Integral, float, str, bytes, tuple, list, type(None), torch.dtype, torch.device)


class Agreement:
    """One for each plan. Ranks agree about when to ask because they count calls alike: the first
    one of each function is compared, none if `enabled` is False; all of them where that is free,
    since the ranks live in one process."""

    def __init__(self, ranks: Communicator, enabled: bool = True):
        self._ranks, self._enabled, self._asked = ranks, enabled, set()
        self._calls = 0

    def check(self, function: str, calls: list, verify=lambda: None) -> str:
        """calls: for each rank of this process, the arguments that all ranks must have in common,
        by name; tensors that may differ in length pass through `Rows`. -> the call in words that
        are the same on all ranks, and those of no other call of the plan.
        verify: raises what this process finds wrong with its own part, so that the others hear it.

        Raises:
            ValueError: on every rank, with the names of the ranks that differ and their values. A
                rank whose own part is wrong raises what `verify` does.
        """
        self._calls += 1
        is_first = function not in self._asked and self._ranks.world_size > 1
        in_one_process = len(self._ranks.ranks) == self._ranks.world_size
        if self._enabled and (is_first or in_one_process):
            compare(self._ranks, function, calls, verify)
            self._asked.add(function)
        words = ", ".join(f"{name}={describe(value)}" for name, value in calls[0].items())
        return f"call {self._calls} of the plan, {function}({words})"


@dataclasses.dataclass(frozen=True)
class Rows:
    """A tensor each rank has its own number of rows of."""

    tensor: torch.Tensor
    dim: int = 1


def call_with(q, k, v, **shared) -> dict:
    """What ranks must have in common of a call with these tensors."""
    tensors = {"q": q, "k": k, "v": v}
    device = q.device.type if isinstance(q, torch.Tensor) else "cpu"
    return {
        **{name: Rows(tensor) for name, tensor in tensors.items()},
        **shared,
        "autocast": torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device),
        "device": device,
        **going_backward(q, k, v, *shared.values()),
    }


def going_backward(*arguments) -> dict:
    """Whoever does waits for all others."""
    return {"requires_grad": transforms.is_differentiated(*_tensors(arguments))}


def _tensors(value):
    """Those in a call's argument, such as the values of a bias."""
    if isinstance(value, torch.Tensor):
        yield value
    elif dataclasses.is_dataclass(value):
        yield from _tensors([getattr(value, field.name) for field in dataclasses.fields(value)])
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)


def compare(ranks: Communicator, function: str, calls: list, verify=lambda: None) -> None:
    """Agreement.check, asked now."""
    mine = [{"the call": function, **{n: describe(v) for n, v in call.items()}} for call in calls]
    wrong = _what_raises(verify)
    gathered = ranks.gather_objects([(call, wrong and str(wrong)) for call in mine])
    everyones, complaints = zip(*gathered)
    names = ["the call"]
    if len({call["the call"] for call in everyones}) == 1:
        names = list(dict.fromkeys(name for call in everyones for name in call))
    differences = [
        difference
        for name in names
        if (difference := _difference(name, [call.get(name, "left out") for call in everyones]))
    ]
    if wrong is not None and not differences:
        raise wrong
    differences = differences or [
        f"rank {rank} raises: {complaint}" for rank, complaint in enumerate(complaints) if complaint
    ]
    if differences:
        raise ValueError(f"ranks disagree in {function}: {'; '.join(differences)}")


def _what_raises(verify):
    try:
        verify()
    except Exception as error:
        return error
    return None


def describe(value) -> str:
    """What must be the same, in words that are the same wherever the value is."""
    if isinstance(value, Rows) and getattr(value.tensor, "is_nested", False):
        return "a nested tensor"  # whose lengths cannot be asked for
    if isinstance(value, Rows):
        if not isinstance(value.tensor, torch.Tensor) or not (
            -value.tensor.dim() <= value.dim < value.tensor.dim()
        ):
            return describe(value.tensor)
        shape = [str(length) for length in value.tensor.shape]
        shape[value.dim] = "any"
        return f"[{', '.join(shape)}] {value.tensor.dtype}"
    if isinstance(value, torch.Tensor):
        return f"{list(value.shape)} {value.dtype}"
    if dataclasses.is_dataclass(value):
        fields = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
        return f"{type(value).__name__}({', '.join(f'{n}={describe(v)}' for n, v in fields)})"
    if isinstance(value, Real) and not isinstance(value, Integral):
        value = float(value)  # NumPy's numbers have another repr
    if isinstance(value, SHOWN):
        return repr(value)
    return type(value).__name__  # of what is no argument at all, and may be long


def _difference(name: str, values: list):
    """None, or which ranks have what; those that most ranks have come first."""
    counts = Counter(values)
    if len(counts) == 1:
        return None
    groups = [
        f"{value} on {_listed([rank for rank, other in enumerate(values) if other == value])}"
        for value, _ in counts.most_common()
    ]
    return f"{name} is {' but '.join(groups)}"


def _listed(ranks: list) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    return f"ranks {', '.join(map(str, ranks[:-1]))} and {ranks[-1]}"
