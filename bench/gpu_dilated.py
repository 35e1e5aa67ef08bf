# SPDX-License-Identifier: BSD-3-Clause
"""LongNet's dilated attention as one writes it without kernels of one's own: gather the rows of
every branch, call torch's FlashAttention, scatter, mix by lse (weights detached, as torchscale)."""

from __future__ import annotations

import torch

from bench.gpu_contender import Layout


def branches_as_dense(branches) -> Layout:
    """A tensor [1, length, heads, dim] as dense problems of the sizes of these branches, one call
    each: [length / segment, segment / rate, heads, dim]. Its rows are the first of each segment,
    which are as good as any for a measurement."""

    def split(x):
        pieces = []
        for segment_length, rate in branches:
            segments = x.view(-1, segment_length, *x.shape[2:])
            pieces.append(segments[:, : -(-segment_length // rate)].clone())
        return pieces

    return Layout(split)


def gathered_dilated(q, k, v, segment_lengths, dilation_rates):
    """q, k, v [1, heads, length, dim]; every segment length divides the length, every rate its
    segment length, and head h has offset h mod rate."""
    outs, lses = zip(
        *(_branch(q, k, v, w, r) for w, r in zip(segment_lengths, dilation_rates, strict=True))
    )
    weights = torch.stack(lses).softmax(0).detach()
    mixed = sum(out * weight[..., None].to(out.dtype) for out, weight in zip(outs, weights))
    return mixed


def _branch(q, k, v, segment_length, rate):
    """-> out [1, heads, length, dim], zero where not covered; lse [1, heads, length]."""
    _, heads, length, dim = q.shape
    segments, rows = length // segment_length, segment_length // rate
    head = torch.arange(heads, device=q.device)
    chosen = (head, slice(None), slice(None), head % rate)

    def gather(x):
        split = x[0].view(heads, segments, rows, rate, dim)
        return split[chosen].transpose(0, 1)  # [segments, heads, rows, dim]

    found = torch.ops.aten._scaled_dot_product_flash_attention(
        gather(q), gather(k), gather(v), is_causal=True
    )
    out = q.new_zeros(heads, segments, rows, rate, dim)
    lse = q.new_full((heads, segments, rows, rate), -torch.inf, dtype=torch.float32)
    out = out.index_put(_indices(chosen, segments, rows), found[0].transpose(0, 1))
    lse = lse.index_put(_indices(chosen, segments, rows), found[1].detach().transpose(0, 1))
    return out.view(1, heads, length, dim), lse.view(1, heads, length)


def _indices(chosen, segments, rows):
    """For index_put, which takes tensors only: [heads, segments, rows]."""
    head, _, _, offset = chosen
    segment = torch.arange(segments, device=head.device)
    row = torch.arange(rows, device=head.device)
    return (
        head[:, None, None],
        segment[None, :, None],
        row[None, None, :],
        offset[:, None, None],
    )
