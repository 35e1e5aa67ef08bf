# SPDX-License-Identifier: BSD-3-Clause
"""Which engine runs a call. `can_run` gives the reason that the error prints: one piece of code
decides and explains."""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch

from longattn import native

MAX_LENGTH = 2**31 - 2**16  # row indices are 32-bit, and a tile may reach beyond the last row


class Backend(NamedTuple):
    name: str
    device_type: str  # of the tensors that it takes
    engine: native.Engine
    dtypes: tuple
    max_dim: int  # of head_dim and value_dim


_backends = {
    "cpu": Backend(
        "cpu",
        "cpu",
        native.cpu,
        (torch.float16, torch.bfloat16, torch.float32, torch.float64),
        256,
    )
}


def register(backend: Backend) -> None:
    """Adds a backend, to be asked for by its name."""
    _backends[backend.name] = backend


def get(name: str) -> Backend:
    return _backends[name]


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


def can_run(backend: Backend, dtype: torch.dtype) -> tuple:
    """(True, "") if this backend takes tensors of this dtype, else (False, reason)."""
    if dtype in backend.dtypes:
        return True, ""
    accepted = ", ".join(str(dtype) for dtype in backend.dtypes)
    return False, f"q has dtype {dtype}; the {backend.name} backend takes {accepted}"


def choose(name: Optional[str], device: torch.device) -> Backend:
    """The backend asked for, or the one for the tensors' device."""
    if name is None:
        name = device.type
        if name not in _backends:
            raise NotImplementedError(available(name)[1])
    if name not in _backends:
        raise ValueError(f"backend must be None or one of {sorted(_backends)}, got {name!r}")
    backend = _backends[name]
    if backend.device_type != device.type:
        raise ValueError(
            f"backend {name!r} takes tensors on {backend.device_type!r}, q is on {str(device)!r}"
        )
    backend.engine.module()  # ImportError with what to do where it is not built
    return backend
