# SPDX-License-Identifier: BSD-3-Clause
"""Ways to use weights that were trained with RoPE beyond the length of their training."""

from __future__ import annotations

import dataclasses
from typing import Callable

import longattn
from longattn import Causal, LogN, RotaryEmbedding, Window
from longattn.demo.model import Attend
from longattn.demo.settings import SINK_TOKENS
from longattn.rope import NTK, DynamicNTK, Linear, YaRN

LEAK = 32  # Leaky ReRoPE: 16 training lengths then span less than one
DYNAMIC_FACTOR = 2.0  # as in Hugging Face's documentation


def rotated_attention(rope, mask=None, *, softmax_scale=None, **rotation) -> Attend:
    """rotation: keywords of `longattn.apply_rotary`."""
    mask = Causal() if mask is None else mask

    def attend(q, k, v):
        q, k = longattn.apply_rotary(q, k, rope, **rotation)
        return longattn.attention(q, k, v, mask, softmax_scale=softmax_scale)

    return attend


def rotary_rows(rope: RotaryEmbedding, length: int) -> dict[str, Callable[[int], Attend]]:
    """Label -> multiple of the training length -> how to attend in contexts of that length."""
    half = length // 2

    def masked(mask):
        return lambda multiple: rotated_attention(rope, mask)

    def ceiling(q, k, v):
        return longattn.lm_infinite_attention(
            q, k, v, rope, window=length, sink_tokens=SINK_TOKENS, distance_ceiling=length
        )

    def rerope(**keywords):
        def attend(q, k, v):
            return longattn.rerope_attention(q, k, v, rope, window=half, **keywords)

        return lambda multiple: attend

    def scaled(scaling_of):
        def at(multiple):
            scaling = scaling_of(multiple)
            changed = dataclasses.replace(rope, scaling=scaling, max_position_embeddings=length)
            return rotated_attention(changed)

        return at

    return {
        "RoPE": masked(Causal()),
        f"window {length}": masked(Window(length)),
        f"lambda: window {length} + {SINK_TOKENS} sinks": masked(
            Window(length, sink_tokens=SINK_TOKENS)
        ),
        f"lambda, distance ceiling {length}": lambda multiple: ceiling,
        f"ReRoPE {half}": rerope(),
        f"ReRoPE {half}, logn": rerope(q_scale=LogN(length)),
        f"Leaky ReRoPE {half}, leak {LEAK}": rerope(leak=LEAK),
        f"Leaky ReRoPE {half}, leak {LEAK}, logn": rerope(leak=LEAK, q_scale=LogN(length)),
        "position interpolation": scaled(Linear),
        "NTK": scaled(NTK),
        "YaRN": scaled(lambda multiple: YaRN(multiple, original_max_position_embeddings=length)),
        f"dynamic NTK, factor {DYNAMIC_FACTOR:g}": scaled(lambda _: DynamicNTK(DYNAMIC_FACTOR)),
    }
