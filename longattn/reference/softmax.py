# SPDX-License-Identifier: BSD-3-Clause
"""One softmax over dense scores, in which a key may count several times, and partial ones mixed."""

import math

import torch


def attend(q, k, v, counts, softmax_scale, bias=None, softcap=None, sink_logits=None):
    """(out, lse) of softmax(scores + ln counts); counts [q_heads, q_len, kv_len], 0 hides a key.

    bias [q_heads, q_len, kv_len]; sink_logits [q_heads]: one more key a head, of value 0.
    """
    group = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
    scale = q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale
    scores = torch.einsum("bihd,bjhd->bhij", q, k) * scale
    return weigh(scores, v, counts, bias, softcap, sink_logits)


def weigh(scores, v, counts, bias=None, softcap=None, sink_logits=None):
    """The same, of scores [batch, q_heads, q_len, kv_len] and v [batch, kv_len, q_heads, dim]."""
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    hidden = counts == 0
    scores = scores + counts.to(scores.dtype).clamp(min=1).log()
    # Rows that see nothing go through softmax as zeros and are cleared afterwards: a row of -inf
    # would be NaN, and its gradient would stay NaN behind any mask.
    sees_nothing = hidden.all(dim=-1)
    scores = scores.masked_fill(hidden & ~sees_nothing[..., None], -math.inf)
    if sink_logits is not None:
        return _attend_with_sinks(scores.masked_fill(hidden, -math.inf), v, sink_logits)
    scores = scores.masked_fill(sees_nothing[..., None], 0.0)
    weights = scores.softmax(dim=-1).masked_fill(hidden, 0.0)
    out = torch.einsum("bhij,bjhd->bihd", weights, v)
    lse = scores.to(lse_dtype(scores)).logsumexp(dim=-1).masked_fill(sees_nothing, -math.inf)
    return out, lse


def _attend_with_sinks(scores, v, sink_logits):
    """A column of sink logits, of which no value comes: there is no row that sees nothing."""
    sinks = sink_logits.to(scores.dtype)[None, :, None, None].expand(*scores.shape[:-1], 1)
    scores = torch.cat([scores, sinks], dim=-1)
    out = torch.einsum("bhij,bjhd->bihd", scores.softmax(dim=-1)[..., :-1], v)
    return out, scores.to(lse_dtype(scores)).logsumexp(dim=-1)


def mixing_weights(lses):
    """e^(lse_a - lse) of each partial, 0 where all are empty, and lse, their sum's logarithm."""
    stacked = torch.stack(torch.broadcast_tensors(*lses))
    empty = (stacked == -math.inf).all(dim=0)
    stacked = stacked.masked_fill(empty, 0.0)
    weights = stacked.softmax(dim=0).masked_fill(empty, 0.0)
    return weights, stacked.logsumexp(dim=0).masked_fill(empty, -math.inf)


def mix(outs, weights):
    dtype = torch.stack([out.new_zeros(()) for out in outs]).dtype
    mixed = sum(
        out * weight.transpose(-1, -2).unsqueeze(-1)  # [..., heads, rows] -> [..., rows, heads, 1]
        for out, weight in zip(outs, weights, strict=True)
    )
    return mixed.to(dtype)


def lse_dtype(q):
    return torch.float64 if q.dtype == torch.float64 else torch.float32
