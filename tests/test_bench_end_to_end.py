# SPDX-License-Identifier: BSD-3-Clause
"""A whole model with longattn in it: does it learn what it learns with SDPA?"""

import pytest

import longattn
from bench import end_to_end, tables
from bench.__main__ import main
from bench.end_to_end import DENSE, SDPA, SINKS, Shape

pytestmark = pytest.mark.skipif(
    end_to_end.cannot_run() is not None, reason=str(end_to_end.cannot_run())
)
TINY = Shape(length=96, steps=3, layers=2, hidden=32, q_heads=2, kv_heads=1)


@pytest.fixture(scope="module")
def rows():
    return {row["contender"]: row for row in end_to_end.train(TINY)}


def test_losses_are_those_of_sdpa(rows):
    assert len(rows[SDPA]["losses"]) == TINY.steps + 1
    assert rows[DENSE]["losses"] == pytest.approx(rows[SDPA]["losses"], abs=2e-4)
    # A window of 512 hides nothing from 96 tokens.
    assert rows[SINKS]["losses"] == pytest.approx(rows[SDPA]["losses"], abs=2e-4)
    assert rows[SDPA]["losses"][-1] < rows[SDPA]["losses"][0]


def test_another_mask_shows_in_the_losses(rows, monkeypatch):
    monkeypatch.setitem(end_to_end.MASKS, DENSE, longattn.Window(8))
    other = {row["contender"]: row for row in end_to_end.train(TINY)}
    assert other[SDPA]["losses"] == rows[SDPA]["losses"]
    assert other[DENSE]["losses"] != pytest.approx(rows[SDPA]["losses"], abs=2e-4)


def test_the_table_has_the_ratio_of_speeds(rows):
    made = [rows[name] | {"tokens_per_second": speed} for name, speed in ((SDPA, 10), (DENSE, 25))]
    assert "| longattn, causal | 25 | 2.50 |" in tables.end_to_end_table(made)


def test_the_command_saves_what_it_finds(tmp_path):
    path = tmp_path / "run.json"
    sizes = ["--length", "64", "--steps", "1", "--layers", "1", "--hidden", "32"]
    assert main(["end_to_end", "--dtypes", "float32", *sizes, "--json", str(path)]) == 0
    assert '"end_to_end"' in path.read_text()
    assert main(["report", str(path), "--out", str(tmp_path / "page")]) == 0
    assert (tmp_path / "page" / "loss_0.png").exists()
