# SPDX-License-Identifier: BSD-3-Clause
"""What bench/ says of rings: work that is shared, errors, and the projection of overlap."""

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


def result_of(rows) -> dict:
    return {"rows": [], "ring": rows, "machine": {"threads": 1}}


def test_a_goal_of_rings():
    row = {"title": "ring", "part": "both", "dtype": "float32", "length": 8192, "world_size": 4}
    rows = [row | {"ratio": 1.2}, row | {"world_size": 1, "ratio": 1.0}]
    [verdict] = [one for one in goals.verdicts(result_of(rows)) if one.against == "one process"]
    assert verdict.met is False and verdict.value == 1.2


def test_a_rank_that_has_more_to_do_is_seen():
    """Rounds are compared, not ranks: all are slower in one."""
    found = ring.busiest([[1.0, 2.0, 1.0], [1.0, 2.0, 1.0], [1.0, 2.6, 1.3], [1.0, 2.0, 1.0]])
    assert found == [pytest.approx(1.3 / 1.075, abs=1e-3), 1.0, pytest.approx(2.6 / 2.15, abs=1e-3)]


def test_a_goal_of_the_busiest_rank():
    row = {"part": "both", "dtype": "float32", "length": 8192, "world_size": 4, "ratio": 1.0}
    rows = [
        row | {"title": "a", "layout": "zigzag", "busiest": [1.06, 1.0, 1.1]},
        row | {"title": "b", "layout": "zigzag", "busiest": [1.04, 1.0, 1.1]},
        row | {"title": "c", "layout": "contiguous", "busiest": [1.5, 1.4, 1.6]},
    ]
    verdicts = goals.verdicts(result_of(rows))
    found = [one for one in verdicts if one.against == "the mean of all ranks"]
    assert [(one.value, one.met) for one in found] == [(1.06, False), (1.04, True)]


def block_by_formula(model, machine, part) -> int:
    """Full attention over two ranks of n rows. Forward: one block travels beside the first of two
    blocks of n * n pairs. Backward: likewise, then its float32 gradients go home beside nothing."""
    numbers = 2 * model.kv_heads * model.head_dim

    def takes_little_more(n):
        computed = {"forward": 4, "backward": 10}[part] * model.head_dim * model.q_heads * n * n
        computed /= machine.flops
        block, home = (numbers * size * n / machine.bandwidth for size in (2, 4))
        total = max(computed, block) + computed + home * (part == "backward")
        return total <= 1.05 * 2 * computed

    return next(2**power for power in range(4, 30) if takes_little_more(2**power))


@pytest.mark.parametrize("part", ("forward", "backward"))
@pytest.mark.parametrize("kv_heads", (32, 8, 1))
def test_the_projection_of_full_attention(kv_heads, part):
    machine = Machine(3e14, 2e10)
    full = Model(longattn.Full(), "contiguous", 2, kv_heads=kv_heads)
    assert ring_overlap.smallest_block(full, machine, part) == block_by_formula(full, machine, part)


def test_gradients_leave_when_a_block_is_done():
    """Causal, two contiguous ranks of 100 rows: the second one has a block of the first one's keys,
    whose gradients go home when all is computed."""
    model = Model(longattn.Causal(), "contiguous", 2, q_heads=3, kv_heads=1, head_dim=10)
    rate = 5 * 2 * 10 * 3  # flops of a pair
    steps = ring_overlap.steps_of(model, Machine(rate, 100 * 20), "backward", 100)
    # Sampled rows give the pairs of a triangle but for its diagonal's half.
    expected = [(2, 100 * 101 / 2), (0, 100 * 100), (4, 0)]
    assert steps == [pytest.approx(step, rel=0.01) for step in expected]


def test_a_window_that_outgrows_the_link():
    """A rank sends at most the window, however long its block is."""
    window = Model(longattn.Window(64), "contiguous", 2, q_heads=1, kv_heads=1, head_dim=64)
    assert ring_overlap.smallest_block(window, Machine(1e12, 1e9), "forward") <= 4096
    assert ring_overlap.smallest_block(window, Machine(1e20, 1.0), "forward") is None


def test_the_table_says_that_it_projects(monkeypatch):
    monkeypatch.setattr(ring_overlap, "smallest_block", lambda *_: None)
    first, *rest = ring_overlap.table_of(Machine(1e12, 1e9))
    assert first.startswith("A projection") and all("none" in line for line in rest[1:])
