# SPDX-License-Identifier: BSD-3-Clause
"""The attention functions that the demo compares, each as q, k, v -> out for the decoder."""

from __future__ import annotations

import functools

import torch
from torch.nn import functional

import longattn
from longattn.demo.model import Attend
from longattn.demo.settings import SINK_TOKENS


@functools.cache
def rope(head_dim: int) -> longattn.RotaryEmbedding:
    return longattn.RotaryEmbedding(head_dim)


def rotated(q: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return longattn.apply_rotary(q, k, rope(q.shape[3]))


def longattn_attends(window: int) -> dict[str, Attend]:
    """Masks by name. A window of the training length shows no distance that training did not."""

    def causal(q, k, v):
        return longattn.attention(*rotated(q, k), v, longattn.Causal())

    def sliding_window(q, k, v):
        return longattn.attention(*rotated(q, k), v, longattn.Window(window))

    def window_and_sinks(q, k, v):
        q, k = rotated(q, k)
        return longattn.lambda_attention(q, k, v, window=window, sink_tokens=SINK_TOKENS)

    def window_and_sinks_with_ceiling(q, k, v):
        """LM-Infinite: as above, but a sink beyond the window counts as `window` tokens away."""
        return longattn.lm_infinite_attention(
            q, k, v, rope(q.shape[3]), window=window, sink_tokens=SINK_TOKENS,
            distance_ceiling=window,
        )  # fmt: skip

    return {
        "causal": causal,
        f"window {window}": sliding_window,
        f"lambda: window {window} + {SINK_TOKENS} sinks": window_and_sinks,
        "lambda, sink distance <= window": window_and_sinks_with_ceiling,
    }


def sdpa_attends(window: int) -> dict[str, Attend]:
    """The same masks for torch's scaled_dot_product_attention, as far as it can say them.

    `is_causal` is aligned to the top left there; with q_len == kv_len, as here, that is causal
    attention. Windows need a boolean [length, length] tensor; it is kept between calls.
    """

    def attend(q, k, v, **mask):
        q, k, v = (x.transpose(1, 2) for x in (*rotated(q, k), v))
        return functional.scaled_dot_product_attention(q, k, v, **mask).transpose(1, 2)

    def causal(q, k, v):
        return attend(q, k, v, is_causal=True)

    def sliding_window(q, k, v):
        return attend(q, k, v, attn_mask=visible_pairs(q.shape[1], window, 0))

    def window_and_sinks(q, k, v):
        return attend(q, k, v, attn_mask=visible_pairs(q.shape[1], window, SINK_TOKENS))

    names = longattn_attends(window)
    return dict(zip(names, (causal, sliding_window, window_and_sinks)))


def contenders(window: int) -> dict[str, Attend]:
    """Both, each longattn function followed by its rival, under the names of the speed table."""
    rivals = sdpa_attends(window)
    result = {}
    for name, attend in longattn_attends(window).items():
        result[f"longattn  {name}"] = attend
        if name in rivals:
            argument = "is_causal=True" if name == "causal" else "boolean attn_mask"
            result[f"SDPA      {name.split(':')[0]}, {argument}"] = rivals[name]
    return result


@functools.lru_cache(maxsize=1)
def visible_pairs(length: int, window: int, sink_tokens: int) -> torch.Tensor:
    position = torch.arange(length)
    distance = position[:, None] - position
    return (distance >= 0) & ((distance < window) | (position < sink_tokens))
