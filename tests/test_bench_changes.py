# SPDX-License-Identifier: BSD-3-Clause
"""`bench compare`: whatever moved in a run is seen."""

import copy

import pytest

from bench import changes, record
from bench.__main__ import main
from bench_rows import committed, result, row


def test_what_moved_beyond_its_spread():
    before = result(row("longattn"), row())
    assert changes.compare(before, copy.deepcopy(before)) == ([], [])
    slower = result(row("longattn", ms=[12.0, 11.0, 13.0]), row(ratio=[1.5, 1.4, 1.6]))
    found, remarks = changes.compare(before, slower)
    assert [(one.measure, one.better) for one in found] == [
        ("ms", False),
        ("time / longattn's", False),
    ]
    overlapping = result(row("longattn", ms=[10.4, 10.4, 11.0]), row(ratio=[1.95, 1.85, 2.0]))
    assert changes.compare(before, overlapping)[0] == []


def test_times_of_other_machines_are_not_compared():
    other = result(row("longattn", ms=[99.0, 98.0, 99.9]), row(ratio=[3.0, 2.9, 3.1]))
    other["machine"] = other["machine"] | {"processor": "Q"}
    found, remarks = changes.compare(result(row("longattn"), row()), other)
    assert [(one.measure, one.better) for one in found] == [("time / longattn's", True)]
    assert "machines differ" in remarks[0]


def test_rows_of_one_run_only_are_told():
    _, remarks = changes.compare(result(row(), row(length=64)), result(row()))
    assert remarks == ["times: 1 row is in the first run only"]


def times_ten(row, *names):
    for name in names:
        value = row[name]
        row[name] = [10 * x for x in value] if isinstance(value, list) else 10 * value


WORSE = {
    "errors": lambda run: [times_ten(one, "rms", "largest") for one in run["errors"]],
    "peaks": lambda run: [times_ten(one, "peak_mib") for one in run["rows"] if "peak_mib" in one],
    "small calls": lambda run: times_ten(run["small_call"], "longattn.attention"),
    "rings": lambda run: [times_ten(one, "ratio") for one in run["ring"]],
    "errors of rings": lambda run: [times_ten(one, "out") for one in run["ring_errors"]],
    "exponents": lambda run: [times_ten(one, "time_exponent") for one in run["scaling"]],
    "models": lambda run: [times_ten(one, "peak_mib") for one in run["end_to_end"]],
}


@pytest.mark.parametrize("what", WORSE)
def test_whatever_became_worse_is_seen(what):
    before, after = committed(), committed()
    assert changes.compare(before, after) == ([], [])
    WORSE[what](after)
    found, _ = changes.compare(before, after)
    assert found and not any(one.better for one in found)
    assert all(one.better for one in changes.compare(after, before)[0])


def test_a_longattn_that_became_wrong_is_worse(tmp_path, capsys):
    wrong = row("longattn", not_timed="wrong: out differs")
    del wrong["ms"]
    paths = [tmp_path / "before.json", tmp_path / "after.json"]
    record.save(result(row("longattn"), row()), paths[0])
    record.save(result(wrong, row()), paths[1])
    assert main(["compare", *map(str, paths)]) == 1
    told = capsys.readouterr().out
    assert "WORSE  dense causal, forward" in told and "wrong: out differs" in told
