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

import torch

from longattn import native
from longattn.allocation import converted
from longattn.native import Layout
from longattn.partial_engine import gradient_of_sinks, whole_softmax
from longattn.ring import row_biases
from longattn.ring.rank import Gradients, Incoming, Rank, zeros_like
from longattn.ring.route import Meeting
from longattn.ring.transfers import pass_gradients, pass_on
from longattn.spans import span


def forward(me: Rank):
    """-> (out in q's dtype, lse in the accumulator's)."""
    out, lse = me.empty_result()
    block = [me.k, me.v]
    for hop, after in _with_next(me.route):
        next_block, wait = pass_on(me, block, hop, after)
        with span(f"ring forward, keys of rank {hop.source}"):
            for meeting in hop.meetings:
                rows = slice(*meeting.q_rows)
                me.run_forward(*problem_at(me, meeting, block), out[:, rows], lse[:, :, rows])
        yield
        with span("ring forward, wait"):
            wait()
        block = next_block
    return converted(out, me.q.dtype), lse


def backward(me: Rank, dout, dlse, out, lse, *, wants_bias: bool, wants_sinks: bool):
    """`out` and `lse`: what forward returned. -> Gradients."""
    whole = whole_softmax(dout, dlse, out, lse, me.q.dtype, me.backend)
    delta = whole.delta(me.backend.engine)
    dq, dk, dv = zeros_like([me.q, me.k, me.v])
    dbias = torch.zeros_like(me.scores.bias) if wants_bias else None
    block, gradients = [me.k, me.v], [dk, dv]
    on_the_way = None
    for number, (hop, after) in enumerate(_with_next(me.route)):
        next_block, wait = pass_on(me, block, hop, after)
        if number > 0:
            gradients = zeros_like(block)
        with span(f"ring backward, keys of rank {hop.source}"):
            for meeting in hop.meetings:
                rows, keys = slice(*meeting.q_rows), slice(*meeting.k_rows)
                incoming = Incoming(whole.dout[:, rows], whole.lse[:, :, rows], delta[:, :, rows])
                into = (dq[:, rows], *(gradient[:, keys] for gradient in gradients))
                sums = me.run_backward(*problem_at(me, meeting, block), incoming, into, wants_bias)
                if wants_bias:
                    dbias += row_biases.gradient_of_values(
                        sums, me.scores, meeting.step, meeting.offset.remainder
                    )
        yield
        with span("ring backward, wait"):
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


def problem_at(me: Rank, meeting: Meeting, block) -> tuple:
    """What the engine is asked at a meeting."""
    q = me.q[:, slice(*meeting.q_rows)]
    k, v = (x[:, slice(*meeting.k_rows)] for x in block)
    diagonal, remainder = meeting.offset
    layout = Layout(native.BATCH, q.shape[0], q.shape[1], k.shape[1], diagonal, 0)
    scores = row_biases.scores_by_rows(me.scores, layout, meeting.step, remainder)
    return q, k, v, layout, meeting.rules, scores


def _with_next(route):
    """Each hop and the one after it, None after the last."""
    return zip_longest(route, route[1:])
