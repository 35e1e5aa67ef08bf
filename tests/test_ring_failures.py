# SPDX-License-Identifier: BSD-3-Clause
"""A rank that stops, is late, or makes another call: the others get a sentence that names it."""

import datetime
import os
import re
import signal
import time
import weakref

import numpy
import pytest
import torch
import torch.distributed as dist

import longattn
import processes
from longattn import Causal, Window
from longattn.ring import VirtualRing, failures
from longattn.ring.agreement import Agreement, Rows, call_with, compare, describe
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
    if rank == LATE:
        time.sleep(1.0)
    return try_to(lambda: attend(ranks))[0]


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
    assert processes.run(3, slow_rank, tmp_path) == [None, None, None]


def calls_of(rank) -> dict:
    """name -> (arguments of this rank's call, what every rank should be told)"""
    q = torch.zeros(1, 4 + rank, 2, 16)
    other = rank == 1
    return {
        "the same": (dict(q=Rows(q), mask=Causal(), softcap=None), None),
        "mask": (
            dict(q=Rows(q), mask=Window(4 if other else 8)),
            "mask is Window(size=8, sink_tokens=0) on ranks 0 and 2 but "
            "Window(size=4, sink_tokens=0) on rank 1",
        ),
        "dtype": (
            dict(q=Rows(q.half() if other else q)),
            "q is [1, any, 2, 16] torch.float32 on ranks 0 and 2 but "
            "[1, any, 2, 16] torch.float16 on rank 1",
        ),
        "heads": (
            dict(q=Rows(q.expand(1, -1, 2, 16)[:, :, : 2 - other])),
            "q is [1, any, 2, 16] torch.float32 on ranks 0 and 2 but "
            "[1, any, 1, 16] torch.float32 on rank 1",
        ),
        "bias": (
            dict(bias=longattn.Alibi() if other else None),
            "bias is None on ranks 0 and 2 but Alibi(slopes=None, distance_ceiling=None, "
            "window=None) on rank 1",
        ),
        "each another": (
            dict(seq_len=10 + rank),
            "seq_len is 10 on rank 0 but 11 on rank 1 but 12 on rank 2",
        ),
        "two differences": (
            dict(a=other, b=rank == 2),
            "a is False on ranks 0 and 2 but True on rank 1; "
            "b is False on ranks 0 and 1 but True on rank 2",
        ),
        "a keyword": (
            dict(a=1, b=2) if other else dict(a=1),
            "b is left out on ranks 0 and 2 but 2 on rank 1",
        ),
    }


def mismatched_ranks(rank):
    ranks = ProcessGroup()
    told = {}
    for name, (arguments, _) in calls_of(rank).items():
        try:
            compare(ranks, "attention", [arguments])
            told[name] = None
        except ValueError as error:
            told[name] = str(error)
    try:
        compare(ranks, "decode" if rank == 1 else "attention", [dict(a=rank)])
    except ValueError as error:
        told["function"] = str(error)
    attend(ranks)  # the group has come to no harm
    return told


def test_ranks_that_make_other_calls_are_named_on_every_rank(tmp_path):
    everyones = processes.run(3, mismatched_ranks, tmp_path)
    for told in everyones:
        for name, (_, difference) in calls_of(0).items():
            expected = difference and f"ranks disagree in attention: {difference}"
            assert told[name] == expected, name
    differences = "the call is attention on ranks 0 and 2 but decode on rank 1"
    for rank, told in enumerate(everyones):
        function = "decode" if rank == 1 else "attention"
        assert told["function"] == f"ranks disagree in {function}: {differences}"


PLAN_CALLS = {  # what rank 1 does otherwise, and what every rank is told
    "mask": "mask is Causal() on ranks 0 and 2 but Full() on rank 1",
    "dtype": "q is [1, any, 2, 16] torch.float32 on ranks 0 and 2 but [1, any, 2, 16] torch.flo",
    "heads": "k is [1, any, 2, 16] torch.float32 on ranks 0 and 2 but [1, any, 1, 16] torch.flo",
    "layout": "layout='zigzag', borders=()) on ranks 0 and 2 but Geometry(seq_len=20, ",
    "softcap": "softcap is None on ranks 0 and 2 but 5.0 on rank 1",
    "requires_grad": "requires_grad is False on ranks 0 and 2 but True on rank 1",
    "no tensor": "v is [1, any, 2, 16] torch.float32 on ranks 0 and 2 but 7 on rank 1",
}


def mismatched_attention(rank):
    told = {}
    for name in PLAN_CALLS:
        other = name if rank == 1 else None
        plan = longattn.ring.plan(20, layout="striped" if other == "layout" else "zigzag")
        q, k, v = torch.randn(3, 1, plan.lengths[rank], 2, 16)
        if other == "dtype":
            q, k, v = q.double(), k.double(), v.double()
        if other == "heads":
            k, v = k[:, :, :1], v[:, :, :1]
        v = 7 if other == "no tensor" else v.requires_grad_(other == "requires_grad")
        mask = longattn.Full() if other == "mask" else Causal()
        try:
            plan.attention(q, k, v, mask, softcap=5.0 if other == "softcap" else None)
        except ValueError as error:
            told[name] = str(error)
    return told


def test_attention_names_the_rank_that_differs(tmp_path):
    for told in processes.run(3, mismatched_attention, tmp_path):
        for name, difference in PLAN_CALLS.items():
            assert "ranks disagree in plan.attention: " in told[name]
            assert difference in told[name]


def mismatched_dilation(rank):
    plan = longattn.ring.plan(20, layout="contiguous")
    q, k, v = torch.randn(3, 1, plan.lengths[rank], 2, 16)
    try:
        longattn.dilated_attention(q, k, v, [8, 16], [1, 4 if rank == 1 else 2], plan=plan)
    except ValueError as error:
        return str(error)


def test_dilated_attention_names_the_rank_that_differs(tmp_path):
    told = processes.run(3, mismatched_dilation, tmp_path)
    difference = "branches is [(8, 1), (16, 2)] on ranks 0 and 2 but [(8, 1), (16, 4)] on rank 1"
    assert told == [f"ranks disagree in dilated_attention: {difference}"] * 3


def test_the_comparison_can_be_switched_off():
    asked = []

    class Spy(VirtualRing):
        def gather_objects(self, values):
            asked.append(len(values))
            return super().gather_objects(values)

    q, k, v = torch.randn(3, 1, 20, 2, 16)
    for check, expected in ((False, []), (True, [2])):
        plan = longattn.ring.plan(20, Spy(2), check=check)
        for _ in range(3):
            plan.attention(*(plan.shard(x) for x in (q, k, v)), Causal())
        assert asked == expected
    with pytest.raises(TypeError, match="check must be True or False, got 1"):
        longattn.ring.plan(20, Spy(2), check=1)


def test_only_the_first_call_of_a_function_is_compared():
    ring = VirtualRing(2)
    same, other = [dict(a=1), dict(a=1)], [dict(a=1), dict(a=2)]
    agreement = Agreement(ring)
    for _ in range(2):  # a call that failed is none
        with pytest.raises(ValueError, match="a is 1 on rank 0 but 2 on rank 1"):
            agreement.check("attention", other)
    agreement.check("attention", same)
    agreement.check("attention", other)
    with pytest.raises(ValueError, match="ranks disagree in decode"):
        agreement.check("decode", other)
    Agreement(ring, enabled=False).check("attention", other)


def test_descriptions_hold_what_has_to_agree_and_no_more():
    x = torch.zeros(2, 3, dtype=torch.bfloat16)
    assert describe(x) == "[2, 3] torch.bfloat16"
    assert describe(Rows(x, dim=0)) == "[any, 3] torch.bfloat16"
    first, second = (longattn.Alibi(torch.full((4,), value)) for value in (1.0, 2.0))
    assert describe(first) == describe(second)
    assert "[4] torch.float32" in describe(first)
    assert describe(Window(3) & Causal()).startswith("Intersection(first=Window(size=3, ")
    assert describe(numpy.float64(0.5)) == describe(0.5) == "0.5"


def test_whoever_goes_backward_is_known_by_all_tensors():
    q, learned = torch.zeros(1, 4, 2, 16), torch.ones(2, requires_grad=True)
    kerple = longattn.Kerple(learned.detach(), learned)
    for bias, sinks in ((longattn.Alibi(learned), None), (kerple, None), (None, learned)):
        call = call_with(q, q, q, bias=bias, sink_logits=sinks)
        assert call["requires_grad"]
        with torch.no_grad():
            assert not call_with(q, q, q, bias=bias, sink_logits=sinks)["requires_grad"]
    assert not call_with(q, q, q, bias=longattn.Alibi(), sink_logits=None)["requires_grad"]


LATER_CALLS = {  # what one rank does otherwise in its second call
    "mask": lambda q, other: (q, Window(3 if other else 6)),
    "longer messages": lambda q, other: (q, Window(6 if other else 3)),
    "dtype": lambda q, other: (q.bfloat16() if other else q, Window(6)),
}


def another_later_call(rank, name):
    [ranks] = own_groups([name]).values()
    plan = longattn.ring.plan(40, ranks, "contiguous")
    q = torch.randn(1, plan.lengths[rank], 1, 8)
    plan.attention(q, q, q, Window(6))
    q, mask = LATER_CALLS[name](q, rank == 0)
    failures.PATIENCE = PATIENCE
    try:
        plan.attention(q, q, q, mask)
    except (RuntimeError, ValueError) as error:
        return str(error)


@pytest.mark.parametrize("name", list(LATER_CALLS))
def test_a_later_call_that_differs_gives_no_numbers(tmp_path, name):
    told = processes.run(3, another_later_call, tmp_path, name)
    assert all(told)
    assert re.match(
        r"rank 0 sends what belongs to another call, or .* than plan.attention\(q=\[1, any, 1, 8\] "
        "torch.float32, .*: every rank has to make the same calls in the same order",
        told[1],
    )


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


OWN_FAULTS = {  # what one rank alone does, and what it is told
    "attention": "q must have the 7 rows of rank 1",
    "sinks": "sink_logits must hold finite numbers, or -inf for heads without a sink, got nan",
    "decode": "k and v of rank 1 must have 7 rows, 7 of the plan and 0 appended, got 6",
    "dilated": "q must have the 7 rows of rank 1",
    "unshard rows": "dimension 1 of x must have length 7",
    "unshard dtype": "x is [1, any, 2, 16] torch.float32 on ranks 0 and 2 but [1, any, 2, 16] torc",
    "unshard gradient": "requires_grad is False on ranks 0 and 2 but True on rank 1",
}


def own_faults(rank):
    told = {}
    for name in OWN_FAULTS:
        plan = longattn.ring.plan(20, layout="contiguous")
        wrong = rank == 1
        x = torch.randn(1, plan.lengths[rank], 2, 16)
        short = x[:, 1:] if wrong else x
        sinks = torch.full((2,), torch.nan if wrong else 0.0)
        calls = {
            "attention": lambda: plan.attention(short, short, short, Causal()),
            "sinks": lambda: plan.attention(x, x, x, Causal(), sink_logits=sinks),
            "decode": lambda: plan.decode(x[:, :1], short, short, Causal(), q_start=19),
            "dilated": lambda: longattn.dilated_attention(short, short, short, [8], [2], plan=plan),
            "unshard rows": lambda: plan.unshard(short),
            "unshard dtype": lambda: plan.unshard(x.half() if wrong else x),
            "unshard gradient": lambda: plan.unshard(x.requires_grad_(wrong)),
        }
        try:
            calls[name]()
        except ValueError as error:
            told[name] = str(error)
    return told


def test_what_is_wrong_on_one_rank_is_told_to_all(tmp_path):
    for rank, told in enumerate(processes.run(3, own_faults, tmp_path, timeout=20.0)):
        for name, sentence in OWN_FAULTS.items():
            shared = " is " in sentence
            prefix = "" if rank == 1 and not shared else "ranks disagree in "
            assert told[name].startswith(prefix) and sentence in told[name], name
            assert shared or rank == 1 or "rank 1 raises: " in told[name]


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
