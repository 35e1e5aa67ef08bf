# SPDX-License-Identifier: BSD-3-Clause
"""Sink logits between conventions, and in or out of partials that exist already.

`attention(..., sink_logits=s)` adds to each head one key of value 0 whose score, after scaling, is
s_h in natural units. That is the convention of gpt-oss (arXiv 2508.10925; `sinks` in Hugging
Face's model and `s_aux` in its attention functions, a column that joins the scaled and masked
scores) and of Miller's "softmax off by one" (s = 0). Functions below know other conventions.
"""

from __future__ import annotations

import math
from numbers import Integral, Real

import torch

from longattn import checks


def from_null_keys(count: float, q_heads: int, *, dtype=None, device=None) -> torch.Tensor:
    """`count` keys of score 0 and value 0, as in softmax_n: s = ln(count); 1 is off-by-one.

    [q_heads], of torch's default dtype and device where these are None."""
    if not isinstance(count, Real) or isinstance(count, bool):
        raise TypeError(f"count must be a number greater than 0, got {count!r}")
    if not 0 < count < math.inf:
        raise ValueError(f"count must be finite and greater than 0, got {count}")
    if not isinstance(q_heads, Integral) or isinstance(q_heads, bool) or q_heads < 0:
        raise TypeError(f"q_heads must be an integer of at least 0, got {q_heads!r}")
    return torch.full((int(q_heads),), math.log(count), dtype=dtype, device=device)


def from_log2(logits: torch.Tensor) -> torch.Tensor:
    """From kernels that keep scores in log2 units (weight 2^score)."""
    checks.check_is_tensor("logits", logits)
    return logits * math.log(2)


def to_log2(sink_logits: torch.Tensor) -> torch.Tensor:
    checks.check_is_tensor("sink_logits", sink_logits)
    return sink_logits / math.log(2)


def from_unscaled(logits: torch.Tensor, softmax_scale: float) -> torch.Tensor:
    """From a column that joins the scores before they are multiplied by softmax_scale."""
    checks.check_is_tensor("logits", logits)
    _check_scale(softmax_scale)
    return logits * softmax_scale


def to_unscaled(sink_logits: torch.Tensor, softmax_scale: float) -> torch.Tensor:
    checks.check_is_tensor("sink_logits", sink_logits)
    _check_scale(softmax_scale)
    if softmax_scale == 0:
        raise ValueError("a softmax_scale of 0 leaves no logit that could be unscaled")
    return sink_logits / softmax_scale


def with_sinks(out, lse, sink_logits):
    """The partial (out, lse), computed without sinks, as it would be with them.

    out [..., q_len, q_heads, value_dim], lse [..., q_heads, q_len], sink_logits [q_heads].
    Differentiable. To be done once for a softmax, after all of its partials are merged.
    """
    sinks = _column(out, lse, sink_logits)
    nothing = (lse == -math.inf) & (sinks == -math.inf)
    total = torch.logaddexp(torch.where(nothing, 0.0, lse), sinks)
    factor = torch.where(nothing, 0.0, torch.exp(lse - total))
    return _scaled(out, factor), torch.where(nothing, -math.inf, total)


def without_sinks(out, lse, sink_logits):
    """The inverse of with_sinks; rows that saw the sink alone become empty (0, -inf).

    A row whose sink takes nearly all of the softmax loses digits: lse does not hold them.
    """
    sinks = _column(out, lse, sink_logits)
    alone = lse <= sinks
    log_share = torch.where(alone, -1.0, sinks - lse)  # of the sink; any number where alone
    rest = -torch.expm1(log_share)  # 1 - share, with the digits that a share near 1 leaves
    log_rest = torch.where(log_share > -0.7, rest.log(), torch.log1p(-log_share.exp()))
    factor = torch.where(alone, 0.0, 1 / rest)
    return _scaled(out, factor), torch.where(alone, -math.inf, lse + log_rest)


def _check_scale(softmax_scale) -> None:
    if softmax_scale is None:
        raise TypeError("softmax_scale must be a number, got None")
    checks.check_scale(softmax_scale)


def _column(out, lse, sink_logits):
    for name, tensor in (("out", out), ("lse", lse), ("sink_logits", sink_logits)):
        checks.check_is_tensor(name, tensor)
    heads = (out.shape[-2],) if out.dim() >= 3 else None
    if heads is None or lse.shape[-2:] != (out.shape[-2], out.shape[-3]):
        raise ValueError(
            "out must have shape [..., q_len, q_heads, value_dim] and lse [..., q_heads, q_len], "
            f"got {tuple(out.shape)} and {tuple(lse.shape)}"
        )
    if tuple(sink_logits.shape) != heads:
        raise ValueError(
            f"sink_logits must have shape {list(heads)}, one a query head, got "
            f"{tuple(sink_logits.shape)}"
        )
    return sink_logits.to(lse.dtype)[:, None].expand_as(lse)


def _scaled(out, factor):
    return (out * factor.transpose(-1, -2).unsqueeze(-1)).to(out.dtype)
