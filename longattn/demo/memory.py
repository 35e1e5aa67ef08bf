# SPDX-License-Identifier: BSD-3-Clause
"""Peak memory of a call: the operating system's count on a CPU, torch's allocator on CUDA."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path
from typing import Callable

import torch

RESET_PEAK = "5"  # what Linux takes, written to /proc/self/clear_refs, as "forget the peak"


def peak_memory(call: Callable[[], object], device: torch.device) -> int | None:
    """Bytes held at the peak of call() beyond those held before it; None where nobody counts."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    _give_free_memory_back()
    try:
        Path("/proc/self/clear_refs").write_text(RESET_PEAK)
        before = _status_bytes("VmRSS")
        call()
        return _status_bytes("VmHWM") - before
    except (OSError, KeyError):  # not Linux, or a sandbox that does not let us
        return None


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(fields[field].split()[0]) * 1024  # "  123456 kB"


def _give_free_memory_back() -> None:
    """Else a call could live on what earlier ones left behind, and seem to need less."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # only glibc has it
        return
