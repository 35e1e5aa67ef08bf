# SPDX-License-Identifier: BSD-3-Clause
"""What the attention op does: a plain call is one partial, a dilated call one partial a branch."""

from __future__ import annotations

import torch

from longattn import backends, checks, native, partial_engine, score_checks
from longattn.allocation import converted
from longattn.native import Layout, Scores
from longattn.partial_engine import Partial, accumulator_dtype


def layouts(q, k, cu_seqlens_q, cu_seqlens_k, branches, q_start, k_start) -> list:
    """One Layout a partial. `branches`: (), or head offset followed by (length, rate) pairs."""
    q_len, kv_len = q.shape[-3], k.shape[-3]
    if cu_seqlens_q is not None:
        checked = checks.may_read_values(cu_seqlens_q.device)
        if checked:
            checks.check_borders("cu_seqlens_q", cu_seqlens_q.tolist(), q_len)
            checks.check_borders("cu_seqlens_k", cu_seqlens_k.tolist(), kv_len)
        q_borders = cu_seqlens_q.to(torch.int32).contiguous()
        k_borders = cu_seqlens_k.to(torch.int32).contiguous()
        sequences = q_borders.shape[0] - 1
        layout = Layout(native.PACKED, sequences, q_len, kv_len, 0, 0, q_borders, k_borders)
        return [layout._replace(borders_checked=checked)]
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


def scores_of(q, softmax_scale, softcap, bias, bias_form) -> Scores:
    if bias is None:
        return Scores(softmax_scale, softcap)
    values = bias.to(accumulator_dtype(q.dtype)).contiguous()
    return Scores(softmax_scale, softcap, values, tuple(bias_form))


def sinks_of(q, sink_logits):
    if sink_logits is None:
        return None
    return sink_logits.to(accumulator_dtype(q.dtype)).contiguous()


def forward(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    bias,
    sink_logits,
    rules,
    branches,
    bias_form,
    softmax_scale,
    softcap,
    q_start,
    k_start,
    detach_weights,
    backend,
) -> tuple:
    """-> (out in q's dtype, lse in the accumulator's)."""
    backend = backends.get(backend)
    checks.check_memory(q, k, v, backend, cu_seqlens_q is not None)
    score_checks.check_score_tensors(q, bias, sink_logits)
    score_checks.check_sink_values(sink_logits)
    parts = layouts(q, k, cu_seqlens_q, cu_seqlens_k, branches, q_start, k_start)
    return partial_engine.forward(
        [Partial(q, k, layout, rules) for layout in parts],
        v,
        scores_of(q, softmax_scale, softcap, bias, bias_form),
        sinks_of(q, sink_logits),
        backend.engine,
        merge=bool(branches),
    )


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
    bias,
    sink_logits,
    wants_bias,
    wants_sinks,
    rules,
    branches,
    bias_form,
    softmax_scale,
    softcap,
    q_start,
    k_start,
    detach_weights,
    backend,
) -> tuple:
    """-> (dq, dk, dv, dbias, dsink_logits); the last two are empty where nobody wants them."""
    backend = backends.get(backend)
    checks.check_memory(q, k, v, backend, cu_seqlens_q is not None)
    score_checks.check_score_tensors(q, bias, sink_logits)
    checks.check_results(q, v, {"out": out, "dout": dout}, {"lse": lse, "dlse": dlse})
    parts = layouts(q, k, cu_seqlens_q, cu_seqlens_k, branches, q_start, k_start)
    gradients = partial_engine.backward(
        [Partial(q, k, layout, rules) for layout in parts],
        v,
        scores_of(q, softmax_scale, softcap, bias, bias_form),
        sinks_of(q, sink_logits),
        dout,
        dlse,
        out,
        lse,
        backend,
        detach_weights=detach_weights,
        wants_bias=wants_bias,
        wants_sinks=wants_sinks,
    )
    return (
        converted(gradients.dq[0], q.dtype),
        converted(gradients.dk[0], k.dtype),
        converted(gradients.dv, v.dtype),
        gradients.bias.to(bias.dtype) if wants_bias else q.new_empty(0),
        gradients.sink_logits.to(sink_logits.dtype) if wants_sinks else q.new_empty(0),
    )
