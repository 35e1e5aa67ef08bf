# SPDX-License-Identifier: BSD-3-Clause
"""Rotations, and attention with two of them, beside what they add to."""

from __future__ import annotations

import torch

import longattn
from bench import cases
from bench.gpu_contender import Case, Contender, ours, plain
from bench.visible_pairs import causal_pairs, lambda_pairs
from longattn.masks import Causal

HEAD_DIM = 128


class Copy(torch.autograd.Function):
    """clone() in both directions; its own gradient is handed on uncopied."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.clone()


def rotary_case(length, heads=32, kv_heads=8) -> Case:
    """q and k read once and written once, as a copy of them does. The backward pass likewise."""
    rope = longattn.RotaryEmbedding(HEAD_DIM)

    def copied(q, k):
        return Copy.apply(q), Copy.apply(k)

    def copied_rows(inputs, start, stop):
        return tuple(x[:, start:stop].clone() for x in inputs)

    contenders = (
        ours(lambda q, k: longattn.apply_rotary(q, k, rope), cases.Rotary(head_dim=HEAD_DIM).truth),
        Contender("copy", plain(copied), copied_rows, role="baseline"),
    )
    moved = 2 * 2 * length * (heads + kv_heads) * HEAD_DIM
    return Case(
        "apply_rotary", length, heads, HEAD_DIM, contenders, kv_heads=kv_heads, moved_bytes=moved,
        inputs="qk", results="qk",
    )  # fmt: skip


def rerope_case(length, window, heads=16) -> Case:
    rope = longattn.RotaryEmbedding(HEAD_DIM)

    def dense(q, k, v):
        return longattn.attention(*longattn.apply_rotary(q, k, rope), v, Causal())

    def rerope(leak):
        return lambda *qkv: longattn.rerope_attention(*qkv, rope, window=window, leak=leak)

    def truth(near, leak=None):
        return cases.ReRope(head_dim=HEAD_DIM, window=near, leak=leak).truth

    contenders = (
        ours(dense, truth(length)),  # every distance is below this window
        ours(rerope(None), truth(window), "ReRoPE"),
        ours(rerope(16.0), truth(window, 16.0), "Leaky ReRoPE"),
    )
    pairs = causal_pairs(length) * heads
    return Case("dense causal with RoPE", length, heads, HEAD_DIM, contenders, pairs)


def ceiling_case(length, window, sink_tokens, heads=16) -> Case:
    rope = longattn.RotaryEmbedding(HEAD_DIM)

    def infinite(ceiling):
        return lambda *qkv: longattn.lm_infinite_attention(
            *qkv, rope, window=window, sink_tokens=sink_tokens, distance_ceiling=ceiling
        )

    def truth(ceiling):
        sizes = {"window": window, "sink_tokens": sink_tokens, "distance_ceiling": ceiling}
        return cases.LmInfinite(head_dim=HEAD_DIM, **sizes).truth

    contenders = (
        ours(infinite(None), truth(None)),
        ours(infinite(window), truth(window), "with ceiling"),
    )
    pairs = lambda_pairs(length, window, sink_tokens) * heads
    return Case("lambda with RoPE", length, heads, HEAD_DIM, contenders, pairs)


def position_cases(k: int) -> list:
    """k: 1024, or less in a test."""
    return [
        rotary_case(32 * k),
        rerope_case(16 * k, k),
        ceiling_case(32 * k, k, sink_tokens=max(2, k // 16)),
    ]
