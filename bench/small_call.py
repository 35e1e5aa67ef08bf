# SPDX-License-Identifier: BSD-3-Clause
"""The price of a call so small that nothing but overhead is left."""

from __future__ import annotations

import torch

import longattn
from bench.timing import seconds_per_call


def calls() -> dict:
    """name -> function without arguments, on 4 rows of 2 heads that require gradients."""
    q = torch.randn(1, 4, 2, 16, requires_grad=True)
    rows_last = q.transpose(1, 2)
    mask, rope = longattn.Causal(), longattn.RotaryEmbedding(16)
    attend = torch.nn.functional.scaled_dot_product_attention
    return {
        "longattn.attention": lambda: longattn.attention(q, q, q, mask),
        "longattn.apply_rotary": lambda: longattn.apply_rotary(q, q, rope),
        "torch SDPA": lambda: attend(rows_last, rows_last, rows_last, is_causal=True),
    }


def overhead() -> dict:
    """name -> CPU microseconds a call."""
    return {name: round(seconds_per_call(call) * 1e6, 1) for name, call in calls().items()}


def text_of(found: dict) -> str:
    return "a small call with gradients: " + ", ".join(
        f"{name} {microseconds} µs" for name, microseconds in found.items()
    )
