# SPDX-License-Identifier: BSD-3-Clause
"""A learned logit in each head's denominator, as Hugging Face's gpt-oss writes it: one more column
of scores. Tensors are [batch, heads, length, dim], the logits [heads]."""

from __future__ import annotations

import math

import torch

from bench.contenders.base import Contender, square_fits
from bench.contenders.sdpa import flash

EAGER = "one more column of scores, eager"
FUSED = "torch SDPA, scaled by its lse"


def attend(q, k, v, logits):
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
    ahead = torch.ones(scores.shape[2:], dtype=torch.bool, device=q.device).triu(1)
    column = logits[None, :, None, None].to(q.dtype).expand(*scores.shape[:3], 1)
    combined = torch.cat([scores.masked_fill(ahead, -math.inf), column], -1)
    wide = torch.promote_types(q.dtype, torch.float32)
    return combined.softmax(-1, dtype=wide).to(q.dtype)[..., :-1] @ v


def scaled(q, k, v, logits):
    """The logit takes a share of the denominator: what is left is sigmoid(lse - logit)."""
    if q.requires_grad:
        raise NotImplementedError("torch's fused kernel gives no gradient of lse")
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    out, lse = flash(q, k, v)
    return out.mul_(torch.sigmoid(lse - logits[:, None])[..., None].to(out.dtype))


def fused() -> Contender:
    return Contender(FUSED, lambda: scaled)


def eager(case) -> Contender:
    def prepare():
        square_fits(case, 6)
        return attend

    return Contender(EAGER, prepare)
