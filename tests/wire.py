# SPDX-License-Identifier: BSD-3-Clause
"""Ranks as threads of one process, and between them a wire that behaves as NCCL: transfers are
queued on streams of its own, take their time, and need a group that all ranks have connected."""

import contextlib
import queue
import threading
import time
import types
import weakref
from typing import Callable, NamedTuple

import torch
import torch.distributed

import comparison
import inputs
from longattn import ring
from longattn.ring import failures, group_backend, process_group, side_streams
from ring_workers import NAMES, attend, on_shards

TIMEOUT = 20.0  # seconds that a rank waits for another
CYCLES = 3_000_000  # of the GPU's clock, for each message: two milliseconds

_thread = threading.local()


class Operation(NamedTuple):
    kind: Callable
    tensor: torch.Tensor
    peer: int
    group: object
    tag: int


class Work(NamedTuple):
    wire: "Wire"
    done: object  # an event

    def wait(self):
        self.wire.cuda.current_stream().wait_event(self.done)


class Message:
    """On its way; `tensor` is the memory that is read, for as long as its owner keeps it."""

    def __init__(self, tensor, ready):
        self.tensor, self.ready, self.copied = tensor, ready, queue.Queue()


class Wire:
    """What longattn.ring.process_group knows as torch.distributed, and the group."""

    def __init__(self, world_size: int, cuda):
        """cuda: torch.cuda, or late_streams."""
        self.world_size, self.cuda = world_size, cuda
        self.group = types.SimpleNamespace(WORLD=self)
        self.ReduceOp = torch.distributed.ReduceOp
        self.connections, self.broken = 0, False
        self._mail = {
            (a, b): queue.Queue() for a in range(world_size) for b in range(world_size)
        }
        self._streams = [cuda.Stream() for _ in range(world_size)]
        self._all_here = threading.Barrier(world_size, timeout=TIMEOUT)

    def install(self, monkeypatch) -> None:
        for module in (process_group, group_backend, failures):
            monkeypatch.setattr(module, "dist", self)

    def own_stream(self):
        """A context for a rank: streams that all share would order what they do."""
        return self.cuda.stream(self.cuda.Stream())

    P2POp = Operation

    def isend(self):
        """Names a kind of operation."""

    def irecv(self):
        """Names a kind of operation."""

    def is_available(self):
        return True

    is_initialized = is_available

    def get_rank(self, group=None):
        return _thread.rank

    def get_world_size(self, group=None):
        return self.world_size

    def get_global_rank(self, group, rank):
        return rank

    def get_backend(self, group=None):
        return "nccl"

    def _get_backend(self, device):
        return types.SimpleNamespace(name=lambda: "nccl")

    def all_reduce(self, tensor, group):
        """All that is wanted of it: that every rank takes part."""
        if self._all_here.wait() == 0:
            self.connections += 1
        self._all_here.wait()

    def batch_isend_irecv(self, operations):
        assert self.connections, "the first communication of a group has to be one of all ranks"
        rank, current = _thread.rank, self.cuda.current_stream()
        own = self._streams[rank]
        own.wait_event(current.record_event())
        sent = []
        for operation in operations:
            if operation.kind == self.isend:
                sent.append(self._message(operation.tensor, own.record_event()))
                self._mail[rank, operation.peer].put(sent[-1])
        for operation in operations:
            if operation.kind == self.irecv:
                message = self._take(self._mail[operation.peer, rank])
                own.wait_event(message.ready)
                with self.cuda.stream(own):
                    self._copy(operation.tensor, message)
                message.copied.put(own.record_event())
        for message in sent:
            own.wait_event(self._take(message.copied))
        return [Work(self, own.record_event())]

    def _take(self, box: queue.Queue):
        """Waits for as long as all ranks are well."""
        deadline = time.monotonic() + TIMEOUT
        while not self.broken and time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                return box.get(timeout=0.05)
        raise TimeoutError("the other rank failed or came too late")

    def _message(self, tensor, ready) -> Message:
        return Message(tensor, ready)

    def _copy(self, into, message: Message) -> None:
        into.fill_(float("nan"))
        torch.cuda._sleep(CYCLES)
        into.copy_(message.tensor)
        message.tensor = None  # what was queued does not keep it


class LateWire(Wire):
    """The same on late_streams, where memory is watched, since nobody would use it again."""

    def install(self, monkeypatch) -> None:
        super().install(monkeypatch)
        monkeypatch.setattr(side_streams, "cuda", self.cuda)
        monkeypatch.setattr(torch.Tensor, "record_stream", self.cuda.record_stream)
        for module in (process_group, group_backend):
            monkeypatch.setattr(module, "is_queued", lambda device: True)

    def own_stream(self):
        return contextlib.nullcontext()  # each thread has one

    def batch_isend_irecv(self, operations):
        side = self.cuda.current_stream()
        assert side.waited_for_host, "what is sent may not have been computed"
        side.waited_for_host = False
        return super().batch_isend_irecv(operations)

    def _message(self, tensor, ready) -> Message:
        return Message(weakref.ref(tensor), ready)

    def _copy(self, into, message: Message) -> None:
        into.fill_(float("nan"))
        into = weakref.ref(into)

        def copy():
            assert into() is not None and message.tensor() is not None, "memory was let go"
            into().copy_(message.tensor())

        self.cuda.queue(copy)


def on_ranks(wire: Wire, function) -> list:
    """[function(rank) on each rank], each with a stream of its own."""
    results, errors = [None] * wire.world_size, []

    def work(rank):
        _thread.rank = rank
        try:
            # Backward passes wait for each other: not in the one thread that torch has for a GPU.
            with torch.autograd.set_multithreading_enabled(False), wire.own_stream():
                results[rank] = function(rank)
        except BaseException as error:
            wire.broken = True
            errors.append(error)

    threads = [threading.Thread(target=work, args=(r,), daemon=True) for r in range(len(results))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * TIMEOUT)
    if errors:
        raise errors[0]
    return results


def check(
    wire: Wire, case, dtype, device="cpu", grain=1, late=lambda: None, function=attend
) -> None:
    """The ranks on the wire compute what the virtual ring computes, bit by bit.

    late: queues what takes long, before a rank's inputs are made."""
    tensors = [x.detach().to(device) for x in inputs.qkv(case, dtype)]
    gradients = [x.to(device) for x in comparison.output_gradients(tensors, case.name)]

    def results(ranks, whole) -> list:
        plan = ring.plan(case.seq_len, ranks, case.layout, check=False)
        return on_shards(plan, case, whole, *gradients, grain, function)

    def on_rank(rank):
        late()
        found = results(process_group.ProcessGroup(), [x.clone() for x in tensors])
        return [[mine.cpu() for mine in found_of_name] for found_of_name in found]

    expected = results(ring.VirtualRing(wire.world_size), tensors)
    if wire.cuda is torch.cuda:
        torch.cuda.synchronize()
    for rank, found in enumerate(on_ranks(wire, on_rank)):
        for name, [mine], everyones in zip(NAMES, found, expected, strict=True):
            assert torch.equal(mine, everyones[rank].cpu()), f"{case}, rank {rank}: {name}"
