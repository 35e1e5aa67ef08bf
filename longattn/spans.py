# SPDX-License-Identifier: BSD-3-Clause
"""Named ranges for profilers: torch's own, and NVTX under `torch.autograd.profiler.emit_nvtx`. Ops
have theirs from torch; these are for steps within one autograd node."""

from __future__ import annotations

import contextlib

import torch

NOTHING = contextlib.nullcontext()


def span(name: str):
    """A context manager; while no profiler is on it does nothing."""
    if not torch.autograd._profiler_enabled():
        return NOTHING
    return torch.profiler.record_function(f"longattn::{name}")
