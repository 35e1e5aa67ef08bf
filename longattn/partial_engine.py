# SPDX-License-Identifier: BSD-3-Clause
"""Runs the partials of one softmax on a native engine: allocates, and walks over them.

Partials are merged in place; their backward passes simply add up, since each is given the lse and
the delta of the whole."""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch

from longattn import allocation, backends, distance_sums
from longattn.native import BiasGradient, Layout, Scores


class Partial(NamedTuple):
    """Some keys of a softmax: queries and keys as they meet there, and who sees whom. k may hold
    the first rows only of keys that all partials share."""

    q: torch.Tensor
    k: torch.Tensor
    layout: Layout
    rules: list

    def of_keys(self, x: torch.Tensor) -> torch.Tensor:
        """The rows of the shared v, or of its gradient, that go with this partial's keys."""
        rows = self.k.shape[-3]
        return x if rows == x.shape[-3] else x.narrow(-3, 0, rows)


class Gradients(NamedTuple):
    """Accumulator dtype, or that of q, k and v where there is one partial. dq and dk: one for each
    partial; the same q and k share theirs."""

    dq: list
    dk: list
    dv: torch.Tensor
    bias: Optional[torch.Tensor]
    sink_logits: Optional[torch.Tensor]


class Whole(NamedTuple):
    """A whole softmax with the gradients that arrive at it, as the engines read them."""

    dout: torch.Tensor
    dlse: Optional[torch.Tensor]
    out: torch.Tensor
    lse: torch.Tensor
    empty: torch.Tensor  # bool, like lse: rows that see nothing

    def delta(self, engine) -> torch.Tensor:
        delta = torch.empty_like(self.lse)
        engine.row_dot(self.dout, self.out, self.dlse, delta)
        return delta.masked_fill_(self.empty, 0)


def accumulator_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def lse_shape(q: torch.Tensor) -> tuple:
    """[batch, q_heads, q_len], or [q_heads, total] for packed q."""
    return (*q.shape[:-3], q.shape[-2], q.shape[-3])


def forward(partials, v, scores: Scores, sink_logits, engine, *, merge: bool) -> tuple:
    """-> (out in q's dtype, lse in the accumulator's). Several partials must merge."""
    q = partials[0].q
    out_shape = (*q.shape[:-1], v.shape[-1])
    dtype = accumulator_dtype(q.dtype)
    layout = partials[0].layout
    covers = layout.covers_all_rows()
    # The first partial writes its result where that has the dtype that the others merge into.
    writes = not merge or (dtype == q.dtype and covers)
    if writes and covers:
        out = allocation.empty(q, out_shape)
        lse = q.new_empty(lse_shape(q), dtype=dtype)
    else:
        # What is merged with a row of lse -inf does not read it.
        all_written = merge and covers and sink_logits is None
        make = allocation.empty if all_written else allocation.zeros
        out = make(q, out_shape, dtype if merge else q.dtype)
        lse = q.new_full(lse_shape(q), float("-inf"), dtype=dtype)
        if sink_logits is not None and merge:
            lse.copy_(sink_logits[:, None].expand_as(lse))  # a partial with one key of value 0
    if layout.batch == 0:
        return allocation.converted(out, q.dtype), lse
    for i, partial in enumerate(partials):
        q, k, layout, rules = partial
        problem = (q, k, partial.of_keys(v), layout, rules, scores)
        first = writes and i == 0
        engine.forward(
            *problem, out, lse, merge=not first, sink_logits=sink_logits if first else None
        )
    return allocation.converted(out, q.dtype), lse


def backward(
    partials,
    v,
    scores: Scores,
    sink_logits,
    dout,
    dlse,
    out,
    lse,
    backend: backends.Backend,
    *,
    detach_weights: bool = False,
    wants_bias: bool = False,
    wants_sinks: bool = False,
) -> Gradients:
    """`out` and `lse` are those of the whole softmax."""
    engine = backend.engine
    q = partials[0].q
    dtype = accumulator_dtype(q.dtype)
    whole = whole_softmax(dout, dlse, out, lse, q.dtype, backend)
    writes = engine.can_write and len(partials) == 1 and partials[0].layout.covers_all_rows()
    writes = writes and partials[0].layout.batch > 0
    of_input = (
        allocation.empty
        if writes
        else lambda like, shape: allocation.zeros(like, shape, accumulator_dtype(like.dtype))
    )
    gradients = {}
    dv = of_input(v, v.shape)
    bias_values = torch.zeros_like(scores.bias) if wants_bias else None
    delta = None if detach_weights else whole.delta(engine)
    for partial in partials:
        q, k, layout, rules = partial
        problem = (q, k, partial.of_keys(v), layout, rules, scores)
        if detach_weights:
            # Each branch keeps its own delta: its weight in the mixture is a constant.
            branch_out = torch.zeros_like(whole.out, dtype=dtype)
            branch_lse = torch.full_like(whole.lse, float("-inf"))
            engine.forward(*problem, branch_out, branch_lse, merge=True)
            delta = whole._replace(out=branch_out).delta(engine)
        for name, x in (("q", q), ("k", k)):
            if (name, id(x)) not in gradients:  # one tensor may be both q and k
                gradients[name, id(x)] = of_input(x, x.shape)
        dq, dk = gradients["q", id(q)], gradients["k", id(k)]
        if layout.batch == 0:
            continue
        dv_of_keys = partial.of_keys(dv)
        workspace_size, shares = engine.backward_sizes(*problem, writes=writes)
        workspace = allocation.empty(q, workspace_size, dtype)
        sums = empty_bias_gradient(q, layout, shares, dtype) if wants_bias else None
        incoming = (whole.dout, whole.lse, delta)
        engine.backward(*problem, *incoming, dq, dk, dv_of_keys, workspace, sums, writes=writes)
        if wants_bias:
            bias_values += distance_sums.gradient_of_values(
                sums.sums, sums.first_distance, scores.bias, scores.bias_form
            )
    return Gradients(
        [gradients["q", id(partial.q)] for partial in partials],
        [gradients["k", id(partial.k)] for partial in partials],
        dv,
        bias_values,
        gradient_of_sinks(sink_logits, whole.lse, delta) if wants_sinks else None,
    )


def whole_softmax(dout, dlse, out, lse, dtype, backend: backends.Backend) -> Whole:
    """dtype: that of q."""
    dout, out = (_readable(tensor.to(dtype), backend) for tensor in (dout, out))
    lse = lse.to(accumulator_dtype(dtype)).contiguous()
    dlse = None if dlse is None else dlse.to(lse.dtype).contiguous()
    # Rows that see nothing have no gradient, whatever arrives there: NaN would reach dv.
    empty = lse == float("-inf")
    if not (empty.device.type == "cpu" and not empty.any()):  # a GPU is not waited for
        dout = dout.masked_fill(empty.transpose(-1, -2).unsqueeze(-1), 0)
    return Whole(dout, dlse, out, lse, empty)


def empty_bias_gradient(q, layout: Layout, shares: int, dtype) -> BiasGradient:
    first, span = distance_sums.distance_range(
        layout.q_len,
        layout.kv_len,
        layout.q_start,
        layout.k_start,
        packed=layout.cu_seqlens_q is not None,
    )
    return BiasGradient(q.new_zeros((shares, q.shape[-2], span), dtype=dtype), first)


def gradient_of_sinks(sink_logits, lse, delta) -> torch.Tensor:
    """Its value is 0, so that of ds = p (dout . value - delta) only -p delta is left."""
    p = torch.exp(sink_logits[:, None] - lse)  # [batch, heads, rows] or [heads, total]
    p = p.masked_fill(lse == float("-inf"), 0)
    per_head = -(p * delta).sum(-1)
    return per_head if per_head.dim() == 1 else per_head.sum(0)


def _readable(dout: torch.Tensor, backend: backends.Backend) -> torch.Tensor:
    """out, or its gradient, as the backend can read it; autograd hands over any strides."""
    rows_are_contiguous = dout.shape[-1] <= 1 or dout.stride(-1) == 1
    if rows_are_contiguous and backends.misalignment(backend, dout) is None:
        return dout
    return dout.clone(memory_format=torch.contiguous_format)  # contiguous() may do nothing
