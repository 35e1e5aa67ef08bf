# SPDX-License-Identifier: BSD-3-Clause
"""Every pattern of bench/ at sizes that take milliseconds."""

import dataclasses

from bench import work
from bench.cases import PATTERNS

# What rates are compared with; no test looks at the figures.
work.MATRIX, work.COPY_BYTES = 64, 2**16

SIZES = {
    "window": 40,
    "sink_tokens": 5,
    "distance_ceiling": 30,
    "group_size": 32,
    "segment_lengths": (16, 32, 64),
    "threads": 2,
}


def tiny(name: str, **settings):
    """A case of 128 rows, 4 heads of 16 dimensions."""
    names = {field.name for field in dataclasses.fields(PATTERNS[name])}
    fitting = {key: value for key, value in SIZES.items() if key in names}
    return PATTERNS[name](**{"length": 128, "q_heads": 4, "head_dim": 16, **fitting, **settings})


def kinds(name: str) -> list:
    """The settings that make each kind of the pattern."""
    return [{"kind": kind} for kind in getattr(PATTERNS[name], "KINDS", ())] or [{}]


EVERY = [(name, settings) for name in PATTERNS for settings in kinds(name)]


def label(value) -> str:
    return value if isinstance(value, str) else "".join(value.values()) or "-"
