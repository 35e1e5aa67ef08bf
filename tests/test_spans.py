# SPDX-License-Identifier: BSD-3-Clause
"""Ranges that profilers show: every op, its backward pass, and every step of a ring."""

import torch

import longattn
from longattn import ring, spans


def names_of(call) -> set:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        call()
    return {event.key for event in profile.key_averages()}


def test_steps_of_a_ring_have_names():
    plan = ring.plan(24, ring.VirtualRing(3), "contiguous")
    shards = [plan.shard(torch.randn(1, 24, 2, 8, requires_grad=True)) for _ in range(3)]

    def call():
        sum(out.sum() for out in plan.attention(*shards, longattn.Full())).backward()

    found = names_of(call)
    for part in ("forward", "backward"):
        steps = {f"longattn::ring {part}, keys of rank {rank}" for rank in range(3)}
        assert steps | {f"longattn::ring {part}, wait"} <= found


def test_ops_have_names():
    q, k, v = (torch.randn(1, 9, 2, 8, requires_grad=True) for _ in range(3))
    found = names_of(lambda: longattn.attention(q, k, v, longattn.Causal()).sum().backward())
    assert {"longattn::attention", "longattn::attention_backward"} <= found


def test_without_a_profiler_nothing_is_made():
    assert spans.span("anything") is spans.NOTHING
