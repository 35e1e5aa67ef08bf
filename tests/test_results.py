# SPDX-License-Identifier: BSD-3-Clause
"""README shows what the committed runs say, to the letter."""

from bench import record, summary


def test_readme_shows_the_committed_results():
    assert summary.committed(), "there are no results"
    assert summary.shown() == summary.section(), "README is stale: `python -m bench readme`"


def test_every_committed_row_is_whole():
    for path in summary.committed():
        result = record.load(path)
        assert {"processor", "isa", "threads", "torch", "commit"} <= set(result["machine"])
        keys = [record.key(row) for row in result["rows"]]
        assert len(keys) == len(set(keys)) > 0
        for row in result["rows"]:
            assert ("ms" in row) != ("not_timed" in row)
            assert row["role"] != "ours" or "ms" in row, "longattn was wrong"


def test_ratios_and_times_of_the_same_rounds_agree():
    """The quotient of the medians lies between the smallest and the largest ratio of a round."""
    compared = 0
    for path in summary.committed():
        rows = record.load(path)["rows"]
        ours = {summary.case_key(row): row for row in rows if row["role"] == "ours"}
        for row in rows:
            mine = ours[summary.case_key(row)]
            if "ratio" not in row or row["rounds"] != mine["rounds"]:
                continue  # nobody stops before the others any more
            compared += 1
            _, low, high = row["ratio"]
            quotient = row["ms"][0] / mine["ms"][0]
            assert low * 0.99 <= quotient <= high * 1.01, summary.case_key(row)
    assert compared > 50
