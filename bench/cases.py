# SPDX-License-Identifier: BSD-3-Clause
"""What is measured: longattn's call, the rival's, and the multiplications that the mask asks for."""

from __future__ import annotations

import dataclasses
from typing import Callable

import torch

import longattn
from bench import contenders


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    rival: str
    dtype: torch.dtype
    length: int
    heads: int
    head_dim: int
    ours: Callable  # of q, k, v [batch, length, heads, dim]
    theirs: Callable  # of q, k, v [batch, heads, length, dim]
    visible_pairs: int  # of one head


def causal_pairs(length: int) -> int:
    return length * (length + 1) // 2


def lambda_pairs(length: int, window: int, sink_tokens: int) -> int:
    pairs = 0
    for query in range(length):
        near = max(0, query - window + 1)
        pairs += query + 1 - near + min(sink_tokens, near)
    return pairs


def dense_case(dtype, head_dim, length=4096, heads=8) -> Case:
    return Case(
        "dense causal",
        "torch SDPA",
        dtype,
        length,
        heads,
        head_dim,
        lambda q, k, v: longattn.attention(q, k, v, longattn.Causal()),
        contenders.dense_causal,
        causal_pairs(length),
    )


def lambda_case(dtype, head_dim=128, length=8192, heads=8, window=1024, sink_tokens=64) -> Case:
    return Case(
        f"{sink_tokens} sinks + window {window}",
        "chunked SDPA loop",
        dtype,
        length,
        heads,
        head_dim,
        lambda q, k, v: longattn.lambda_attention(
            q, k, v, window=window, sink_tokens=sink_tokens
        ),
        lambda q, k, v: contenders.chunked_lambda(q, k, v, window, sink_tokens),
        lambda_pairs(length, window, sink_tokens),
    )


def standard_cases() -> list:
    dtypes = (torch.float32, torch.bfloat16)
    dense = [dense_case(dtype, head_dim) for dtype in dtypes for head_dim in (64, 128)]
    return dense + [lambda_case(dtype) for dtype in dtypes]
