# SPDX-License-Identifier: BSD-3-Clause
"""What is measured on a GPU: calls of longattn and what a user would write without it.

Every contender is given q, k, v [batch, heads, length, dim], contiguous, the layout of torch's own
functions; longattn is given [batch, length, heads, dim], contiguous, the layout of its own."""

from __future__ import annotations

import dataclasses
import functools
from typing import Callable, Optional

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import longattn
from bench.cases import causal_pairs, lambda_pairs
from bench.gpu_dilated import dilated_pairs, gathered_dilated

OURS = "longattn"


@dataclasses.dataclass(frozen=True)
class Contender:
    name: str
    prepare: Callable  # -> the function of q, k, v; may compile
    agrees_with: Optional[str] = OURS  # whose results it must give; None: it is the first
    rows_first: bool = False  # it takes [batch, length, heads, dim]


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    length: int
    heads: int
    head_dim: int
    visible_pairs: int  # of all heads
    contenders: tuple


def ours(function, name=OURS, agrees_with=None) -> Contender:
    return Contender(name, lambda: function, agrees_with, rows_first=True)


def sdpa(backend: SDPBackend):
    def call(q, k, v):
        with sdpa_kernel(backend):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    return lambda: call


def flex(length: int, window: int, sink_tokens: int):
    """FlexAttention, compiled, with the block mask that its authors would make."""

    def prepare():
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        def visible(batch, head, query, key):
            near = (query - key < window) | (key < sink_tokens)
            return (query >= key) & near

        mask = create_block_mask(visible, None, None, length, length, device="cuda")
        compiled = torch.compile(flex_attention, fullgraph=True, dynamic=False)
        return functools.partial(compiled, block_mask=mask)

    return prepare


def dense_case(head_dim: int, length=16384, heads=16) -> Case:
    return Case(
        "dense causal",
        length,
        heads,
        head_dim,
        causal_pairs(length) * heads,
        (
            ours(lambda *qkv: longattn.attention(*qkv, longattn.Causal())),
            Contender("SDPA flash", sdpa(SDPBackend.FLASH_ATTENTION)),
            Contender("SDPA cuDNN", sdpa(SDPBackend.CUDNN_ATTENTION)),
        ),
    )


def window_case(sink_tokens: int, head_dim=128, length=32768, heads=16, window=1024) -> Case:
    mask = longattn.Window(window, sink_tokens=sink_tokens)
    return Case(
        f"window {window}" + (f" + {sink_tokens} sinks" if sink_tokens else ""),
        length,
        heads,
        head_dim,
        lambda_pairs(length, window, sink_tokens) * heads,
        (
            ours(lambda *qkv: longattn.attention(*qkv, mask)),
            Contender("FlexAttention, compiled", flex(length, window, sink_tokens)),
        ),
    )


def dilated_case(head_dim=64, length=32768, heads=16) -> Case:
    segments, rates = (2048, 4096, 8192), (1, 2, 4)
    detached = f"{OURS}, detached weights"

    def call(*qkv, **arguments):
        return longattn.dilated_attention(*qkv, segments, rates, **arguments)

    return Case(
        f"dilated {list(segments)} / {list(rates)}",
        length,
        heads,
        head_dim,
        sum(dilated_pairs(length, segment, rate, heads) for segment, rate in zip(segments, rates)),
        (
            ours(call),
            # The gradient of torchscale's code, which is what its rival computes.
            ours(functools.partial(call, detach_weights=True), detached),
            Contender(
                "gather + SDPA flash",
                lambda: functools.partial(
                    gathered_dilated, segment_lengths=segments, dilation_rates=rates
                ),
                detached,
            ),
        ),
    )


def standard_cases() -> list:
    """Those that need no compiler come first."""
    dense = [dense_case(head_dim) for head_dim in (64, 128)]
    return [*dense, dilated_case(), window_case(0), window_case(64)]
