# SPDX-License-Identifier: BSD-3-Clause
"""Rotations, and attention with two of them, beside what they add to."""

from __future__ import annotations

import torch

import longattn
from bench.gpu_contender import OURS, Case, ours
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
    contenders = (
        ours(lambda q, k: longattn.apply_rotary(q, k, rope)),
        ours(lambda q, k: (Copy.apply(q), Copy.apply(k)), "copy"),
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

    contenders = (
        ours(dense),
        ours(rerope(None), "ReRoPE"),
        ours(rerope(16.0), "Leaky ReRoPE"),
    )
    pairs = causal_pairs(length) * heads
    return Case("dense causal with RoPE", length, heads, HEAD_DIM, contenders, pairs)


def ceiling_case(length, window, sink_tokens, heads=16) -> Case:
    rope = longattn.RotaryEmbedding(HEAD_DIM)

    def infinite(ceiling):
        return lambda *qkv: longattn.lm_infinite_attention(
            *qkv, rope, window=window, sink_tokens=sink_tokens, distance_ceiling=ceiling
        )

    contenders = (ours(infinite(None), OURS), ours(infinite(window), "with ceiling"))
    pairs = lambda_pairs(length, window, sink_tokens) * heads
    return Case("lambda with RoPE", length, heads, HEAD_DIM, contenders, pairs)


def position_cases(k: int) -> list:
    """k: 1024, or less in a test."""
    return [
        rotary_case(32 * k),
        rerope_case(16 * k, k),
        ceiling_case(32 * k, k, sink_tokens=max(2, k // 16)),
    ]
