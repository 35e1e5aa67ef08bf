# SPDX-License-Identifier: BSD-3-Clause
"""LongNet's dilated attention as one writes it without kernels of one's own: gather the rows of
every branch, call torch's fused kernel, scatter, mix by lse (weights detached, as torchscale)."""

from __future__ import annotations

import torch

from bench.contenders.base import Absent, Contender

GATHERED = "gather + SDPA + merge"


def gathered(case) -> Contender:
    def prepare():
        for segment_length, rate in zip(case.segment_lengths, case.dilation_rates):
            if case.length % segment_length or segment_length % rate:
                raise Absent(
                    f"it wants segments that divide the length {case.length} and rates that divide "
                    f"segments, not {segment_length} and {rate}"
                )
        if case.key_heads != case.q_heads:
            raise Absent("it has one key head for each query head")
        if not case.detach_weights:
            raise Absent("torch's fused kernel gives no gradient of lse: it detaches the weights")
        return lambda q, k, v: mixed(q, k, v, case.segment_lengths, case.dilation_rates)

    return Contender(GATHERED, prepare)


def mixed(q, k, v, segment_lengths, dilation_rates):
    """q, k, v [batch, heads, length, dim]; head h has offset h mod r."""
    outs, lses = zip(
        *(_branch(q, k, v, w, r) for w, r in zip(segment_lengths, dilation_rates, strict=True))
    )
    weights = torch.stack(lses).softmax(0)
    return sum(out * weight[..., None].to(out.dtype) for out, weight in zip(outs, weights))


def _branch(q, k, v, segment_length, rate):
    """-> out [batch, heads, length, dim], zero where not covered; lse [batch, heads, length]."""
    batch, heads, length, dim = q.shape
    shape = (batch, heads, length // segment_length, segment_length // rate, rate)
    # The kept rows of all heads, as places in a dimension of heads * rate.
    head = torch.arange(heads, device=q.device)
    kept = head * rate + head % rate

    def gather(x):
        by_offset = x.view(*shape, dim).movedim(4, 2).flatten(1, 2)
        return by_offset[:, kept].transpose(1, 2).flatten(0, 1)  # [batch * segments, heads, rows]

    def scatter(x, empty):
        rows = x.unflatten(0, (batch, -1)).transpose(1, 2)
        full = empty.index_copy(1, kept, rows)  # [batch, heads * rate, segments, rows, ...]
        return (
            full.unflatten(1, (heads, rate))
            .movedim(2, 4)
            .reshape(batch, heads, length, *x.shape[3:])
        )

    out, lse = _flash(gather(q), gather(k), gather(v))
    by_offset = (batch, heads * rate, shape[2], shape[3])
    out = scatter(out, q.new_zeros(*by_offset, dim))
    return out, scatter(lse.detach(), lse.new_full(by_offset, -torch.inf))


def _flash(q, k, v):
    """Causal; (out, lse)."""
    if q.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, is_causal=True)
    return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, is_causal=True)[:2]
