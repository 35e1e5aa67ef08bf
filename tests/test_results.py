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
