# SPDX-License-Identifier: BSD-3-Clause
"""ReRoPE and LM-Infinite as their authors' code computes them: two matrices of scores, one of each
rotation, and a choice between them. Tensors are [batch, heads, length, dim].

In float64 the same code is the truth."""

from __future__ import annotations

import math

import torch

from bench.contenders.base import Contender, square_fits
from bench.contenders.rotation import turned_to

EAGER = "two score matrices, eager"
CHUNKED = "two score matrices, chunked loop"


def mixed_scores(q, k, v, near, far, is_near, visible):
    """near, far: (q, k) of either rotation; is_near, visible: [q_len, kv_len]."""
    group = q.shape[1] // k.shape[1]
    first, second = (
        (a @ b.repeat_interleave(group, 1).transpose(2, 3)) / math.sqrt(q.shape[-1])
        for a, b in (near, far)
    )
    scores = torch.where(is_near, first, second).masked_fill(~visible, -math.inf)
    wide = scores.dtype if scores.dtype == torch.float64 else torch.float32
    weights = scores.softmax(-1, dtype=wide).to(q.dtype)
    return weights @ v.repeat_interleave(group, 1)


def rerope(q, k, v, rope, window, leak, start=0):
    """Queries stand at `start` and on, keys at 0 and on. leak None: infinity."""
    i = start + torch.arange(q.shape[2], device=q.device)
    j = torch.arange(k.shape[2], device=q.device)
    slope = 0.0 if leak is None else 1.0 / leak
    near = (turned_to(q, i, rope), turned_to(k, j, rope))
    far_i = i.double() * slope + window * (1 - slope)
    far = (turned_to(q, far_i, rope), turned_to(k, j.double() * slope, rope))
    distance = i[:, None] - j
    return mixed_scores(q, k, v, near, far, distance < window, distance >= 0)


def lm_infinite(q, k, v, rope, window, sink_tokens, ceiling, start=0):
    """The last `window` keys, and the first sink_tokens at the distance ceiling (None: theirs)."""
    i = start + torch.arange(q.shape[2], device=q.device)
    j = torch.arange(k.shape[2], device=q.device)
    return _lambda_rows(q, k, v, rope, window, sink_tokens, ceiling, i, j)


def chunked_lm_infinite(q, k, v, rope, window, sink_tokens, ceiling, chunk=256):
    """The same in blocks of queries, each with the keys that it needs."""
    outs = []
    for start in range(0, q.shape[2], chunk):
        stop = min(start + chunk, q.shape[2])
        near = max(0, start - window + 1)
        sinks = torch.arange(min(sink_tokens, near), device=q.device)
        j = torch.cat([sinks, torch.arange(near, stop, device=q.device)])
        i = torch.arange(start, stop, device=q.device)
        rows = (q[:, :, start:stop], k[:, :, j], v[:, :, j])
        outs.append(_lambda_rows(*rows, rope, window, sink_tokens, ceiling, i, j))
    return torch.cat(outs, 2)


def _lambda_rows(q, k, v, rope, window, sink_tokens, ceiling, i, j):
    near = (turned_to(q, i, rope), turned_to(k, j, rope))
    far = near
    if ceiling is not None:
        far = (turned_to(q, torch.full_like(i, ceiling), rope), k)
    distance = i[:, None] - j
    visible = (distance >= 0) & ((distance < window) | (j < sink_tokens))
    return mixed_scores(q, k, v, near, far, distance < window, visible)


def eager_rerope(case, rope) -> Contender:
    def prepare():
        square_fits(case, 6)
        return lambda q, k, v: rerope(q, k, v, rope, case.window, case.leak)

    return Contender(EAGER, prepare)


def chunked(case, rope) -> Contender:
    shape = (case.window, case.sink_tokens, case.distance_ceiling)
    return Contender(CHUNKED, lambda: lambda q, k, v: chunked_lm_infinite(q, k, v, rope, *shape))
