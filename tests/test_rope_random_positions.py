# SPDX-License-Identifier: BSD-3-Clause
"""Random positions for training: shapes, order, means, and the generator that decides them."""

import itertools

import pytest
import torch

from longattn import RotaryEmbedding
from longattn.rope import DynamicNTK, Grid, Linear, YaRN, random_positions

DRAWS = {
    "giraffe": lambda length, **told: random_positions.giraffe(length, **told),
    "subset": lambda length, **told: random_positions.subset(length, 4 * length, **told),
    "equal_mean": lambda length, **told: random_positions.equal_mean(length, **told),
    "equal_mean beta": lambda length, **told: random_positions.equal_mean(
        length, longest=8 * length, alpha=0.7, **told
    ),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("length", [1, 2, 13, 64])
def test_shapes_order_and_range(name, length):
    draw, dtype = DRAWS[name], torch.int64 if name == "subset" else torch.float64
    one = draw(length, generator=seeded())
    rows = draw(length, generator=seeded(), batch_size=5)
    assert one.shape == (length,) and rows.shape == (5, length)
    for positions in (one, rows):
        assert positions.dtype == dtype and (positions >= 0).all()
        steps = positions.diff(dim=-1)
        assert (steps >= 0).all() and (name != "subset" or (steps > 0).all())
    if length == 64:
        assert len({tuple(row) for row in rows.tolist()}) == 5


@pytest.mark.parametrize("name", DRAWS)
def test_the_generator_decides_and_nothing_else(name):
    draw, state = DRAWS[name], torch.get_rng_state()
    first, again = (draw(16, generator=seeded(1), batch_size=3) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, draw(16, generator=seeded(2), batch_size=3))
    assert torch.equal(torch.get_rng_state(), state)
    generator = seeded(1)
    draw(16, generator=generator, batch_size=3)
    assert not torch.equal(first, draw(16, generator=generator, batch_size=3))


def test_giraffe_shrinks_and_never_stretches():
    rows = random_positions.giraffe(64, generator=seeded(), batch_size=500)
    ends = rows[:, -1]
    assert ends.max() == pytest.approx(64, rel=1e-14) and ends.min() < 60
    assert 150 < (ends > 64 - 1e-9).sum() < 350  # about half of the rows would end beyond
    short = rows[ends < 64 - 1e-9]
    assert (short.diff(dim=-1) < 2).all() and (short.diff(dim=-1).max() > 1.9)
    # The same draw by the formula of the official code.
    steps = torch.rand((500, 64), generator=seeded(), dtype=torch.float64) * 2
    expected = steps.cumsum(-1)
    expected = expected * (64 / expected[:, -1:].clamp(min=64))
    torch.testing.assert_close(rows, expected, rtol=1e-14, atol=0)


def test_giraffe_minimum_step():
    rows = random_positions.giraffe(64, generator=seeded(), batch_size=200, minimum_step=0.05)
    free = rows[rows[:, -1] < 64 - 1e-9]
    assert len(free) > 20 and 0.05 <= free.diff(dim=-1).min() < 0.06
    assert (rows[:, 0] > 0.04).all()


def test_subsets_are_all_equally_likely():
    rows = random_positions.subset(2, 4, generator=seeded(), batch_size=6000)
    counts = {pair: 0 for pair in itertools.combinations(range(4), 2)}
    for row in rows.tolist():
        counts[tuple(row)] += 1
    assert all(850 < count < 1150 for count in counts.values()), counts
    assert random_positions.subset(7, 7, generator=seeded()).tolist() == list(range(7))


def test_spread_positions():
    assert random_positions.spread(5, 20).tolist() == [0, 5, 10, 14, 19]
    assert random_positions.spread(7, 7).tolist() == list(range(7))
    assert random_positions.spread(1, 100).tolist() == [0]
    assert random_positions.spread(3, 2**40 + 1).tolist() == [0, 2**39, 2**40]


@pytest.mark.parametrize("told", [{}, {"longest": 512}, {"longest": 512, "alpha": 0.3}])
def test_equal_means(told):
    rows = random_positions.equal_mean(64, generator=seeded(), batch_size=20000, **told)
    assert rows[:, -1].mean().item() == pytest.approx(64, rel=0.04)
    torch.testing.assert_close(rows, rows[:, -1:] * torch.linspace(0, 1, 64).double())
    if "longest" in told:
        assert rows.max() <= 512
    else:
        assert rows[:, -1].std().item() == pytest.approx(64, rel=0.05)  # exponential


def test_equal_means_without_room_are_plain():
    rows = random_positions.equal_mean(8, generator=seeded(), longest=8)
    torch.testing.assert_close(rows, torch.linspace(0, 8, 8, dtype=torch.float64))


def test_a_grid_turns_by_fractional_positions():
    positions = random_positions.giraffe(50, generator=seeded())
    steps = 2**20
    whole = random_positions.to_grid(positions, steps)
    assert whole.dtype == torch.int64
    for scaling in (None, Linear(3), YaRN(4.0)):
        told = {"max_position_embeddings": 64}
        plain = RotaryEmbedding(16, scaling=scaling, **told).inv_freq
        grid = RotaryEmbedding(16, scaling=Grid(steps, of=scaling), **told).inv_freq
        angles = positions[:, None] * plain
        torch.testing.assert_close(whole[:, None] * grid, angles, rtol=0, atol=0.51 / steps)


BAD = [
    (lambda: random_positions.giraffe(0, generator=seeded()), ValueError, "length .*at least 1"),
    (lambda: random_positions.giraffe(4, generator=None), TypeError, "generator .*None"),
    (lambda: random_positions.giraffe(4, generator=0), TypeError, "generator must be a torch.Gen"),
    (lambda: random_positions.subset(4, 9, generator=0), TypeError, "generator must be a torch.G"),
    (
        lambda: random_positions.equal_mean(4, longest=9, generator=3),
        TypeError,
        "generator must be a torch.Generator, got 3",
    ),
    (
        lambda: random_positions.giraffe(4, generator=seeded(), minimum_step=2),
        ValueError,
        "minimum_step must be at least 0 and less than 2, got 2",
    ),
    (
        lambda: random_positions.giraffe(4, generator=seeded(), batch_size=0),
        ValueError,
        "batch_size .*at least 1.* 0",
    ),
    (lambda: random_positions.subset(4, 3, generator=seeded()), ValueError, "longest .*4, got 3"),
    (lambda: random_positions.spread(4, 3), ValueError, "longest must be at least length = 4"),
    (
        lambda: random_positions.equal_mean(4, generator=seeded(), longest=3),
        ValueError,
        "longest must be at least length = 4, got 3",
    ),
    (
        lambda: random_positions.equal_mean(4, generator=seeded(), longest=9, alpha=0),
        ValueError,
        "alpha must be a number greater than 0",
    ),
    (lambda: random_positions.to_grid(torch.arange(3), 4), TypeError, "positions .*floating"),
    (lambda: random_positions.to_grid([0.5], 4), TypeError, "positions .*floating"),
    (lambda: random_positions.to_grid(torch.rand(3), 0), ValueError, "steps .*at least 1"),
    (lambda: Grid(8, of=DynamicNTK()), ValueError, "of must not depend on the length"),
]


@pytest.mark.parametrize("call, exception, says", BAD, ids=[says for *_, says in BAD])
def test_bad_input(call, exception, says):
    with pytest.raises(exception, match=says):
        call()
