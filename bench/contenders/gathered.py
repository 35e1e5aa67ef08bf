# SPDX-License-Identifier: BSD-3-Clause
"""LongNet's dilated attention as one writes it without kernels of one's own: gather the rows of
every branch, call torch's fused kernel, scatter, mix by lse (weights detached, as torchscale)."""

from __future__ import annotations

import torch

from bench.contenders.base import Absent, Contender
from bench.contenders.sdpa import flash

GATHERED = "gather + SDPA + merge"


def gathered(case) -> Contender:
    def prepare():
        for segment_length, rate in zip(case.segment_lengths, case.dilation_rates):
            if case.length % segment_length or segment_length % rate:
                raise Absent(
                    f"it wants segments that divide the length {case.length} and rates that divide "
                    f"segments, not {segment_length} and {rate}"
                )
            if case.q_heads % rate:
                raise Absent(
                    f"it wants rates that divide the number of heads, {case.q_heads}, not {rate}"
                )
        if case.key_heads != case.q_heads:
            raise Absent("it has one key head for each query head")
        if not case.detach_weights:
            raise Absent("torch's fused kernel gives no gradient of lse: it detaches the weights")
        return lambda q, k, v: mixed(q, k, v, case.segment_lengths, case.dilation_rates)

    return Contender(GATHERED, prepare)


def mixed(q, k, v, segment_lengths, dilation_rates):
    """q, k, v [batch, heads, length, dim]; head h has offset h mod r. Only kept rows are copied."""
    branches = list(zip(segment_lengths, dilation_rates, strict=True))
    outs, lses = zip(*(_branch(q, k, v, w, r) for w, r in branches))
    weights = torch.stack(
        [_spread(lse, q.shape[:3], *branch) for lse, branch in zip(lses, branches)]
    ).softmax(0)
    mix = None if branches[0][1] == 1 else torch.zeros_like(v)
    for out, weight, (segment_length, rate) in zip(outs, weights, branches):
        weighted = out * _kept(weight[..., None], segment_length, rate).to(out.dtype)
        if mix is None:
            mix = weighted.view_as(v)
        else:
            _kept(mix, segment_length, rate).add_(weighted)
    return mix


def _kept(x, segment_length, rate):
    """[batch, heads, length, ...] -> its rows of a branch, a view
    [batch, heads / rate, rate, segments, rows, ...]: head and row have the same offset."""
    x = x.unflatten(2, (-1, segment_length // rate, rate)).unflatten(1, (-1, rate))
    return x.diagonal(0, 2, 5).movedim(-1, 2)


def _spread(lse, shape, segment_length, rate):
    """The kept rows' [batch, heads, length], -inf elsewhere."""
    full = lse.new_full(shape, -torch.inf)
    _kept(full[..., None], segment_length, rate).copy_(lse[..., None])
    return full


def _branch(q, k, v, segment_length, rate):
    """Of the kept rows: out [..., rows, dim] and lse [..., rows], without its gradient."""
    q, k, v = (_kept(x, segment_length, rate) for x in (q, k, v))
    shape = q.shape[:-1]
    out, lse = flash(*(x.reshape(-1, *x.shape[3:]) for x in (q, k, v)))
    return out.view(*shape, -1), lse.detach().reshape(shape)
