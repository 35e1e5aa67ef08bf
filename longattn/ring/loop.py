# SPDX-License-Identifier: BSD-3-Clause
"""The ring: what one rank does, for every layout and mask (Ring Attention, Liu et al. 2023,
arXiv 2310.01889).

Keys and values go from rank to rank, the next block under way while this one is computed with.
Partials are merged in place in the accumulator's dtype. In the backward pass keys and values go
around once more, and gradients in the accumulator's dtype follow them, each row as far as its last
reader and from there straight home. No sum depends on which transfer is faster.

Both passes are generators; communicator.py says why."""

from __future__ import annotations

from itertools import zip_longest
from typing import NamedTuple, Optional

import torch

from longattn.partial_engine import (
    accumulator_dtype,
    gradient_of_sinks,
    lse_shape,
    whole_softmax,
)
from longattn.ring.rank import Rank
from longattn.ring.transfers import pass_gradients, pass_on


class Gradients(NamedTuple):
    """Accumulator dtype."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    bias: Optional[torch.Tensor]
    sink_logits: Optional[torch.Tensor]


def forward(me: Rank):
    """-> (out in q's dtype, lse in the accumulator's)."""
    dtype = accumulator_dtype(me.q.dtype)
    out = me.q.new_zeros((*me.q.shape[:-1], me.v.shape[-1]), dtype=dtype)
    lse = me.q.new_full(lse_shape(me.q), float("-inf"), dtype=dtype)
    if me.sink_logits is not None:  # a partial with one key of value 0
        lse.copy_(me.sink_logits[:, None].expand_as(lse))
    block = [me.k, me.v]
    for hop, after in _with_next(me.route):
        next_block, wait = pass_on(me, block, hop, after)
        for meeting in hop.meetings:
            rows = slice(*meeting.q_rows)
            problem = me.problem(meeting, block)
            me.backend.engine.forward(*problem, out[:, rows], lse[:, :, rows], merge=True)
        yield
        wait()
        block = next_block
    return out.to(me.q.dtype), lse


def backward(me: Rank, dout, dlse, out, lse, *, wants_bias: bool, wants_sinks: bool):
    """`out` and `lse`: what forward returned. -> Gradients."""
    whole = whole_softmax(dout, dlse, out, lse, me.q.dtype, me.backend)
    delta = whole.delta(me.backend.engine)
    dq, dk, dv = _zeros([me.q, me.k, me.v])
    dbias = torch.zeros_like(me.scores.bias) if wants_bias else None
    block, gradients = [me.k, me.v], [dk, dv]
    on_the_way = None
    for number, (hop, after) in enumerate(_with_next(me.route)):
        next_block, wait = pass_on(me, block, hop, after)
        if number > 0:
            gradients = _zeros(block)
        for meeting in hop.meetings:
            rows, keys = slice(*meeting.q_rows), slice(*meeting.k_rows)
            of_queries = (whole.dout[:, rows], whole.lse[:, :, rows], delta[:, :, rows])
            into = (dq[:, rows], *(gradient[:, keys] for gradient in gradients))
            sums = _backward_of(me, meeting, block, of_queries, into, wants_bias)
            if wants_bias:
                dbias += me.gradient_of_bias(meeting, sums)
        yield
        wait()
        block = next_block
        if on_the_way is not None:
            on_the_way.arrive([dk, dv], gradients)
        if number > 0:
            on_the_way = pass_gradients(me, gradients, number, hop, after)
    yield
    if on_the_way is not None:
        on_the_way.arrive([dk, dv], [])
    dsinks = gradient_of_sinks(me.sink_logits, whole.lse, delta) if wants_sinks else None
    return Gradients(dq, dk, dv, dbias, dsinks)


def _backward_of(me: Rank, meeting, block, of_queries, into, wants_bias: bool):
    """Adds to the gradients `into`. -> sums by distance for the gradient of the bias, or None."""
    engine = me.backend.engine
    problem = me.problem(meeting, block)
    layout = problem[3]
    workspace_size, shares = engine.backward_sizes(*problem)
    sums = me.empty_bias_gradient(layout, shares) if wants_bias else None
    workspace = into[0].new_empty(workspace_size)
    engine.backward(*problem, *of_queries, *into, workspace, sums)
    return sums


def _with_next(route):
    """Each hop and the one after it, None after the last."""
    return zip_longest(route, route[1:])


def _zeros(tensors: list) -> list:
    return [
        torch.zeros(x.shape, dtype=accumulator_dtype(x.dtype), device=x.device) for x in tensors
    ]
