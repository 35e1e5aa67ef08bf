# SPDX-License-Identifier: BSD-3-Clause
"""Processes whose environment holds everybody to the same: an instruction set, or memory.

Calls that write much and compute little, such as a rotation, measure page faults: by default glibc
returns large blocks to the kernel as soon as they are free, and every call gets them anew. A
training process that keeps its memory does not pay for that, so both are measured."""

from __future__ import annotations

ENVIRONMENTS = {
    # torch's kernels and the libraries under them, and ours
    "avx2": {
        "LONGATTN_ISA": "avx2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "kept_memory": {
        "GLIBC_TUNABLES": f"glibc.malloc.mmap_threshold={2**32}:"
        f"glibc.malloc.trim_threshold={2**32}",
    },
}


def missing(name: str, environment) -> str:
    """What of it is not set, as a shell would set it; "" if nothing."""
    wanted = ENVIRONMENTS[name].items()
    return " ".join(f"{key}={value}" for key, value in wanted if environment.get(key) != value)


def labels(environment) -> dict:
    """What the rows of such a process say beside their case."""
    found = {}
    if environment.get("LONGATTN_ISA"):
        found["isa"] = environment["LONGATTN_ISA"]
    if environment.get("ATEN_CPU_CAPABILITY"):
        found["torch_isa"] = environment["ATEN_CPU_CAPABILITY"]
    if not missing("kept_memory", environment):
        found["memory"] = "kept"
    return found


def text_of(row: dict) -> str:
    """With a comma before it; "" for a row of no such process."""
    isa, torch_isa = row.get("isa"), row.get("torch_isa")
    told = ""
    if isa and isa == torch_isa:
        told = f", both held to {isa}"
    else:
        told += f", longattn held to {isa}" if isa else ""
        told += f", torch held to {torch_isa}" if torch_isa else ""
    return told + (", freed memory kept" if row.get("memory") else "")
