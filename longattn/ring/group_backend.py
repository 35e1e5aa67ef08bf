# SPDX-License-Identifier: BSD-3-Clause
"""Which of a process group's backends carries tensors of a device: there may be one for each."""

from __future__ import annotations

from typing import Optional
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist

_connected = WeakKeyDictionary()  # group -> devices on which all of its ranks have met


def backend_of(group, device: torch.device) -> Optional[str]:
    """None: the group carries nothing of this device."""
    try:
        return group._get_backend(device).name()
    except RuntimeError:
        return None


def check_lives(group) -> None:
    """Raises:
    ValueError: the group was destroyed since the plan was made."""
    try:
        dist.get_rank(group)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            "the process group of this plan is no more (destroy_process_group): make a new plan"
        ) from error


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


def is_queued(device: torch.device) -> bool:
    """Whether what ranks send each other is queued on the device, and the host does not wait."""
    return device.type == "cuda"


def connect(group, device: torch.device) -> None:
    """To be called by all ranks before some of them exchange messages: NCCL connects the ranks of a
    group at its first communication, in which all of them have to take part. (gloo does so when the
    group is made.)"""
    if not is_queued(device) or dist.get_world_size(group) == 1:
        return
    devices = _connected.setdefault(group, set())
    if device not in devices:
        check_carries(group, device)
        dist.all_reduce(torch.zeros(1, device=device), group=group)
        devices.add(device)
