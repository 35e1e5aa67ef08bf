# SPDX-License-Identifier: BSD-3-Clause
"""What a user would write without longattn. Tensors are [batch, heads, length, dim]."""

from __future__ import annotations

import torch

scaled_dot_product_attention = torch.nn.functional.scaled_dot_product_attention


def dense_causal(q, k, v):
    """torch's fused kernel; its is_causal is aligned top left, the same for equal lengths."""
    return scaled_dot_product_attention(q, k, v, is_causal=True)


def chunked_lambda(q, k, v, window, sink_tokens, chunk=256):
    """Blocks of queries against the slice of keys that they need, each with a small mask."""
    blocks = []
    for start in range(0, q.shape[2], chunk):
        stop = min(start + chunk, q.shape[2])
        near = max(0, start - window + 1)
        if near <= sink_tokens:
            positions = torch.arange(stop)
            keys, values = k[:, :, :stop], v[:, :, :stop]
        else:
            positions = torch.cat([torch.arange(sink_tokens), torch.arange(near, stop)])
            keys = torch.cat([k[:, :, :sink_tokens], k[:, :, near:stop]], 2)
            values = torch.cat([v[:, :, :sink_tokens], v[:, :, near:stop]], 2)
        distance = torch.arange(start, stop)[:, None] - positions
        mask = (distance >= 0) & ((distance < window) | (positions < sink_tokens))
        blocks.append(
            scaled_dot_product_attention(q[:, :, start:stop], keys, values, attn_mask=mask)
        )
    return torch.cat(blocks, 2)
