# SPDX-License-Identifier: BSD-3-Clause
"""Rows and runs of bench/, made by hand."""

from bench import record, summary


def row(contender="torch SDPA", **changed) -> dict:
    """Twice as slow as longattn, in a case that has a goal."""
    made = {
        "pattern": "dense", "title": "dense causal", "parameters": {}, "length": 4096,
        "dtype": "float32", "head_dim": 64, "q_heads": 8, "kv_heads": 8, "batch": 1,
        "device": "cpu", "part": "forward", "contender": contender, "role": "rival",
        "ms": [20.0, 19.0, 22.0], "ratio": [2.0, 1.9, 2.2], "rounds": 5,
    }  # fmt: skip
    if contender == "longattn":
        made |= {"role": "ours", "ms": [10.0, 9.5, 10.5]}
        del made["ratio"]
    return made | changed


def result(*rows) -> dict:
    machine = {"processor": "P", "isa": "avx512", "threads": 1, "torch": "2", "longattn": "0",
               "commit": "c"}  # fmt: skip
    return {"format": record.FORMAT, "machine": machine, "options": {}, "rows": list(rows)}


def committed() -> dict:
    """A whole run, with a part of every kind."""
    return record.load(summary.committed()[0])
