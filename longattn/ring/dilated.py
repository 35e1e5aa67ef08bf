# SPDX-License-Identifier: BSD-3-Clause
"""LongNet's distributed dilated attention (Ding et al. 2023, arXiv 2307.02486): what one rank does.

Keys of the own rank are met where they lie, as in one process. The kept keys of segments that go
on on other ranks travel there, once, while the own ones are computed with; their gradients come
back in the accumulator's dtype and are added up in the order of ranks. (The authors' code drops the
keys of the own rank and aligns the rest wrongly if causal; here the result is that of one process.)
"""

from __future__ import annotations

import torch

from longattn import native
from longattn.allocation import converted
from longattn.attention import encode_head_rules
from longattn.masks import Causal, Full
from longattn.native import Layout, Scores
from longattn.partial_engine import accumulator_dtype, gradient_of_sinks, whole_softmax
from longattn.ring import row_biases
from longattn.ring.communicator import Message
from longattn.ring.dilated_route import SparseKeys
from longattn.ring.rank import Gradients, Incoming, Rank, zeros_like


def forward(me: Rank):
    """-> (out in q's dtype, lse in the accumulator's)."""
    out, lse = me.empty_result()
    blocks, wait = _gather(me)
    for branch in range(len(me.route.branches.pairs)):
        me.run_forward(*_own_problem(me, branch), out, lse)
    yield
    wait()
    for sparse, keys in blocks:
        _forward_sparse(me, sparse, keys, out, lse)
    return converted(out, me.q.dtype), lse


def backward(me: Rank, dout, dlse, out, lse, *, wants_bias: bool, wants_sinks: bool):
    """`out` and `lse`: what forward returned. -> Gradients."""
    whole = whole_softmax(dout, dlse, out, lse, me.q.dtype, me.backend)
    into = dq, dk, dv = zeros_like([me.q, me.k, me.v])
    dbias = torch.zeros_like(me.scores.bias) if wants_bias else None
    blocks, wait = _gather(me)
    detached = me.route.branches.detach_weights
    if not detached:
        deltas = [whole.delta(me.backend.engine)] * len(me.route.branches.pairs)
        _backward_own(me, whole, deltas, into, dbias)
    yield
    wait()
    if detached:
        deltas = _deltas_of_branches(me, whole, blocks)
        _backward_own(me, whole, deltas, into, dbias)
    gradients = []
    for sparse, keys in blocks:
        incoming = Incoming(whole.dout, whole.lse, deltas[sparse.branch])
        of_keys, sums = _backward_sparse(me, sparse, keys, incoming, dq, wants_bias)
        gradients.append(of_keys)
        if wants_bias:
            scores = _of_heads(me.scores, sparse.heads)
            part = row_biases.gradient_of_values(sums, scores, sparse.rate, 0)
            dbias[_slice(sparse.heads)] += part
    returned, wait = _send_home(me, gradients)
    yield
    wait()
    for sparse, parts in returned:
        for gradient, part in zip((dk, dv), parts):
            for place, head in enumerate(sparse.kv_heads):
                gradient[:, _rows(me, sparse.keys), head] += part[:, :, place]
    dsinks = gradient_of_sinks(me.sink_logits, whole.lse, deltas[0]) if wants_sinks else None
    return Gradients(dq, dk, dv, dbias, dsinks)


def _own_problem(me: Rank, branch: int) -> tuple:
    """A branch with the keys of the own rank, read where they lie."""
    length, rate = me.route.branches.pairs[branch]
    offset = native.HEAD_OFFSETS[me.route.branches.head_offset]
    batch, rows = me.q.shape[:2]
    start = me.route.begin
    layout = Layout(
        *(native.DILATED, batch, rows, rows, start, start, None, None, length, rate, offset)
    )
    mask = Causal() if me.route.branches.causal else Full()
    return me.q, me.k, me.v, layout, encode_head_rules([mask.rule(0)]), me.scores


def _sparse_problem(me: Rank, sparse: SparseKeys, keys) -> tuple:
    """Kept keys of another rank: one row each, all of them visible."""
    q = me.q[:, _rows(me, sparse.queries), _slice(sparse.heads)]
    k, v = (_for_each_query_head(x, sparse) for x in keys)
    diagonal = (sparse.queries.start - sparse.keys.start) // sparse.rate
    layout = Layout(native.BATCH, q.shape[0], q.shape[1], k.shape[1], diagonal, 0)
    scores = row_biases.scores_by_rows(
        _of_heads(me.scores, sparse.heads), layout, sparse.rate, remainder=0
    )
    return q, k, v, layout, encode_head_rules([Full().rule(0)]), scores


def _backward_own(me: Rank, whole, deltas: list, into, dbias) -> None:
    """Adds to the gradients `into`, of q, k and v, and to that of the bias if there is one."""
    for branch, delta in enumerate(deltas):
        incoming = Incoming(whole.dout, whole.lse, delta)
        problem = _own_problem(me, branch)
        sums = me.run_backward(*problem, incoming, into, wants_bias=dbias is not None)
        if dbias is not None:
            dbias += row_biases.gradient_of_values(sums, me.scores, 1, 0)


def _forward_sparse(me: Rank, sparse: SparseKeys, keys, out, lse) -> None:
    rows, heads = _rows(me, sparse.queries), _slice(sparse.heads)
    lse_rows = lse[:, heads, rows].contiguous()  # engines step through neighbours only
    me.run_forward(*_sparse_problem(me, sparse, keys), out[:, rows, heads], lse_rows)
    lse[:, heads, rows] = lse_rows


def _backward_sparse(me: Rank, sparse: SparseKeys, keys, incoming, dq, wants_bias) -> tuple:
    """Adds to dq. -> (the gradients of the keys and values, sums of the bias or None)."""
    rows, heads = _rows(me, sparse.queries), _slice(sparse.heads)
    problem = _sparse_problem(me, sparse, keys)
    of_rows = Incoming(
        incoming.dout[:, rows, heads],
        incoming.lse[:, heads, rows].contiguous(),
        incoming.delta[:, heads, rows].contiguous(),
    )
    expanded = zeros_like(problem[1:3])
    sums = me.run_backward(*problem, of_rows, (dq[:, rows, heads], *expanded), wants_bias)
    gradients = zeros_like(keys)
    for gradient, parts in zip(gradients, expanded):
        for head, place in enumerate(sparse.places):
            gradient[:, :, place] += parts[:, :, head]
    return gradients, sums


def _deltas_of_branches(me: Rank, whole, blocks) -> list:
    """Each branch has its own where its weight in the mixture is a constant."""
    deltas = []
    for branch in range(len(me.route.branches.pairs)):
        out, lse = me._replace(sink_logits=None).empty_result()
        me.run_forward(*_own_problem(me, branch), out, lse)
        for sparse, keys in blocks:
            if sparse.branch == branch:
                _forward_sparse(me, sparse, keys, out, lse)
        deltas.append(whole._replace(out=out).delta(me.backend.engine))
    return deltas


def _gather(me: Rank) -> tuple:
    """Starts to bring the kept keys of other ranks here. -> ([(SparseKeys, [k, v])], wait)."""
    leaving = [
        (peer, [_heads(x[:, _rows(me, s.keys)], s.kv_heads) for x in (me.k, me.v)])
        for peer, sparse in me.route.leaving
        for s in sparse
    ]
    return _exchange(me, leaving, me.route.arriving, me.q.dtype)


def _send_home(me: Rank, gradients: list) -> tuple:
    """The way back: gradients of what arrived go home, those of what had left come back."""
    peers = [peer for peer, sparse in me.route.arriving for _ in sparse]
    leaving = list(zip(peers, gradients, strict=True))
    return _exchange(me, leaving, me.route.leaving, accumulator_dtype(me.q.dtype))


def _exchange(me: Rank, leaving: list, arriving, dtype) -> tuple:
    sends, receives, blocks = [], [], []
    for peer, tensors in leaving:
        sends += [Message(x.contiguous(), peer) for x in tensors if x.numel()]
    for peer, sparse in arriving:
        for one in sparse:
            shape = (me.q.shape[0], len(one.keys), len(one.kv_heads))
            tensors = [me.q.new_empty((*shape, x.shape[-1]), dtype=dtype) for x in (me.k, me.v)]
            receives += [Message(x, peer) for x in tensors if x.numel()]
            blocks.append((one, tensors))
    return blocks, me.communicator.exchange(me.rank, sends, receives)


def _for_each_query_head(x, sparse: SparseKeys):
    if sparse.places == tuple(range(x.shape[2])):
        return x
    return _heads(x, sparse.places)


def _heads(x, chosen: tuple):
    """A copy of these heads. (A list of them as an index would have to go to a GPU, and be waited
    for.)"""
    return torch.stack([x[:, :, head] for head in chosen], 2)


def _of_heads(scores: Scores, heads: range) -> Scores:
    if scores.bias is None:
        return scores
    return scores._replace(bias=scores.bias[_slice(heads)].contiguous())


def _rows(me: Rank, positions: range) -> slice:
    begin = me.route.begin
    return slice(positions.start - begin, positions.stop - begin, positions.step)


def _slice(heads: range) -> slice:
    return slice(heads.start, heads.stop, heads.step)
