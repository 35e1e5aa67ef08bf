# SPDX-License-Identifier: BSD-3-Clause
"""Which of a process group's backends carries tensors of a device: there may be one for each."""

from __future__ import annotations

from typing import Optional

import torch
import torch.distributed as dist


def backend_of(group, device: torch.device) -> Optional[str]:
    """None: the group carries nothing of this device."""
    try:
        return group._get_backend(device).name()
    except RuntimeError:
        return None


def check_carries(group, device: torch.device) -> None:
    """Raises:
    ValueError: what ranks send each other on this device does not go through this group."""
    carrier = backend_of(group, device)
    if carrier is None or (carrier == "gloo" and device.type != "cpu"):
        raise ValueError(
            f"a {dist.get_backend(group)} group does not carry what ranks send each other on "
            f"{device.type}: gloo carries tensors of the CPU, NCCL those of CUDA, and "
            "init_process_group('cpu:gloo,cuda:nccl') takes both"
        )
