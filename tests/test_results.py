# SPDX-License-Identifier: BSD-3-Clause
"""README shows what the committed runs say, to the letter."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def test_readme_shows_the_committed_results():
    sys.path.insert(0, str(ROOT))
    try:
        from bench.table import markdown
    finally:
        sys.path.remove(str(ROOT))
    readme = (ROOT / "README.md").read_text()
    runs = sorted((ROOT / "bench/results").glob("*.json"))
    assert runs, "there are no results"
    for run in runs:
        assert markdown(run) in readme, f"README is stale: `python -m bench.table {run.name}`"
