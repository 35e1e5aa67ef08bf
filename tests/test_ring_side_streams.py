# SPDX-License-Identifier: BSD-3-Clause
"""Transfers on side streams, as NCCL makes them, with streams that a GPU does not need: what is
sent, what arrives and what waits. (tests/test_gpu_torch_ring.py has those of a GPU.)"""

from functools import partial

import pytest
import torch

import late_streams
import wire
from longattn import ring
from longattn.masks import Causal, Full, Window
from longattn.ring import communicator, side_streams
from longattn.ring.communicator import Message
from longattn.ring.process_group import ProcessGroup
from longattn.ring.side_streams import SideStreams
from ring_workers import dilate
from rings import LAYOUTS, RingCase

CPU = torch.device("cpu")


@pytest.fixture
def connect(monkeypatch):
    """connect(world_size) -> a wire between as many threads."""

    def build(world_size):
        built = wire.LateWire(world_size, late_streams)
        built.install(monkeypatch)
        return built

    return build


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("world_size", (2, 3, 4))
def test_equals_the_virtual_ring(connect, world_size, layout):
    for mask in (Full(), Causal(), Window(9, sink_tokens=3)):
        wire.check(connect(world_size), RingCase(layout, mask, 53), torch.float64)


@pytest.mark.parametrize("world_size", (2, 3, 4))
def test_dilated_attention_equals_that_of_the_virtual_ring(connect, world_size):
    case = RingCase("contiguous", None, 53)
    wire.check(connect(world_size), case, torch.float64, function=dilate)


def no_wait(self, device, one, arrived):
    one.tensors.clear()


def nothing_kept(self, device, tensors, transfer, start=SideStreams.start):
    return start(self, device, [], transfer)


def too_early(self, device, tensors, transfer):
    with late_streams.stream(self._of(device)):
        transfer()
        return partial(self._wait, device, side_streams.Transfer([], None), late_streams.Event())


@pytest.mark.parametrize(
    "method, planted, error",
    [
        ("_wait", no_wait, "rank 0: d[kv]"),
        ("start", nothing_kept, "memory was let go"),
        ("start", too_early, "may not have been computed"),
    ],
)
def test_a_planted_error_is_seen(connect, monkeypatch, method, planted, error):
    monkeypatch.setattr(SideStreams, method, planted)
    with pytest.raises(AssertionError, match=error):
        case = RingCase("contiguous", Window(9, sink_tokens=3), 53)
        wire.check(connect(3), case, torch.float64)


def attend(layout="contiguous", mask=Window(3)):
    plan = ring.plan(8, ProcessGroup(), layout, check=False)
    [rank] = plan.communicator.ranks
    q = torch.zeros(1, plan.lengths[rank], 1, 8, requires_grad=True)
    return plan.attention(q, q, q, mask)


def test_all_ranks_connect_before_some_of_them_exchange_messages(connect):
    """Once for a group: of these documents one crosses a border between ranks, so that two ranks
    have nothing to exchange. (The wire refuses messages between ranks that have not connected.)"""
    built = connect(4)

    def on_rank(rank):
        plan = ring.plan(8, ProcessGroup(), "contiguous", check=False, cu_seqlens=[0, 4, 6, 8])
        q = torch.zeros(1, plan.lengths[rank], 1, 8, requires_grad=True)
        out = plan.attention(q, q, q, Causal())
        messages = plan.communicator.traffic.messages
        out.sum().backward()
        attend()
        return messages

    assert wire.on_ranks(built, on_rank) == [2, 0, 0, 0]
    assert built.connections == 1
    built = connect(1)
    wire.on_ranks(built, lambda rank: attend())
    assert built.connections == 0


def test_a_call_that_fails_lets_go_of_what_is_under_way(connect):
    """Its memory is left to the stream that still reads it, and the ranks can go on."""
    built = connect(2)

    def fails(ranks, rank, messages):
        ranks.exchange(rank, messages[:1], messages[1:])
        yield
        raise MemoryError

    def on_rank(rank):
        ranks = ProcessGroup()
        messages = [Message(torch.ones(4), 1 - rank) for _ in range(2)]
        with pytest.raises(MemoryError):
            communicator.run(ranks, "a call", CPU, [fails(ranks, rank, messages)])
        [side] = ranks._side_streams._streams.values()
        kept = [any(message.tensor is one for one in side.kept) for message in messages]
        return kept, attend(mask=Full()).shape[1]

    assert wire.on_ranks(built, on_rank) == [([True, True], 4)] * 2


def test_a_failing_transfer_is_told_with_the_rank(connect, monkeypatch):
    built = connect(2)

    def fails(operations):
        raise RuntimeError("NCCL's own words")

    monkeypatch.setattr(built, "batch_isend_irecv", fails)
    with pytest.raises(
        RuntimeError, match="rank . could not exchange messages with rank .: the nccl back"
    ):
        wire.on_ranks(built, lambda rank: attend(mask=Full()))


def test_one_stream_for_a_device(connect, monkeypatch):
    connect(1)
    made = []
    monkeypatch.setattr(
        late_streams, "Stream", lambda device: made.append(device) or late_streams.Host()
    )
    streams = SideStreams()
    for device in (CPU, torch.device("meta"), CPU):
        streams.start(device, [], lambda: None)()
    assert made == [CPU, torch.device("meta")]
