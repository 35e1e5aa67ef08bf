# SPDX-License-Identifier: BSD-3-Clause
"""A projection, not a measurement: how long a rank's block must be for computing to hide what is
sent, from a rate of the kernels and the bandwidth of a link."""

from __future__ import annotations

import dataclasses
import time
from typing import Optional

import torch

import longattn
from longattn.ring.pieces import Geometry
from longattn.ring.ranges import size
from longattn.ring.route import route
from longattn.ring.row_rules import bounds_at

LONGEST_BLOCK = 2**22
SAMPLES = 64  # query rows of a meeting that are asked what they see
PRODUCTS = {"forward": 2, "backward": 5}
GRADIENT_BYTES = 4  # float32
ADDED = 1.05
WORLD_SIZES = (2, 4, 8, 16)


@dataclasses.dataclass(frozen=True)
class Machine:
    flops: float  # of attention, a second
    bandwidth: float  # of a link, bytes a second in each direction


@dataclasses.dataclass(frozen=True)
class Model:
    mask: longattn.masks.Mask
    layout: str
    world_size: int
    q_heads: int = 32
    kv_heads: int = 8
    head_dim: int = 128
    element_bytes: int = 2


def smallest_block(model: Model, machine: Machine, part: str) -> Optional[int]:
    """Rows of a rank, a power of two, from which on a pass takes at most ADDED times what computing
    alone does. None: not even the longest block is enough."""
    rows = 16
    while rows <= LONGEST_BLOCK:
        steps = steps_of(model, machine, part, rows)
        if sum(map(max, steps)) <= ADDED * sum(computed for _, computed in steps):
            return rows
        rows *= 2
    return None


def steps_of(model: Model, machine: Machine, part: str, rows: int) -> list:
    """(seconds of sending, seconds of computing) at the same time, of the busiest ranks, in the
    order of longattn/ring/loop.py: at each hop keys and values go on while this block is computed
    with; its gradients leave when that is done, while the next one is, and nothing hides the last
    ones."""
    geometry = Geometry(rows * model.world_size, model.world_size, model.layout)
    rules = (model.mask.rule(0),)
    numbers = 2 * model.kv_heads * model.head_dim  # of a row of keys and values
    flops_of_pair = PRODUCTS[part] * 2 * model.head_dim * model.q_heads
    ranks = [route(geometry, rules, rank) for rank in range(model.world_size)]
    gradients = [0] * model.world_size  # bytes that every rank still has to send
    steps = []
    for number, hop in enumerate(zip(*ranks)):
        keys = [size(one.onward) * numbers * model.element_bytes for one in hop]
        pairs = max(sum(map(_pairs, one.meetings)) for one in hop)
        sent = max(map(sum, zip(keys, gradients)))
        steps.append((sent / machine.bandwidth, pairs * flops_of_pair / machine.flops))
        if part == "backward" and number > 0:
            gradients = [(size(o.onward) + size(o.home)) * numbers * GRADIENT_BYTES for o in hop]
    return [*steps, (max(gradients) / machine.bandwidth, 0.0)]


def _pairs(meeting) -> float:
    """Visible pairs of a meeting, by a sample of its query rows."""
    (q_begin, q_end), (k_begin, k_end) = meeting.q_rows, meeting.k_rows
    q_len, k_len = q_end - q_begin, k_end - k_begin
    samples = min(SAMPLES, q_len)
    rule = _rule_of(meeting)
    seen = 0
    for sample in range(samples):
        row = (2 * sample + 1) * q_len // (2 * samples)
        bounds = bounds_at(rule, meeting.offset.diagonal + row, k_len)
        seen += bounds.sink_end - bounds.floor + bounds.end - bounds.begin
    return seen * q_len / samples


def _rule_of(meeting):
    """The one rule of a meeting, from the numbers that the engines take."""
    _, soft_left, sinks, terms, *numbers = meeting.rules
    triples = [tuple(numbers[i : i + 3]) for i in range(0, 3 * terms, 3)]
    return longattn.masks.HeadRule(tuple(triples), soft_left, sinks)


def measured_flops(length: int = 2048, heads: int = 4, head_dim: int = 128) -> float:
    """Causal attention of longattn here, on one thread in bfloat16."""
    q, k, v = torch.randn(3, 1, length, heads, head_dim, dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        longattn.attention(q, k, v, longattn.Causal())
        best = min(best, time.process_time() - start)
    return length * (length + 1) / 2 * heads * 4 * head_dim / best


def table_of(machine: Machine) -> list:
    """Lines of text for masks, ranks and GQA ratios."""
    cases = [
        ("full", longattn.Full(), "contiguous"),
        ("causal", longattn.Causal(), "zigzag"),
        ("window 4096", longattn.Window(4096), "contiguous"),
    ]
    lines = [
        f"A projection for kernels of {machine.flops / 1e12:.4g} TFLOP/s and links of "
        f"{machine.bandwidth / 1e9:.4g} GB/s, 32 heads of 128, 16-bit numbers: rows of a rank (a "
        f"power of two) from which on sending adds at most {ADDED - 1:.0%} to computing.",
        f"{'mask':12} {'layout':11} {'ranks':>5} {'kv heads':>8} {'forward':>9} {'backward':>9}",
    ]
    for name, mask, layout in cases:
        for world_size in WORLD_SIZES:
            for kv_heads in (32, 8, 1):
                model = Model(mask, layout, world_size, kv_heads=kv_heads)
                blocks = (smallest_block(model, machine, part) for part in PRODUCTS)
                told = [f"{block if block else 'none':>9}" for block in blocks]
                lines.append(f"{name:12} {layout:11} {world_size:5} {kv_heads:8} {' '.join(told)}")
    return lines
