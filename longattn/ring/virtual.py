# SPDX-License-Identifier: BSD-3-Clause
"""A ring whose ranks all live in this process."""

from __future__ import annotations

import contextlib
from collections import Counter

import torch

from longattn.ring.communicator import Communicator, Traffic


class InOneProcess:
    """Shards come and go as lists with one entry for each rank."""

    def split(self, value):
        if not isinstance(value, (list, tuple)) or len(value) != self.world_size:
            several = isinstance(value, (list, tuple))
            got = f"{len(value)} of them" if several else type(value).__name__
            raise ValueError(
                f"a {type(self).__name__} takes lists of {self.world_size} shards, one a rank, got "
                f"{got}"
            )
        return list(value)

    def join(self, values):
        return values


class VirtualRing(InOneProcess, Communicator):
    """All ranks in one process: for tests, for emulated kernels, and to see what a ring would send.

    Where a process group has one shard, this has a list of `world_size` shards.
    """

    def __init__(self, world_size: int):
        check_size("world_size", world_size)
        self.world_size = world_size
        self.ranks = tuple(range(world_size))
        self.traffic = Traffic()
        self._on_the_way = {}  # (from, to, number) -> tensor
        self._sent, self._awaited = Counter(), Counter()  # (from, to) -> messages so far

    @contextlib.contextmanager
    def in_call(self, call, device):
        try:
            yield
        finally:  # messages of a call that failed are not for the next one
            self._on_the_way.clear()
            self._sent.clear()
            self._awaited.clear()

    def exchange(self, rank, sends, receives):
        self.traffic.count(sends)
        for tensor, peer in sends:
            self._on_the_way[self._next(self._sent, rank, peer)] = tensor
        awaited = [(x, self._next(self._awaited, peer, rank)) for x, peer in receives]

        def wait():
            for tensor, message in awaited:
                tensor.copy_(self._on_the_way.pop(message))

        return wait

    def _next(self, counter, sender, receiver) -> tuple:
        number = counter[sender, receiver]
        counter[sender, receiver] += 1
        return sender, receiver, number

    def all_gather(self, tensors):
        return list(tensors)

    def all_reduce(self, tensors, operation="sum"):
        self.traffic.count_reduction(tensors)
        stacked = torch.stack(tensors)
        total = stacked.sum(0) if operation == "sum" else stacked.amax(0)
        return [total.clone() for _ in tensors]

    def gather_objects(self, values):
        return list(values)


def check_size(name: str, size) -> None:
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {size!r}")
