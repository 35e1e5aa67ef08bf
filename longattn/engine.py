# SPDX-License-Identifier: BSD-3-Clause
"""Runs an attention op on a native engine: allocates, and walks over the op's partials.

A plain call is one partial. A dilated call is one partial a branch, merged in place; the backward
passes of partials simply add up, since each is given the lse and delta of the whole."""

from __future__ import annotations

import torch

from longattn import backends, checks, native
from longattn.native import Layout


def accumulator_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def lse_shape(q: torch.Tensor) -> tuple:
    """[batch, q_heads, q_len], or [q_heads, total] for packed q."""
    return (*q.shape[:-3], q.shape[-2], q.shape[-3])


def layouts(q, k, cu_seqlens_q, cu_seqlens_k, branches, q_start, k_start) -> list:
    """One Layout a partial. `branches`: (), or head offset followed by (length, rate) pairs."""
    q_len, kv_len = q.shape[-3], k.shape[-3]
    if cu_seqlens_q is not None:
        if checks.may_read_values(cu_seqlens_q.device):
            checks.check_borders("cu_seqlens_q", cu_seqlens_q.tolist(), q_len)
            checks.check_borders("cu_seqlens_k", cu_seqlens_k.tolist(), kv_len)
        q_borders = cu_seqlens_q.to(torch.int32).contiguous()
        k_borders = cu_seqlens_k.to(torch.int32).contiguous()
        sequences = q_borders.shape[0] - 1
        return [Layout(native.PACKED, sequences, q_len, kv_len, 0, 0, q_borders, k_borders)]
    shape = (q.shape[0], q_len, kv_len, q_start, k_start)
    if not branches:
        return [Layout(native.BATCH, *shape)]
    head_offset, pairs = branches[0], branches[1:]
    if len(pairs) % 2 or any(number < 1 for number in pairs):
        raise ValueError(f"branches must be an offset and pairs of numbers >= 1, got {branches}")
    return [
        Layout(native.DILATED, *shape, None, None, length, rate, head_offset)
        for length, rate in zip(branches[1::2], branches[2::2])
    ]


def forward(
    q, k, v, cu_seqlens_q, cu_seqlens_k, rules, branches, softmax_scale, q_start, k_start, backend
) -> tuple:
    """-> (out in q's dtype, lse in the accumulator's)."""
    backend = backends.get(backend)
    engine = backend.engine
    checks.check_memory(q, k, v, backend, cu_seqlens_q is not None)
    partials = layouts(q, k, cu_seqlens_q, cu_seqlens_k, branches, q_start, k_start)
    out_shape = (*q.shape[:-1], v.shape[-1])
    dtype = accumulator_dtype(q.dtype)
    if not branches:
        out = q.new_empty(out_shape)
        lse = q.new_empty(lse_shape(q), dtype=dtype)
        engine.forward(q, k, v, partials[0], rules, softmax_scale, out, lse, merge=False)
        return out, lse
    out = q.new_zeros(out_shape, dtype=dtype)
    lse = q.new_full(lse_shape(q), float("-inf"), dtype=dtype)
    for layout in partials:
        engine.forward(q, k, v, layout, rules, softmax_scale, out, lse, merge=True)
    return out.to(q.dtype), lse


def backward(
    dout,
    dlse,
    q,
    k,
    v,
    out,
    lse,
    cu_seqlens_q,
    cu_seqlens_k,
    rules,
    branches,
    softmax_scale,
    q_start,
    k_start,
    detach_weights,
    backend,
) -> tuple:
    """-> (dq, dk, dv). `out` and `lse` are those of the whole op."""
    backend = backends.get(backend)
    engine = backend.engine
    checks.check_memory(q, k, v, backend, cu_seqlens_q is not None)
    dout, out = dout.to(q.dtype), out.to(q.dtype)
    partials = layouts(q, k, cu_seqlens_q, cu_seqlens_k, branches, q_start, k_start)
    dout = _readable(dout, backend)
    dtype = accumulator_dtype(q.dtype)
    lse = lse.to(dtype).contiguous()
    dlse = None if dlse is None else dlse.to(dtype).contiguous()
    dq, dk, dv = (tensor.new_zeros(tensor.shape, dtype=dtype) for tensor in (q, k, v))
    delta = torch.empty_like(lse)
    empty = lse == float("-inf")  # rows that see nothing: no gradient, whatever arrives there
    if not detach_weights:
        engine.row_dot(dout, out, dlse, delta)
        delta.masked_fill_(empty, 0)
    for layout in partials:
        if detach_weights:
            # Each branch keeps its own delta: its weight in the mixture is a constant.
            branch_out = out.new_zeros(out.shape, dtype=dtype)
            branch_lse = torch.full_like(lse, float("-inf"))
            engine.forward(
                q, k, v, layout, rules, softmax_scale, branch_out, branch_lse, merge=True
            )
            engine.row_dot(dout, branch_out, dlse, delta)
            delta.masked_fill_(empty, 0)
        problem = (q, k, v, layout, rules, softmax_scale)
        workspace = q.new_empty(engine.backward_workspace(*problem), dtype=dtype)
        engine.backward(*problem, dout, lse, delta, dq, dk, dv, workspace)
    return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype)


def _readable(dout: torch.Tensor, backend: backends.Backend) -> torch.Tensor:
    """The gradient of out as the backend can read it; autograd hands over any strides."""
    rows_are_contiguous = dout.shape[-1] <= 1 or dout.stride(-1) == 1
    if rows_are_contiguous and backends.misalignment(backend, dout) is None:
        return dout
    return dout.contiguous()
