# SPDX-License-Identifier: BSD-3-Clause
"""Rings as citizens of torch on a GPU: nothing waits for it, graphs, transfers on side streams, and
groups of NCCL."""

import pytest
import torch
import torch.distributed as dist

import gpu_support
import group_workers
import longattn
import processes
import ring_workers
import test_ring_example
import wire
from gpu_support import DEVICE, captured
from longattn import ring
from longattn.masks import Causal, Full, Window
from longattn.ring.side_streams import SideStreams
from rings import LAYOUTS, RingCase

pytestmark = gpu_support.marks

MASK = Window(200, sink_tokens=4)
A_TENTH_OF_A_SECOND = 200_000_000  # clock cycles
NUMBERS = 2**20


def scores() -> dict:
    return dict(
        bias=longattn.Alibi(torch.linspace(0.01, 1, 4, device=DEVICE).requires_grad_()),
        sink_logits=torch.linspace(-1, 1, 4, device=DEVICE).requires_grad_(),
    )


def attend(plan, shards, **keywords) -> list:
    return plan.attention(*shards, MASK, **keywords)


def dilate(plan, shards, **keywords) -> list:
    return longattn.dilated_attention(*shards, (64, 700), (1, 3), plan=plan, **keywords)


both_functions = pytest.mark.parametrize("function", [attend, dilate], ids=lambda f: f.__name__)


def new_plan(layout="contiguous"):
    return ring.plan(700, ring.VirtualRing(4), layout)


def shards_of(plan, seed=0) -> list:
    whole = [
        gpu_support.random(1, plan.seq_len, heads, 64, seed=(seed, i))
        for i, heads in enumerate((4, 2, 2))
    ]
    return [[x.requires_grad_() for x in plan.shard(tensor)] for tensor in whole]


def bits(function, plan, shards, **keywords) -> list:
    outs = function(plan, shards, **keywords)
    leaves = [x for side in shards for x in side]
    return [*outs, *torch.autograd.grad(outs, leaves, [torch.full_like(o, 0.5) for o in outs])]


def assert_same(ours, expected):
    for one, other in zip(ours, expected, strict=True):
        assert torch.equal(one, other)


@both_functions
def test_nothing_waits_for_the_gpu(function):
    plan, keywords = new_plan(), scores()
    shards = shards_of(plan)
    q = gpu_support.random(1, 2, 4, 64)

    def everything():
        bits(function, plan, shards)
        bits(function, plan, shards, **keywords)
        plan.unshard(shards[0])
        plan.positions(DEVICE)
        with torch.no_grad():
            plan.decode(q, *shards[1:], Causal(), q_start=698, **keywords)

    everything()  # what happens once, happens here
    torch.cuda.set_sync_debug_mode("error")
    try:
        everything()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@both_functions
def test_work_is_queued_on_the_current_stream(function):
    """The inputs appear on another stream after a long sleep: elsewhere, zeros would be read."""
    plan = new_plan()
    shards = shards_of(plan)
    expected = bits(function, plan, shards)
    late = [[torch.zeros_like(x, requires_grad=True) for x in side] for side in shards]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(A_TENTH_OF_A_SECOND)
        overwrite(late, shards)
        found = bits(function, plan, late)
    stream.synchronize()
    assert_same(found, expected)


def overwrite(shards, values):
    with torch.no_grad():
        for side, others in zip(shards, values):
            for x, other in zip(side, others):
                x.copy_(other)


@both_functions
def test_graph_capture_and_replay(function):
    plan = new_plan()
    shards = shards_of(plan)
    graph, results = captured(lambda: bits(function, plan, shards))
    for seed in (5, 6):
        values = shards_of(plan, seed)
        overwrite(shards, values)
        graph.replay()
        assert_same(results, bits(function, plan, values))


# Transfers on a side stream


def start(streams, keep=True) -> tuple:
    """Starts to copy ones, after a long sleep. -> (wait, what arrives, where the ones lie)."""
    device = torch.device(DEVICE, torch.cuda.current_device())
    source = torch.ones(NUMBERS, device=device)
    arriving = torch.zeros(NUMBERS, device=device)

    def transfer():
        torch.cuda._sleep(A_TENTH_OF_A_SECOND)
        arriving.copy_(source)

    return streams.start(device, [source] if keep else [], transfer), arriving, source.data_ptr()


def zeros_elsewhere() -> list:
    """As many as find the memory that is free, if it is."""
    return [torch.zeros(NUMBERS, device=DEVICE) for _ in range(16)]


def addresses(tensors) -> set:
    return {tensor.data_ptr() for tensor in tensors}


def test_work_runs_during_a_transfer_until_somebody_waits():
    torch.full((NUMBERS,), 3.0, device=DEVICE).mul_(2)  # a first launch may wait for what runs
    wait, arriving, _ = start(SideStreams())
    meanwhile = torch.full((NUMBERS,), 3.0, device=DEVICE).mul_(2)
    before = arriving.clone()
    torch.cuda.current_stream().synchronize()
    assert (meanwhile == 6).all() and not before.any()
    wait()
    assert (arriving.clone() == 1).all()


def test_a_transfer_waits_for_what_was_queued_before():
    device = torch.device(DEVICE, torch.cuda.current_device())
    source, arriving = torch.zeros(2, NUMBERS, device=device)
    torch.cuda._sleep(A_TENTH_OF_A_SECOND)
    source.fill_(1)
    wait = SideStreams().start(device, [source, arriving], lambda: arriving.copy_(source))
    wait()
    assert (arriving == 1).all()


@pytest.mark.parametrize("end", ("wait", "let_go"))
def test_memory_is_not_used_again_during_a_transfer(end):
    torch.cuda.empty_cache()
    streams = SideStreams()
    wait, arriving, place = start(streams)
    if end == "let_go":
        streams.let_go()
    others = zeros_elsewhere()
    assert place not in addresses(others)
    wait()
    assert (arriving == 1).all()
    assert place in addresses(others + zeros_elsewhere())


def test_memory_that_nobody_keeps_is_used_again_at_once():
    """Else the test above would tell nothing."""
    torch.cuda.empty_cache()
    wait, _, place = start(SideStreams(), keep=False)
    assert place in addresses(zeros_elsewhere())
    wait()


@pytest.mark.parametrize("world_size", (2, 4))
@pytest.mark.parametrize(
    "layout, function",
    [*((layout, ring_workers.attend) for layout in LAYOUTS), ("contiguous", ring_workers.dilate)],
)
def test_ranks_on_a_wire_that_takes_its_time(monkeypatch, layout, function, world_size):
    """ProcessGroup's own code: each rank has a stream, and what it computes with comes late."""
    for mask in (Full(), Window(40, sink_tokens=5)):
        built = wire.Wire(world_size, torch.cuda)
        built.install(monkeypatch)
        wire.check(
            built,
            RingCase(layout, mask, 131, head_dim=64, value_dim=40),
            *(torch.bfloat16, DEVICE, 8),
            late=lambda: torch.cuda._sleep(A_TENTH_OF_A_SECOND // 4),
            function=function,
        )
        assert built.connections == 1


# Processes with a GPU each


TIMEOUT = 30.0  # of a group, in seconds: what hangs must not cost the results of the others


def need_gpus(count: int) -> None:
    if not dist.is_nccl_available():
        pytest.skip("this build of torch has no NCCL")
    if torch.cuda.device_count() < count:
        pytest.skip(f"needs {count} GPUs, there are {torch.cuda.device_count()}")


BOTH = "cpu:gloo,cuda:nccl"  # ranks compare their calls on the CPU


@pytest.mark.parametrize(
    "world_size, backend", [(1, "nccl"), (1, BOTH), (2, "nccl"), (2, BOTH), (3, "nccl"), (8, BOTH)]
)
def test_groups_of_nccl(tmp_path, world_size, backend):
    need_gpus(world_size)
    found = processes.run(
        world_size, group_workers.work, tmp_path, DEVICE, timeout=TIMEOUT, backend=backend
    )
    assert found == [[check.__name__ for check in group_workers.CHECKS]] * world_size


def train(rank) -> list:
    example = test_ring_example.load_example()
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    settings = example.parse(["--steps", "3", "--length", "301", "--batch", "2", "--compare"])
    history = list(example.train(settings, device))
    tolerance = example.TOLERANCES["cuda"]
    assert rank or all(abs(loss - alone) <= tolerance for loss, alone in history)
    return [loss for loss, _ in history]


def test_the_example_trains(tmp_path):
    need_gpus(1)
    count = min(torch.cuda.device_count(), 4)
    histories = processes.run(count, train, tmp_path, timeout=TIMEOUT, backend="nccl")
    assert histories.count(histories[0]) == count and histories[0][2] < histories[0][0]
