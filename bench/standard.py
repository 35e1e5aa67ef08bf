# SPDX-License-Identifier: BSD-3-Clause
"""The standard set of a CPU: what README, the report and the goals are made of.

Dense, window and dilated are measured at several lengths, with the dense line, for the length at
which a pattern overtakes it; README has the longest of them.

Slow contenders that no goal names are left out: the command of a pattern has all of them."""

from __future__ import annotations

import dataclasses

from bench.cases import PATTERNS
from bench.cases.scores import PLAIN, Biases, Scores
from bench.cases.threads import ONE
from bench.cases.two_bands import DENSE, LAMBDA
from bench.contenders.chunked import CHUNKED
from bench.contenders.flex import FLEX
from bench.contenders.gathered import GATHERED
from bench.contenders.grouped import GROUPED
from bench.contenders.rotation import COMPILED, COPY, EAGER, HALVES
from bench.contenders.sdpa import FLOAT_MASK, SDPA
from bench.contenders.sinks import EAGER as COLUMN
from bench.contenders.sinks import FUSED
from bench.contenders.two_bands import CHUNKED as BANDS_CHUNKED
from bench.contenders.two_bands import EAGER as BANDS
from bench.contenders.xpos import EAGER as XPOS
from bench.measure import PARTS, Job

DTYPES = ("float32", "bfloat16")
FORWARD = ("forward",)
ERROR_LENGTH = 1024
DENSE_SDPA = f"dense: {SDPA}"
ROTATIONS = (EAGER, HALVES, COMPILED, COPY)


FEW = {"q_heads": 4}  # where eight would only take longer


def standard_jobs() -> list:
    jobs = []
    for dtype in DTYPES:
        for head_dim in (64, 128):
            jobs.append(_job("dense", PARTS, (SDPA,), dtype, head_dim=head_dim))
            jobs += [
                _job("dense", PARTS, (SDPA,), dtype, head_dim=head_dim, length=length)
                for length in (1024, 2048)
            ]
        jobs += [
            *(_job("window", FORWARD, (CHUNKED, DENSE_SDPA), dtype, length=length, **FEW)
              for length in (1024, 2048, 4096, 16384)),
            _job("window", PARTS, (CHUNKED,), dtype, **FEW),
            *(_job("dilated", FORWARD, (GATHERED, DENSE_SDPA), dtype, length=length, **FEW)
              for length in (4096, 8192)),
            _job("sinks", PARTS, (CHUNKED,), dtype),
            _job("sinks", FORWARD, (FLEX,), dtype, length=4096, **FEW),
            _job("dilated", PARTS, (GATHERED,), dtype, **FEW),
            _job("shifted", PARTS, (GROUPED,), dtype, **FEW),
            _job("rotary", PARTS, ROTATIONS, dtype),
            _job("rerope", PARTS, (DENSE,), dtype, **FEW),
            _job("rerope", PARTS, (BANDS,), dtype, length=2048, **FEW),
            _job("lm_infinite", PARTS, (LAMBDA, BANDS_CHUNKED), dtype, **FEW),
            _job("xpos", PARTS, (DENSE, XPOS), dtype, **FEW),
            *(_job("biases", PARTS, (PLAIN, *more), dtype, kind=kind, **FEW)
              for kind, more in zip(Biases.KINDS, ((FLOAT_MASK, FLEX), (), (), ()), strict=True)),
            *(_job("scores", PARTS, (PLAIN, *more), dtype, kind=kind, **FEW)
              for kind, more in zip(Scores.KINDS, ((FLEX,), (FUSED,)), strict=True)),
            _job("scores", PARTS, (COLUMN,), dtype, kind="sink_logits", length=2048, **FEW),
            _job("threads", PARTS, (ONE,), dtype),
        ]  # fmt: skip
    return jobs


def _job(pattern, parts, rivals, dtype, **settings):
    return Job(PATTERNS[pattern](dtype=dtype, **settings), parts, rivals)


def forced_jobs() -> dict:
    """One of held.ENVIRONMENTS -> jobs that a process of its own measures."""
    return {
        "avx2": [_job("dense", PARTS, (SDPA,), "float32")],
        "kept_memory": [_job("rotary", PARTS, ROTATIONS, dtype) for dtype in DTYPES],
    }


# What the errors are taken from: shapes that float64 and matrices of scores can hold.
SMALL = {"window": 128, "sink_tokens": 16, "distance_ceiling": 128, "group_size": 256}


def small(case_class, **settings):
    """The pattern at ERROR_LENGTH, with sizes to match."""
    names = {field.name for field in dataclasses.fields(case_class)}
    fitting = {name: value for name, value in SMALL.items() if name in names}
    if "segment_lengths" in names:
        fitting["segment_lengths"] = (128, 256, 512)
    return case_class(**{"length": ERROR_LENGTH, "q_heads": 2, **fitting, **settings})


def error_jobs() -> list:
    """One of each pattern in each dtype, beside every rival that needs no compiler."""
    jobs = []
    for name, case_class in PATTERNS.items():
        if name == "threads":
            continue
        for kind in getattr(case_class, "KINDS", (None,)):
            settings = {} if kind is None else {"kind": kind}
            for dtype in (*DTYPES, "float16"):
                case = small(case_class, dtype=dtype, **settings)
                rivals = [
                    one.name
                    for one in case.rivals()
                    if not one.baseline and "compiled" not in one.name
                ]
                jobs.append(Job(case, PARTS, tuple(rivals)))
    return jobs
