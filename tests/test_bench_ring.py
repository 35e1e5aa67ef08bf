# SPDX-License-Identifier: BSD-3-Clause
"""What bench/ says of rings: work that is shared, errors, and the projection of overlap."""

import math

import pytest

import longattn
from bench import goals, ring, ring_overlap, tables
from bench.ring_overlap import Machine, Model

SMALL = ring.RingCase(length=96, q_heads=2, kv_heads=1, head_dim=16)


@pytest.mark.skipif(ring.cannot_run() is not None, reason=str(ring.cannot_run()))
def test_ranks_are_measured_together(monkeypatch):
    monkeypatch.setattr(ring, "WORLD_SIZES", (1, 2))
    rows = ring.measure(SMALL, rounds=1)
    assert [(row["world_size"], row["part"]) for row in rows] == [
        (1, "forward"), (1, "both"), (2, "forward"), (2, "both"),
    ]  # fmt: skip
    row_bytes = (16 + 16) * 4
    # Zigzag over two ranks: each sees the other's first chunk, and the first all of the second.
    sent = [row["megabytes"] * 1e6 / row_bytes for row in rows]
    assert sent[0] == sent[1] == 0 and sent[2] == pytest.approx(72, rel=0.05)
    assert sent[3] == pytest.approx(3 * sent[2], rel=0.05)  # keys, keys again, their gradients
    assert "| 2 |" in tables.ring_table(rows)


def test_errors_are_against_float64():
    row = ring.errors(ring.RingCase(dtype="float32", q_heads=2, kv_heads=2, head_dim=16))
    assert row["ranks"][0] == 1 and max(row["out"]) < 1e-6 < 1e-3
    assert all(value > 0 for name in ("out", "dq", "dk", "dv") for value in row[name])
    assert "1 rank |" in tables.ring_errors_table([row])


def test_a_goal_of_rings():
    row = {"title": "ring", "part": "both", "dtype": "float32", "length": 8192, "world_size": 4}
    result = {"rows": [], "ring": [row | {"ratio": 1.2}, row | {"world_size": 1, "ratio": 1.0}]}
    [verdict] = [one for one in goals.verdicts(result) if one.against == "one process"]
    assert verdict.met is False and verdict.value == 1.2


def block_by_formula(model, machine, part) -> int:
    """Full attention: n rows of keys, values and (backward) float32 gradients against n * n
    pairs."""
    row_bytes = 2 * model.kv_heads * model.head_dim * (2 + 4 * (part == "backward"))
    flops = ring_overlap.PRODUCTS[part] * 2 * model.head_dim * model.q_heads
    return 2 ** math.ceil(math.log2(row_bytes / machine.bandwidth * machine.flops / flops))


@pytest.mark.parametrize("part", ("forward", "backward"))
@pytest.mark.parametrize("kv_heads", (32, 8, 1))
def test_the_projection_of_full_attention(kv_heads, part):
    machine = Machine(3e14, 2e10)
    full = Model(longattn.Full(), "contiguous", 4, kv_heads=kv_heads)
    expected = block_by_formula(full, machine, part)
    assert ring_overlap.smallest_block(full, machine, part) == expected
    # Half of the pairs are hidden, for as many rows.
    causal = Model(longattn.Causal(), "zigzag", 4, kv_heads=kv_heads)
    assert ring_overlap.smallest_block(causal, machine, part) == 2 * expected


def test_a_window_that_outgrows_the_link():
    """A rank sends at most the window, however long its block is."""
    window = Model(longattn.Window(64), "contiguous", 2, q_heads=1, kv_heads=1, head_dim=64)
    assert ring_overlap.smallest_block(window, Machine(1e12, 1e9), "forward") <= 4096
    assert ring_overlap.smallest_block(window, Machine(1e20, 1.0), "forward") is None


def test_the_table_says_that_it_projects(monkeypatch):
    monkeypatch.setattr(ring_overlap, "smallest_block", lambda *_: None)
    first, *rest = ring_overlap.table_of(Machine(1e12, 1e9))
    assert first.startswith("A projection") and all("none" in line for line in rest[1:])
