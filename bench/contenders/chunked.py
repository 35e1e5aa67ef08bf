# SPDX-License-Identifier: BSD-3-Clause
"""The loop that a user writes: blocks of queries against the keys that they need, by SDPA."""

from __future__ import annotations

import torch

from bench.contenders.base import Contender
from bench.contenders.sdpa import attend

CHUNKED = "chunked SDPA loop"


def chunked_lambda(q, k, v, window, sink_tokens, chunk=256):
    """Tensors are [batch, heads, length, dim]; each block has a small mask."""
    blocks = []
    for start in range(0, q.shape[2], chunk):
        stop = min(start + chunk, q.shape[2])
        near = max(0, start - window + 1)
        if near <= sink_tokens:
            positions = torch.arange(stop, device=q.device)
            keys, values = k[:, :, :stop], v[:, :, :stop]
        else:
            sinks, others = torch.arange(sink_tokens), torch.arange(near, stop)
            positions = torch.cat([sinks, others]).to(q.device)
            keys = torch.cat([k[:, :, :sink_tokens], k[:, :, near:stop]], 2)
            values = torch.cat([v[:, :, :sink_tokens], v[:, :, near:stop]], 2)
        distance = torch.arange(start, stop, device=q.device)[:, None] - positions
        mask = (distance >= 0) & ((distance < window) | (positions < sink_tokens))
        blocks.append(attend(q[:, :, start:stop], keys, values, attn_mask=mask))
    return torch.cat(blocks, 2)


def chunked(window: int, sink_tokens: int = 0) -> Contender:
    return Contender(
        CHUNKED, lambda: lambda q, k, v, *_: chunked_lambda(q, k, v, window, sink_tokens)
    )
