# SPDX-License-Identifier: BSD-3-Clause
"""Transfers on CUDA: on a stream beside the one that computes."""

from __future__ import annotations

from functools import partial
from typing import Callable, NamedTuple

import torch
from torch import cuda


class Transfer(NamedTuple):
    tensors: list  # freed earlier, their memory could be used again during the transfer
    side: cuda.Stream


class SideStreams:
    """One a device."""

    def __init__(self):
        self._streams = {}
        self._under_way = []

    def start(self, device: torch.device, tensors: list, transfer: Callable) -> Callable:
        """transfer: queues, on the current stream, what moves these tensors.

        It waits for the work that is queued now, and only the returned function makes later work
        wait for it: kernels launched in between run meanwhile."""
        one = Transfer(list(tensors), self._of(device))
        one.side.wait_stream(cuda.current_stream(device))
        self._under_way.append(one)
        with cuda.stream(one.side):
            transfer()
            arrived = one.side.record_event()
        return partial(self._wait, device, one, arrived)

    def _wait(self, device: torch.device, one: Transfer, arrived: cuda.Event) -> None:
        cuda.current_stream(device).wait_event(arrived)
        one.tensors.clear()
        self._under_way = [other for other in self._under_way if other is not one]

    def let_go(self) -> None:
        """After a call that failed: what nobody waits for any more keeps its memory until it is
        through. Nothing waits for that here, since it may never be."""
        for one in self._under_way:
            for tensor in one.tensors:
                tensor.record_stream(one.side)
            one.tensors.clear()
        self._under_way.clear()

    def _of(self, device: torch.device) -> cuda.Stream:
        if device not in self._streams:
            self._streams[device] = cuda.Stream(device)
        return self._streams[device]
