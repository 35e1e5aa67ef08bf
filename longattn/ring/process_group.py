# SPDX-License-Identifier: BSD-3-Clause
"""One rank of a torch.distributed process group: gloo for CPU tensors, NCCL for CUDA tensors."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Callable

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from longattn.ring.communicator import Communicator, Message, Traffic
from longattn.ring.failures import blamed
from longattn.ring.greetings import Greetings
from longattn.ring.group_backend import check_carries, check_lives, connect, is_queued
from longattn.ring.side_streams import SideStreams


class ProcessGroup(Communicator):
    """group: None (the default group), a process group, or a 1-D DeviceMesh."""

    def __init__(self, group=None):
        if not dist.is_available() or not dist.is_initialized():
            raise ValueError(
                "a ring over processes needs torch.distributed: call init_process_group() first, "
                "or pass group=longattn.ring.VirtualRing(world_size) for a ring in one process"
            )
        if isinstance(group, DeviceMesh):
            group = group.get_group()
        self.group = dist.group.WORLD if group is None else group
        self.rank = dist.get_rank(self.group)
        if self.rank < 0:
            raise ValueError(f"rank {dist.get_rank()} does not belong to the group of the ring")
        self.world_size = dist.get_world_size(self.group)
        self.ranks = (self.rank,)
        self.names = range(self.world_size)  # of its ranks in sentences
        self.traffic = Traffic()
        self._side_streams = SideStreams()
        self._greetings = Greetings("no call")

    def split(self, value):
        return [value]

    def join(self, values):
        return values[0]

    @contextlib.contextmanager
    def in_call(self, call, device):
        check_lives(self.group)
        self._greetings = Greetings(call)
        with self._blamed("meet all ranks"):
            connect(self.group, device)
        try:
            yield
        finally:
            self._side_streams.let_go()

    def exchange(self, rank, sends, receives):
        self.traffic.count(sends)
        if not sends and not receives:
            return lambda: None
        peers = sorted({message.peer for message in (*sends, *receives)})
        tensors = [message.tensor for message in (*sends, *receives)]
        device = tensors[0].device
        check_carries(self.group, device)
        doing = self._exchanging(peers)
        if is_queued(device):
            operations = self._operations(sends, receives)
            with self._blamed(doing):
                return self._side_streams.start(device, tensors, partial(_transfer, operations))
        with self._blamed(doing):
            check_greetings = self._greet(sends, receives)
            tag = self._greetings.tag
            works = dist.batch_isend_irecv(self._operations(sends, receives, tag))

        def wait():
            with self._blamed(doing):
                check_greetings()
                for work in works:
                    work.wait()
            # They had to live until here; works keep them too.
            tensors.clear()
            works.clear()

        return wait

    def _greet(self, sends, receives) -> Callable:
        """-> a function that waits until those that send something are known to be in the same
        call."""
        greetings = self._greetings
        told, heard = greetings.due(sends, receives)
        self.traffic.greetings += len(told)
        operations = self._operations(told, heard)
        works = dist.batch_isend_irecv(operations) if operations else []

        def check():
            for work in works[len(told) :]:
                work.wait()
            greetings.check(heard, self.names)
            for work in works[: len(told)]:
                work.wait()

        return check

    def _greet_all(self, device: torch.device) -> None:
        """Waits until all ranks are known to be in the same call."""
        for word in self._greetings.due_to_all() if device.type == "cpu" else ():
            self.traffic.greetings += self.world_size - 1
            words = [torch.empty_like(word) for _ in range(self.world_size)]
            dist.all_gather(words, word, group=self.group)
            self._greetings.check([Message(x, peer) for peer, x in enumerate(words)], self.names)

    def _operations(self, sends, receives, tag: int = 0) -> list:
        return [
            dist.P2POp(kind, tensor, dist.get_global_rank(self.group, peer), self.group, tag)
            for kind, messages in ((dist.isend, sends), (dist.irecv, receives))
            for tensor, peer in messages
        ]

    def all_gather(self, tensors):
        mine = tensors[0].contiguous()
        everyones = [torch.empty_like(mine) for _ in range(self.world_size)]
        check_carries(self.group, mine.device)
        sides = ([x.view(-1).view(torch.uint8) for x in several] for several in (everyones, [mine]))
        into, [sent] = sides  # as bytes, since no backend knows all dtypes
        with self._blamed("gather tensors from all ranks"):
            self._greet_all(mine.device)
            dist.all_gather(into, sent, group=self.group)
        return everyones

    def all_reduce(self, tensors, operation="sum"):
        check_carries(self.group, tensors[0].device)
        self.traffic.count_reduction(tensors)
        result = tensors[0].clone(memory_format=torch.contiguous_format)
        kind = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX}[operation]
        with self._blamed("reduce tensors over all ranks"):
            self._greet_all(result.device)
            dist.all_reduce(result, op=kind, group=self.group)
        return [result]

    def gather_objects(self, values):
        check_lives(self.group)
        everyones = [None] * self.world_size
        with self._blamed("compare its call with those of all ranks"):
            dist.all_gather_object(everyones, values[0], group=self.group)
        return everyones

    def _exchanging(self, peers) -> str:
        names = " and ".join(f"rank {self.names[peer]}" for peer in peers)
        return f"exchange messages with {names}"

    def _blamed(self, doing: str):
        return blamed(self.group, doing, self.names)


def _transfer(operations: list) -> None:
    for work in dist.batch_isend_irecv(operations):
        work.wait()  # by the current stream, not by the host
