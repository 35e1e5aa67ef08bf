# SPDX-License-Identifier: BSD-3-Clause
"""How ranks talk: the few operations that distributed attention needs, apart from who does them.

A communicator holds one rank of a process group (`ProcessGroup`), or all ranks of a ring that lives
in one process (`VirtualRing`). Whatever runs on a rank is a generator that yields wherever it is
about to wait for another rank, so that one and the same loop runs on both.
"""

from __future__ import annotations

import contextlib
import dataclasses
from abc import ABC, abstractmethod
from typing import Callable, NamedTuple

import torch


class Message(NamedTuple):
    """A contiguous tensor with at least one element, and the rank at the other end."""

    tensor: torch.Tensor
    peer: int


@dataclasses.dataclass
class Traffic:
    """What this process's ranks have sent by `exchange`, and what they gave to `all_reduce`."""

    hops: int = 0  # exchanges in which something was sent
    messages: int = 0
    bytes: int = 0
    reductions: int = 0
    reduced_bytes: int = 0
    greetings: int = 0  # 8 bytes each, in front of a call's messages between two processes

    def count(self, sends) -> None:
        self.hops += bool(sends)
        self.messages += len(sends)
        self.bytes += sum(m.tensor.nbytes for m in sends)

    def count_reduction(self, tensors) -> None:
        self.reductions += len(tensors)
        self.reduced_bytes += sum(tensor.nbytes for tensor in tensors)

    def reset(self) -> None:
        self.__init__()


class Communicator(ABC):
    world_size: int
    ranks: tuple  # those that live in this process, in order
    traffic: Traffic

    @abstractmethod
    def split(self, value) -> list:
        """What a caller holds for this process's ranks, as a list with one entry for each."""

    @abstractmethod
    def join(self, values: list):
        """The way back."""

    def in_call(self, call: str, device: torch.device):
        """A context in which all exchanges of one call are made, of tensors on this device; all
        ranks enter it, and describe the call alike. What is sent to ranks that are in another call
        must not be taken for what they wait for."""
        return contextlib.nullcontext()

    @abstractmethod
    def exchange(self, rank: int, sends, receives) -> Callable:
        """Starts to send and to receive Messages. What is received may be touched once the returned
        function was called, which waits; the generator has to yield before it calls that. What is
        sent is not to be written to again.

        Messages between two ranks arrive in the order in which they were started, so that all ranks
        start the same exchanges in the same order; those with nothing to do may be left out."""

    @abstractmethod
    def all_gather(self, tensors: list) -> list:
        """tensors: one for each of `ranks`, all of one shape -> those of all ranks, in order."""

    @abstractmethod
    def all_reduce(self, tensors: list, operation: str = "sum") -> list:
        """tensors: one for each of `ranks`, all of one shape -> for each of them, the sum or "max"
        over all ranks, as a new tensor. The same bits on every rank."""

    @abstractmethod
    def gather_objects(self, values: list) -> list:
        """values: one small picklable value for each of `ranks` -> those of all ranks, in order."""


def run(ranks: Communicator, call: str, device: torch.device, programs) -> list:
    """Runs one generator for each rank of this process, in step: none goes beyond a yield before
    all have come to it. call: what all ranks say that it is, with tensors on this device. -> what
    they return."""
    results = [None] * len(programs)
    running = dict(enumerate(programs))
    with ranks.in_call(call, device):
        while running:
            for place, program in list(running.items()):
                try:
                    next(program)
                except StopIteration as finished:
                    results[place] = finished.value
                    del running[place]
    return results


def choose(group) -> Communicator:
    """None (the default process group), a process group, a DeviceMesh or a Communicator."""
    if isinstance(group, Communicator):
        return group
    if not torch.distributed.is_available():
        raise ValueError(
            "this build of torch has no torch.distributed: pass "
            "group=longattn.ring.VirtualRing(world_size) for a ring in one process"
        )
    from longattn.ring import process_mesh

    return process_mesh.choose(group)
