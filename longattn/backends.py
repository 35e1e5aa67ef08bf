# SPDX-License-Identifier: BSD-3-Clause
"""Which engine runs a call. `why_not` gives the reason that the error prints: one piece of code
decides and explains."""

from __future__ import annotations

from typing import Optional

import torch

from longattn import native

MAX_DIM = 256
CPU_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
BACKENDS = {"cpu": "cpu"}  # backend -> device type of its tensors


def available(device_type: str) -> tuple:
    """(True, "") if a backend for tensors on this kind of device can run, else (False, reason)."""
    if device_type == "cpu":
        try:
            native.module()
        except ImportError as error:
            return False, str(error)
        return True, ""
    if device_type == "cuda":
        return False, "the CUDA engine is not part of this version: move the tensors to the CPU"
    return False, f"no engine for device type {device_type!r}; supported: 'cpu'"


def why_not(backend: str, dtype: torch.dtype) -> Optional[str]:
    """Why this backend cannot run tensors of this dtype, or None if it can."""
    usable, reason = available(BACKENDS[backend])
    if not usable:
        return reason
    if dtype not in CPU_DTYPES:
        accepted = ", ".join(str(dtype) for dtype in CPU_DTYPES)
        return f"q has dtype {dtype}; the {backend} backend takes {accepted}"
    return None


def choose(backend: Optional[str], device: torch.device) -> str:
    """The backend asked for, or the one for the tensors' device."""
    if backend is None:
        for name, device_type in BACKENDS.items():
            if device_type == device.type:
                return name
        raise NotImplementedError(available(device.type)[1])
    if backend not in BACKENDS:
        raise ValueError(f"backend must be None or one of {sorted(BACKENDS)}, got {backend!r}")
    if BACKENDS[backend] != device.type:
        raise ValueError(
            f"backend {backend!r} takes tensors on {BACKENDS[backend]!r}, q is on {str(device)!r}"
        )
    return backend
