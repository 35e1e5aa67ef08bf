# SPDX-License-Identifier: BSD-3-Clause
"""Whether the values of a tensor can be looked at before the work begins."""

from __future__ import annotations

import os

import torch


def may_read_values(device: torch.device) -> bool:
    """On a GPU that would wait for the device: only where LONGATTN_CHECK=1 asks for it. Kernels
    clamp the borders in any case, so that wrong ones cannot lead outside of the tensors."""
    return device.type != "cuda" or os.environ.get("LONGATTN_CHECK") == "1"


def has_values(tensor: torch.Tensor) -> bool:
    """Not while torch.compile or torch.func look at a call: there they come later, or are many."""
    return not (
        torch.compiler.is_compiling()
        or tensor.device.type == "meta"
        or isinstance(tensor, torch._subclasses.FakeTensor)
        or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def active_fake_mode():
    """The FakeTensorMode that is on, or None: what is computed then must not be kept."""
    if torch.compiler.is_compiling():
        return None
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE)


def can_be_read(tensor: torch.Tensor) -> bool:
    return may_read_values(tensor.device) and has_values(tensor)
