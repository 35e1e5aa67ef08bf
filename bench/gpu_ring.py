# SPDX-License-Identifier: BSD-3-Clause
"""A ring whose shards all live on one GPU beside the same attention in one call: what cutting it
into pieces and merging them costs. Nothing is sent; blocks are copied where they would be."""

from __future__ import annotations

from bench import gpu_truth
from bench.gpu_contender import Case, Contender, Layout, attend, plain
from bench.visible_pairs import causal_pairs, lambda_pairs
from longattn import ring
from longattn.masks import Causal, Window

RANKS = 8
ON_A_RING = f"ring of {RANKS}"


def ring_cases(k: int) -> list:
    """k: 1024, or less in a test. So long that the kernels take longer than the host does to launch
    those of all pieces."""
    window = 128 * k
    return [
        _case("causal", Causal(), "zigzag", 32 * k, causal_pairs(32 * k)),
        _case(f"window {k}", Window(k), "contiguous", window, lambda_pairs(window, k, 0)),
    ]


def _case(name: str, mask, layout: str, length: int, pairs: int, heads=16) -> Case:
    plan = ring.plan(length, ring.VirtualRing(RANKS), layout)
    on_ring = Contender(
        ON_A_RING,
        plain(lambda *qkv: plan.attention(*qkv, mask)),
        gpu_truth.attention(mask),
        Layout(plan.shard, plan.unshard, together=True),
        role="ours",
    )
    name = f"{ON_A_RING}, {name}, {layout}"
    return Case(name, length, heads, 128, (attend(mask), on_ring), pairs * heads)
