# SPDX-License-Identifier: BSD-3-Clause
"""ReRoPE and LM-Infinite as their authors' code computes them: two matrices of scores, one of each
rotation, and a choice between them. Tensors are [batch, heads, length, dim].

In float64 the same code is the truth."""

from __future__ import annotations

import math

import torch

from bench.contenders import chunked
from bench.contenders.base import Contender, square_fits
from bench.contenders.rotation import tables, turned, turned_to

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
    weights = scores.softmax(-1, dtype=torch.promote_types(q.dtype, torch.float32)).to(q.dtype)
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
    near = (turned_to(q, i, rope), turned_to(k, j, rope))
    far = near
    if ceiling is not None:
        far = (turned_to(q, torch.full_like(i, ceiling), rope), k)
    distance = i[:, None] - j
    visible = (distance >= 0) & ((distance < window) | (j < sink_tokens))
    return mixed_scores(q, k, v, near, far, distance < window, visible)


def chunked_lm_infinite(length, rope, window, sink_tokens, ceiling, dtype, device="cpu"):
    """-> the function of q, k, v: blocks of queries, each with the keys that it needs. All are
    rotated and split once, and only sinks have far scores."""
    positions = torch.arange(length, device=device)
    true = tables(positions, rope, dtype, device)
    if ceiling is None:
        attend = chunked.chunked_lambda(length, window, sink_tokens, device)
        return lambda q, k, v: attend(turned(q, *true), turned(k, *true), v)
    at_ceiling = tables(torch.full_like(positions, ceiling), rope, dtype, device)
    borders = chunked.pieces(length, sink_tokens)
    sinks = positions[:sink_tokens]
    first = [n for n, end in enumerate(borders[1:]) if end <= sink_tokens]
    plan = []
    for start in range(0, length, chunked.CHUNK):
        i = positions[start : start + chunked.CHUNK, None]
        numbers = chunked.needed(start, start + len(i), window, 0, borders)
        j = torch.cat([positions[borders[n] : borders[n + 1]] for n in numbers])
        not_far = i - sinks < window
        plan.append((numbers, (i < j) | (i - j >= window), None if not_far.all() else not_far))

    def call(q, k, v):
        near_q, near_k, far_q = turned(q, *true), turned(k, *true), turned(q, *at_ceiling)
        near_keys, keys, values = (chunked.split(x, borders) for x in (near_k, k, v))
        queries = zip(*(x.split(chunked.CHUNK, 2) for x in (near_q, far_q)))
        wide, outs = torch.promote_types(q.dtype, torch.float32), []
        for (near, far), (numbers, hidden, not_far) in zip(queries, plan):
            scores = [_scores(near, chunked.joined(near_keys, numbers), hidden)]
            seen = [chunked.joined(values, numbers)]
            if not_far is not None:
                scores.append(_scores(far, chunked.joined(keys, first), not_far))
                seen.append(chunked.joined(values, first))
            weights = torch.cat(scores, -1)
            weights = weights.softmax(-1, dtype=wide).to(q.dtype)
            outs.append(_weighted(weights, torch.cat(seen, 2)))
        return torch.cat(outs, 2)

    return call


def _scores(q, k, hidden):
    """The rows of grouped heads stand below each other: keys are not repeated."""
    rows = q.unflatten(1, (k.shape[1], -1)).flatten(2, 3)
    scores = (rows @ k.transpose(2, 3)) / math.sqrt(q.shape[-1])
    return scores.view(*q.shape[:3], -1).masked_fill(hidden, -math.inf)


def _weighted(weights, v):
    rows = weights.unflatten(1, (v.shape[1], -1)).flatten(2, 3)
    return (rows @ v).view(*weights.shape[:3], -1)


def eager_rerope(case, rope) -> Contender:
    def prepare():
        square_fits(case, 6)
        return lambda q, k, v: rerope(q, k, v, rope, case.window, case.leak)

    return Contender(EAGER, prepare)


def chunked_bands(case, rope) -> Contender:
    def prepare():
        shape = (case.window, case.sink_tokens, case.distance_ceiling)
        return chunked_lm_infinite(case.length, rope, *shape, case.torch_dtype, case.device)

    return Contender(CHUNKED, prepare)
