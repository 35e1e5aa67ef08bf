# SPDX-License-Identifier: BSD-3-Clause
"""Which engine runs a call. `can_run` gives the reason that the error prints: one piece of code
decides and explains."""

from __future__ import annotations

from typing import Optional

import torch

from longattn import native

MAX_DIM = 256
MAX_LENGTH = 2**31 - 2**16  # row indices are 32-bit, and a tile may reach beyond the last row
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


def can_run(backend: str, dtype: torch.dtype) -> tuple:
    """(True, "") if this backend takes tensors of this dtype, else (False, reason)."""
    usable, reason = available(BACKENDS[backend])
    if usable and dtype not in CPU_DTYPES:
        accepted = ", ".join(str(dtype) for dtype in CPU_DTYPES)
        return False, f"q has dtype {dtype}; the {backend} backend takes {accepted}"
    return usable, reason


def choose(backend: Optional[str], device: torch.device) -> str:
    """The backend asked for, or the one for the tensors' device."""
    if backend is None:
        if device.type not in BACKENDS.values():
            raise NotImplementedError(available(device.type)[1])
        backend = next(name for name, kind in BACKENDS.items() if kind == device.type)
    if backend not in BACKENDS:
        raise ValueError(f"backend must be None or one of {sorted(BACKENDS)}, got {backend!r}")
    if BACKENDS[backend] != device.type:
        raise ValueError(
            f"backend {backend!r} takes tensors on {BACKENDS[backend]!r}, q is on {str(device)!r}"
        )
    native.module()  # ImportError with what to do where it is not built
    return backend
