# SPDX-License-Identifier: BSD-3-Clause
"""A rank that stops, is late, or makes another later call: the others get a sentence naming it."""

import datetime
import os
import re
import signal
import time
import weakref

import pytest
import torch
import torch.distributed as dist

import longattn
import processes
from longattn import Window
from longattn.ring import failures
from longattn.ring.communicator import Message
from longattn.ring.process_group import ProcessGroup

TIMEOUT = 2.0  # seconds of the groups in which something goes wrong
LATE = 2
PATIENCE = 1.0  # less than failures.PATIENCE: tests should not take long


def attend(ranks: ProcessGroup):
    plan = longattn.ring.plan(40, ranks, check=False)
    q, k, v = torch.ones(3, 1, plan.lengths[ranks.rank], 1, 8, requires_grad=True)
    return plan.attention(q, k, v, longattn.Full())


def backward_of_attention(ranks: ProcessGroup):
    loss = attend(ranks).sum()
    return lambda: loss.backward()


# What is done in time, and returns what a rank dies before, or comes late to.
CALLS = {
    "attention": lambda ranks: lambda: attend(ranks),
    "backward": backward_of_attention,
    "all_reduce": lambda ranks: lambda: ranks.all_reduce([torch.ones(3)], "max"),
    "gather_objects": lambda ranks: lambda: ranks.gather_objects([{"a": 1}]),
}


def try_to(call) -> tuple:
    """(message of the RuntimeError or None, seconds)"""
    failures.PATIENCE = PATIENCE  # in a rank's own process
    start = time.monotonic()
    try:
        call()
    except RuntimeError as error:
        return str(error), time.monotonic() - start
    return None, time.monotonic() - start


def own_groups(names, backend="gloo") -> dict:
    """A group for each case: one that has failed is of no more use."""
    timeout = datetime.timedelta(seconds=TIMEOUT)
    return {name: ProcessGroup(dist.new_group(timeout=timeout, backend=backend)) for name in names}


def late_rank(rank, names):
    outcomes = {}
    for name, ranks in own_groups(names).items():
        call = CALLS[name](ranks)
        attend(ranks)
        dist.barrier()
        if rank == LATE:
            time.sleep(TIMEOUT + 1.5 * PATIENCE)
        outcomes[name] = try_to(call)
    dist.barrier()
    return outcomes


def slow_rank(rank):
    [ranks] = own_groups(["slow"]).values()
    plan = longattn.ring.plan(40, ranks, check=False)
    q, k, v = torch.randn(3, 1, 40, 1, 8, generator=torch.Generator().manual_seed(0))
    if rank == LATE:
        time.sleep(1.0)
    out = plan.attention(*(plan.shard(x) for x in (q, k, v)), longattn.Full())
    expected = plan.shard(longattn.attention(q, k, v, longattn.Full()))
    return (out - expected).abs().max().item()


def rank_that_dies(rank, name, backend="gloo"):
    [ranks] = own_groups([name], backend).values()
    call = CALLS[name](ranks)
    attend(ranks)
    dist.barrier()
    if rank == LATE:
        time.sleep(0.5)  # the last words of the barrier arrive
        os.kill(os.getpid(), signal.SIGKILL)
    return try_to(call)


@pytest.mark.parametrize("name", list(CALLS))
def test_a_rank_that_dies_is_named_by_all_others(tmp_path, name):
    # The last one is what a group for several devices is called.
    backend = "cpu:gloo,cuda:gloo" if name == "attention" else "gloo"
    outcomes = processes.run(4, rank_that_dies, tmp_path, name, backend, killed=[LATE])
    for rank, outcome in enumerate(outcomes):
        if rank == LATE:
            continue
        message, seconds = outcome
        assert re.match(rf"rank {rank} could not .*: no answer from rank {LATE}, which", message)
        assert seconds < TIMEOUT + 5.0


def test_a_rank_that_is_late_is_named_by_all_others(tmp_path):
    names = ["attention", "all_reduce"]
    outcomes = processes.run(3, late_rank, tmp_path, names)
    for name in names:
        for rank in range(3):
            message, seconds = outcomes[rank][name]
            if rank == LATE:
                assert "waited for this rank, which came late" in message
            else:
                assert f"no answer from rank {LATE}, which stopped or did not get here" in message
                assert TIMEOUT - 0.5 < seconds < TIMEOUT + 5.0


def test_a_rank_that_is_slow_is_waited_for(tmp_path):
    assert max(processes.run(3, slow_rank, tmp_path)) < 1e-6


LATER_CALLS = {  # what one rank does otherwise in its second call
    "mask": lambda q, other: (q, Window(3 if other else 6)),
    "longer messages": lambda q, other: (q, Window(6 if other else 3)),
    "dtype": lambda q, other: (q.bfloat16() if other else q, Window(6)),
}


def another_later_call(rank, name):
    [ranks] = own_groups([name]).values()
    plan = longattn.ring.plan(40, ranks, "contiguous")
    whole = torch.randn(1, 40, 1, 8, generator=torch.Generator().manual_seed(0))
    q = plan.shard(whole)
    plan.attention(q, q, q, Window(6))
    q, mask = LATER_CALLS[name](q, rank == 0)
    failures.PATIENCE = PATIENCE
    try:
        out = plan.attention(q, q, q, mask)
    except (RuntimeError, ValueError) as error:
        return str(error)
    # Whoever has all that it needs from ranks in the same call.
    torch.testing.assert_close(out, plan.shard(longattn.attention(whole, whole, whole, mask)))


@pytest.mark.parametrize("name", list(LATER_CALLS))
def test_a_later_call_that_differs_gives_no_numbers(tmp_path, name):
    told = processes.run(3, another_later_call, tmp_path, name)
    assert told[0] and told[1]
    assert re.match(
        r"rank 0 sends what belongs to another call, or .* than call 2 of the plan, "
        r"plan.attention\(q=\[1, any, 1, 8\] "
        "torch.float32, .*: every rank has to make the same calls in the same order",
        told[1],
    )


def wrong_call(make_calls, *arguments) -> str:
    """What a rank is told in the last of its calls."""
    failures.PATIENCE = PATIENCE
    try:
        make_calls(*arguments)
    except (RuntimeError, ValueError) as error:
        return str(error)


def attend_on(plan, rank, **keywords):
    q = torch.randn(1, plan.lengths[rank], 2, 8, requires_grad=True)
    return plan.attention(q, q, q, Window(6), **keywords)


def decode_at(plan, rank, q_start):
    k = torch.ones(1, plan.lengths[rank], 1, 8)
    plan.decode(k.new_ones(1, 1, 1, 8), k, k, Window(6), q_start=q_start)


def unshard_as(plan, rank, dtype):
    plan.unshard(torch.ones(plan.lengths[rank], 2, dtype=dtype), 0)


def one_layer_more(plan, rank):
    out = attend_on(plan, rank)
    if rank == 0:
        out = attend_on(plan, rank)
    out.sum().backward()


def losses_in_another_order(plan, rank):
    outs = [attend_on(plan, rank) for _ in range(2)]
    for out in outs if rank == 0 else reversed(outs):
        out.sum().backward()


def another_token(plan, rank):
    decode_at(plan, rank, 40)
    decode_at(plan, rank, 41 + (rank == 0))


def another_dtype(plan, rank):
    unshard_as(plan, rank, torch.float32)
    unshard_as(plan, rank, torch.float64 if rank == 0 else torch.float32)


def gathered_or_decoded(plan, rank):
    decode_at(plan, rank, 40)
    unshard_as(plan, rank, torch.float32)
    unshard_as(plan, rank, torch.float32) if rank == 0 else decode_at(plan, rank, 41)


PARTED = (
    one_layer_more,
    losses_in_another_order,
    another_token,
    another_dtype,
    gathered_or_decoded,
)


def parted_ranks(rank):
    found = {}
    for call in PARTED:
        [ranks] = own_groups([call.__name__]).values()
        found[call.__name__] = wrong_call(call, longattn.ring.plan(40, ranks, "contiguous"), rank)
        dist.barrier()
    return found


def test_ranks_that_part_get_no_numbers(tmp_path):
    """At the latest when one goes backward: layers make calls that look alike."""
    of_ranks = processes.run(2, parted_ranks, tmp_path)
    for call in PARTED:
        told = [messages[call.__name__] for messages in of_ranks]
        assert all(told)
        # A rank that only sends cannot know more than that nobody takes it.
        assert any("every rank has to make the same calls in the same order" in one for one in told)


def kept_after_arrival(rank):
    ranks, other = ProcessGroup(), 1 - rank
    messages = [Message(torch.ones(4), other), Message(torch.empty(4), other)]
    tensors = [weakref.ref(message.tensor) for message in messages]
    wait = ranks.exchange(rank, messages[:1], messages[1:])
    wait()
    del messages
    return [tensor() is not None for tensor in tensors], ranks.traffic.greetings, callable(wait)


def test_messages_are_let_go_when_they_have_arrived(tmp_path):
    assert processes.run(2, kept_after_arrival, tmp_path) == [([False, False], 1, True)] * 2


def compiled_around_the_ring(rank):
    plan = longattn.ring.plan(40)
    whole = torch.randn(1, 40, 2, 8, generator=torch.Generator().manual_seed(0))

    def step(q):
        return plan.unshard(plan.attention(2 * q, q, q, longattn.Full()) + 1)

    q = plan.shard(whole).requires_grad_()
    compiled = torch.compile(step, backend="aot_eager")
    found = [torch.autograd.grad(f(q).square().sum(), q)[0] for f in (step, compiled)]
    return (found[0] - found[1]).abs().max().item()


def test_compiled_functions_leave_out_what_communicates(tmp_path):
    assert max(processes.run(2, compiled_around_the_ring, tmp_path)) < 1e-6


def plan_of_a_destroyed_group(rank):
    group = dist.new_group([0, 1])
    plan = longattn.ring.plan(8, group)
    attend_on(plan, rank)
    dist.destroy_process_group(group)
    return wrong_call(attend_on, plan, rank)


def test_a_plan_of_a_group_that_is_no_more(tmp_path):
    for told in processes.run(2, plan_of_a_destroyed_group, tmp_path):
        assert told == (
            "the process group of this plan is no more (destroy_process_group): make a new plan"
        )


def outside_of_a_group(rank):
    group = dist.new_group([0])
    try:
        longattn.ring.plan(8, group)
    except ValueError as error:
        return str(error)


def test_a_process_outside_of_the_group(tmp_path):
    inside, outside = processes.run(2, outside_of_a_group, tmp_path)
    assert inside is None and "does not belong to the group that new_group() made" in outside


def test_a_ranks_own_error_blames_nobody():
    with pytest.raises(RuntimeError, match="^Invalid scalar type$"), failures.blamed(None, "", ()):
        raise RuntimeError("Invalid scalar type")


def gathered_and_refused(rank):
    dtypes = (torch.int16, torch.float8_e4m3fn, torch.bool, torch.complex64, torch.bfloat16)
    plan = longattn.ring.plan(5, check=False)
    whole = torch.arange(10).reshape(5, 2) % 2
    for dtype in dtypes:
        x = whole.to(dtype)
        assert torch.equal(plan.unshard(plan.shard(x, 0), 0).view(torch.uint8), x.view(torch.uint8))
    ranks, there = ProcessGroup(), torch.ones(4, device="meta")
    told = []
    for call in (
        lambda: ranks.exchange(rank, [Message(there, 1 - rank)], []),
        lambda: ranks.all_gather([there]),
        lambda: ranks.all_reduce([there]),
    ):
        try:
            call()
        except ValueError as error:
            told.append(str(error))
    return told


def test_all_dtypes_are_gathered_and_other_devices_refused(tmp_path):
    for told in processes.run(2, gathered_and_refused, tmp_path):
        assert len(told) == 3
        for sentence in told:
            assert "gloo group does not carry what ranks send each other on meta" in sentence
