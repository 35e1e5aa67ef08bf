# SPDX-License-Identifier: BSD-3-Clause
"""Runs the rotary ops on a native engine: tensors and settings become one pack of integers and one
of numbers, in the order that csrc/api/rotary_call.cpp reads them."""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch

from longattn import allocation, backends, native
from longattn.engine import accumulator_dtype
from longattn.rotary import checks, turns
from longattn.rotary.maps import PositionMap

NO_TENSOR = (0, 0, 0, 0)


class Settings(NamedTuple):
    """What an op is told besides tensors; the names of its schema."""

    maps: list  # 6 numbers a map: scale, offset and floor of queries, and of keys
    q_start: int
    k_start: int
    attention_factor: float
    xpos_centre: float
    interleaved: bool
    q_norm: bool
    k_norm: bool
    q_scale: float
    log_length: float
    at_least_one: bool
    backend: str

    @property
    def map_count(self) -> int:
        return len(self.maps) // 6


class Side(NamedTuple):
    """Queries or keys; `rotated` are results, backward: gradients or None."""

    input: Optional[torch.Tensor]
    rotated: list
    gradient: Optional[torch.Tensor]
    positions: Optional[torch.Tensor]
    start: int
    bias: Optional[torch.Tensor]
    bias_gradient: Optional[torch.Tensor]
    shape: tuple  # [batch, rows, heads, dim] or [rows, heads, dim]
    normalized: bool
    factor: float
    log_length: float
    at_least_one: bool
    maps: list

    def pack(self, integers: list, numbers: list) -> None:
        integers += _tensor(self.input)
        for tensor in self.rotated:
            integers += _tensor(tensor)
        integers += _tensor(self.gradient)
        integers += _positions(self.positions, self.start)
        integers += (_address(self.bias), _address(self.bias_gradient), *self.shape[-3:-1])
        integers += (self.normalized, self.at_least_one)
        numbers += (self.factor, self.log_length)
        for position_map in self.maps:
            scale, divisor = position_map.fraction()
            numbers += (scale, position_map.offset)
            integers += (divisor, position_map.floor)


def _tensor(tensor: Optional[torch.Tensor]) -> tuple:
    if tensor is None:
        return NO_TENSOR
    *outer, row, head, _ = tensor.stride()
    return (tensor.data_ptr(), outer[0] if outer else 0, row, head)


def _address(tensor: Optional[torch.Tensor]) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _positions(positions: Optional[torch.Tensor], start: int) -> tuple:
    if positions is None:
        return (0, 0, 0, start, 0)
    batch = positions.stride(0) if positions.dim() == 2 and positions.shape[0] > 1 else 0
    fractional = positions.is_floating_point()
    return (positions.data_ptr(), batch, positions.stride(-1), 0, fractional)


class Call(NamedTuple):
    """A call of the native engine but for its workspace; keeps alive what the packs point to."""

    engine: native.Engine
    integers: list
    numbers: list
    kept: tuple


def _call(tensor, queries: Side, keys: Side, inv_freq, log_growth, settings) -> Call:
    engine = backends.get(settings.backend).engine
    table = turns.table(inv_freq, log_growth)
    pairs = table.shape[1]
    address, row = table.data_ptr(), 8 * pairs
    integers = [
        native.ELEMENT_TYPES[tensor.dtype],
        *engine.executor(tensor),
        1 if len(queries.shape) == 3 else queries.shape[0],
        queries.shape[-1],
        2 * pairs,
        settings.map_count,
        settings.interleaved,
        address,
        address + row,
        0 if log_growth is None else address + 2 * row,
    ]
    numbers = [settings.attention_factor, settings.xpos_centre]
    queries.pack(integers, numbers)
    keys.pack(integers, numbers)
    return Call(engine, integers, numbers, (table, queries, keys))


def _maps_of(settings: Settings, side: int) -> list:
    numbers = settings.maps
    places = range(3 * side, len(numbers), 6)
    return [PositionMap(numbers[i], numbers[i + 1], numbers[i + 2] != 0.0) for i in places]


def _wide(bias: Optional[torch.Tensor], dtype: torch.dtype) -> Optional[torch.Tensor]:
    return None if bias is None else bias.to(accumulator_dtype(dtype)).contiguous()


def _sides(inputs, rotated, gradients, shapes, dtype, positions, biases, bias_gradients, settings):
    """Queries and keys; each argument but the last is a pair."""
    scales = (
        (settings.q_scale, settings.log_length, settings.at_least_one),
        (1.0, 0.0, False),
    )
    starts = (settings.q_start, settings.k_start)
    norms = (settings.q_norm, settings.k_norm)
    return tuple(
        Side(
            inputs[i],
            rotated[i],
            gradients[i],
            positions[i],
            starts[i],
            _wide(biases[i], dtype),
            bias_gradients[i],
            shapes[i],
            norms[i],
            *scales[i],
            _maps_of(settings, i),
        )
        for i in range(2)
    )


def empty_like(like: torch.Tensor) -> torch.Tensor:
    """A dense tensor with its order of dimensions."""
    return allocation.in_large_pages(torch.empty_like(like))


def forward(q, k, inv_freq, log_growth, q_positions, k_positions, q_bias, k_bias, *settings):
    """-> [q_0, k_0, q_1, k_1, ...], a pair a map."""
    settings = Settings(*settings)
    results = [empty_like(tensor) for _ in range(settings.map_count) for tensor in (q, k)]
    _rotate_into(
        results, q, k, inv_freq, log_growth, q_positions, k_positions, q_bias, k_bias, settings
    )
    return results


def forward_in_place(
    q, k, inv_freq, log_growth, q_positions, k_positions, q_bias, k_bias, *settings
) -> None:
    settings = Settings(*settings)
    _rotate_into(
        [q, k], q, k, inv_freq, log_growth, q_positions, k_positions, q_bias, k_bias, settings
    )


def _rotate_into(
    results, q, k, inv_freq, log_growth, q_positions, k_positions, q_bias, k_bias, settings
) -> None:
    checks.check_memory(q, k, inv_freq, q_positions, k_positions, q_bias, k_bias, settings)
    sides = _sides(
        (q, k),
        (results[::2], results[1::2]),
        (None, None),
        (tuple(q.shape), tuple(k.shape)),
        q.dtype,
        (q_positions, k_positions),
        (q_bias, k_bias),
        (None, None),
        settings,
    )
    call = _call(q, *sides, inv_freq, log_growth, settings)
    call.engine.module().rotate([*call.integers, 0], call.numbers)


def backward(
    gradients,
    q,
    k,
    inv_freq,
    log_growth,
    q_positions,
    k_positions,
    q_bias,
    k_bias,
    wanted,
    *settings,
):
    """-> [dq, dk, dq_bias, dk_bias], empty where not `wanted`; biases in the accumulator's dtype.

    gradients: of [q_0, k_0, q_1, ...]; some may be None, but not all of a side that is wanted. q
    and k: the raw input where it is normalised."""
    settings = Settings(*settings)
    backend = backends.get(settings.backend)
    gradients = [None if g is None else _readable(g, backend) for g in gradients]
    given = _first_of_sides(gradients)
    some = next(g for g in given if g is not None)
    checks.check_backward(given, (q, k), wanted, settings)
    results = empty_results(gradients, wanted)
    shapes = [
        (*some.shape[:-3], 0, 1, some.shape[-1]) if g is None else tuple(g.shape) for g in given
    ]
    sides = _sides(
        (q, k),
        (gradients[::2], gradients[1::2]),
        [results[i] if wanted[i] else None for i in range(2)],
        shapes,
        some.dtype,
        (q_positions, k_positions),
        (q_bias, k_bias),
        [results[2 + i] if wanted[2 + i] else None for i in range(2)],
        settings,
    )
    call = _call(some, *sides, inv_freq, log_growth, settings)
    module, workspace = call.engine.module(), results[2]
    if wanted[2] or wanted[3]:
        count = module.rotate_backward_workspace([*call.integers, 0], call.numbers)
        workspace = results[2].new_empty(count)
    module.rotate_backward([*call.integers, workspace.data_ptr()], call.numbers)
    return results


def _first_of_sides(gradients) -> list:
    """The first gradient of queries and the first of keys that is given."""
    return [next((g for g in gradients[i::2] if g is not None), None) for i in range(2)]


def empty_results(gradients, wanted) -> list:
    """Where `backward` writes: [dq, dk, dq_bias, dk_bias], each empty if it is not wanted."""
    given = _first_of_sides(gradients)
    some = next(g for g in given if g is not None)
    accumulator = accumulator_dtype(some.dtype)
    inputs = [empty_like(given[i]) if wanted[i] else some.new_empty(0) for i in range(2)]
    biases = [
        some.new_empty(given[i].shape[-2:] if wanted[2 + i] else 0, dtype=accumulator)
        for i in range(2)
    ]
    return inputs + biases


def _readable(gradient: torch.Tensor, backend: backends.Backend) -> torch.Tensor:
    rows_are_contiguous = gradient.shape[-1] <= 1 or gradient.stride(-1) == 1
    if rows_are_contiguous and backends.misalignment(backend, gradient) is None:
        return gradient
    return gradient.contiguous()
