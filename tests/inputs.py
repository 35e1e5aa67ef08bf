# SPDX-License-Identifier: BSD-3-Clause
"""Inputs, hostile by default: every tensor is a view with gaps, and the gaps are full of NaN.

A kernel that reads one element beside its rows, or treats a stride as a length, gives NaN.
"""

import zlib

import torch


def generator(*key) -> torch.Generator:
    """The same numbers for the same key, in every process and on every platform."""
    return torch.Generator().manual_seed(zlib.crc32(repr(key).encode()))


def hostile(values: torch.Tensor, order=None, grain=1) -> torch.Tensor:
    """`values` as a view with stride 1 in its last dimension and NaN all around in every other.

    `order` is the order of the dimensions in memory (the last one stays last). Each dimension
    has a gap before and after, of different sizes, so no stride is a product of lengths and no
    row is aligned to more than one element; or, with a `grain`, to that many elements.
    """
    order = tuple(range(values.dim())) if order is None else tuple(order)
    assert sorted(order) == list(range(values.dim())) and order[-1] == values.dim() - 1, order
    before = [1 + dimension % 2 for dimension in order]
    after = [2 - dimension % 2 for dimension in order]
    before[-1] *= grain
    after[-1] *= grain
    lengths = [values.shape[dimension] for dimension in order]
    storage = torch.full(
        [a + n + b for a, n, b in zip(before, lengths, after)],
        float("nan"),
        dtype=values.dtype,
        device=values.device,
    )
    view = storage[tuple(slice(a, a + n) for a, n in zip(before, lengths))]
    view = view.permute([order.index(dimension) for dimension in range(values.dim())])
    view.copy_(values)
    return view


def heads_first(tensor: torch.Tensor) -> tuple:
    """A memory order for [..., rows, heads, dim] that keeps each head's rows together."""
    last = tensor.dim() - 1
    return tuple(range(last - 2)) + (last - 1, last - 2, last)


def random(shape, dtype, *key, scale=1.0, transposed=False, grain=1) -> torch.Tensor:
    """Normal numbers, rounded to dtype, as a hostile view."""
    values = torch.randn(shape, generator=generator(*key), dtype=torch.float64) * scale
    values = values.to(dtype)
    return hostile(values, heads_first(values) if transposed else None, grain)


def qkv(case, dtype, *, requires_grad=True, grain=1) -> tuple:
    """Query, key and value of a case, each with another order in memory."""
    loudness = getattr(case, "loudness", 1.0)
    v_shape = getattr(case, "v_shape", case.k_shape)
    q = random(case.q_shape, dtype, case.name, "q", scale=loudness, grain=grain)
    k = random(case.k_shape, dtype, case.name, "k", transposed=True, grain=grain)
    v = random(v_shape, dtype, case.name, "v", grain=grain)
    return tuple(tensor.requires_grad_(requires_grad) for tensor in (q, k, v))


def call_arguments(case) -> dict:
    """The keywords of `attention` for a case."""
    arguments = dict(softmax_scale=case.softmax_scale)
    if case.packed:
        arguments["cu_seqlens_q"] = boundaries(case.q_lengths)
        arguments["cu_seqlens_k"] = boundaries(case.kv_lengths or case.q_lengths)
    else:
        arguments["q_start"] = case.q_start
        arguments["k_start"] = case.k_start
    return arguments


def packed_by(lengths) -> dict:
    """The keywords for packed sequences whose queries and keys have these lengths."""
    return dict(cu_seqlens_q=boundaries(lengths), cu_seqlens_k=boundaries(lengths))


def boundaries(lengths, dtype=torch.int32) -> torch.Tensor:
    """cu_seqlens: where each sequence begins, and the total."""
    ends = [0]
    for length in lengths:
        ends.append(ends[-1] + length)
    return torch.tensor(ends, dtype=dtype)
