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
    alignment: int = 1  # bytes that every address and every stride is a multiple of


_backends = {
    "cpu": Backend(
        "cpu",
        "cpu",
        native.cpu,
        (torch.float16, torch.bfloat16, torch.float32, torch.float64),
        256,
    ),
    "cuda": Backend(
        "cuda", "cuda", native.cuda, (torch.float16, torch.bfloat16), 128, alignment=16
    ),
}


def register(backend: Backend) -> None:
    """Adds a backend, to be asked for by its name."""
    _backends[backend.name] = backend


def get(name: str) -> Backend:
    if name not in _backends:
        raise ValueError(f"backend must be one of {sorted(_backends)}, got {name!r}")
    return _backends[name]


def available(device_type: str) -> tuple:
    """(True, "") if a backend for tensors on this kind of device can run, else (False, reason)."""
    if device_type not in ("cpu", "cuda"):
        return False, f"no engine for device type {device_type!r}; supported: 'cpu' and 'cuda'"
    try:
        native.module()
    except ImportError as error:
        return False, str(error)
    reason = native.no_cuda_reason() if device_type == "cuda" else None
    if reason is not None:
        return False, native.cuda_sentence(reason)
    return True, ""


def can_run(backend: Backend, dtype: torch.dtype) -> tuple:
    """(True, "") if this backend takes tensors of this dtype, else (False, reason)."""
    if dtype in backend.dtypes:
        return True, ""
    accepted = ", ".join(str(dtype) for dtype in backend.dtypes)
    reason = f"q has dtype {dtype}; the {backend.name} backend takes {accepted}"
    if dtype in _backends["cpu"].dtypes:
        reason += ": cast q, k and v, or move them to the CPU, whose engine takes this dtype"
    return False, reason


def misalignment(backend: Backend, tensor: torch.Tensor) -> Optional[str]:
    """What keeps the backend from reading this tensor where it lies, or None."""
    if backend.alignment == 1:
        return None
    size = tensor.element_size()
    if tensor.numel() and tensor.data_ptr() % backend.alignment:
        return f"its first element must lie at a multiple of {backend.alignment} bytes"
    # Of empty tensors too: out is as wide as an empty v.
    if tensor.shape[-1] * size % backend.alignment:
        multiple = backend.alignment // size
        return f"its last dimension must be padded to a multiple of {multiple}"
    for length, stride in zip(tensor.shape[:-1], tensor.stride()):
        if length > 1 and (stride == 0 or stride * size % backend.alignment):
            return f"its strides must be multiples of {backend.alignment} bytes and not 0"
    return None


def choose(name: Optional[str], device: torch.device) -> Backend:
    """The backend asked for, or the one for the tensors' device."""
    if name is None and device.type not in _backends:
        raise NotImplementedError(available(device.type)[1])
    name = device.type if name is None else name
    if not isinstance(name, str) or name not in _backends:
        raise ValueError(f"backend must be None or one of {sorted(_backends)}, got {name!r}")
    backend = _backends[name]
    if backend.device_type != device.type:
        raise ValueError(
            f"backend {name!r} takes tensors on {backend.device_type!r}, q is on {str(device)!r}"
        )
    backend.engine.module()  # raises, with what to do, where it is not built or cannot be used
    if device.type == "cuda":  # of several GPUs some may be too old for the kernels
        reason = native.no_cuda_reason(device.index)
        if reason is not None:
            raise NotImplementedError(native.cuda_sentence(reason, f" on {device}"))
    return backend
