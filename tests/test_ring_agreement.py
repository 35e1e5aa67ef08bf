# SPDX-License-Identifier: BSD-3-Clause
"""Ranks that make different first calls: all are told who differs in what."""

import numpy
import pytest
import torch

import longattn
import processes
from longattn import Causal, Window
from longattn.ring import VirtualRing
from longattn.ring.agreement import Agreement, Rows, call_with, compare, describe
from longattn.ring.process_group import ProcessGroup
from test_ring_failures import attend


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
    "layout": "plan is '20 positions over 3 ranks, zigzag' on ranks 0 and 2 but '20 positions ",
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


class OneOfTwo(VirtualRing):
    """A rank that hears another one in `gather_objects`: what it says itself, or `other`."""

    def __init__(self):
        super().__init__(2)
        self.ranks = (0,)
        self.asked, self.other = 0, None

    def gather_objects(self, values):
        self.asked += 1
        return [values[0], values[0] if self.other is None else self.other]


def test_only_the_first_call_of_a_function_is_compared_between_processes():
    ranks = OneOfTwo()
    agreement = Agreement(ranks)
    ranks.other = ({"the call": "attention", "a": "2"}, None)
    for _ in range(2):  # a call that failed is none
        with pytest.raises(ValueError, match="a is 1 on rank 0 but 2 on rank 1"):
            agreement.check("attention", [dict(a=1)])
    ranks.other = None
    words = [agreement.check("attention", [dict(a=a)]) for a in (1, 1, 5)]
    assert words == [f"call {n} of the plan, attention(a={a})" for n, a in ((3, 1), (4, 1), (5, 5))]
    assert ranks.asked == 3
    agreement.check("decode", [dict(a=1)])
    assert ranks.asked == 4
    Agreement(ranks, enabled=False).check("attention", [dict(a=1)])
    assert ranks.asked == 4
    with pytest.raises(TypeError, match="check must be True or False, got 1"):
        longattn.ring.plan(20, VirtualRing(2), check=1)


def test_all_calls_are_compared_in_one_process():
    plan = longattn.ring.plan(20, VirtualRing(2))
    shards = plan.shard(torch.randn(1, 20, 2, 16))
    plan.attention(shards, shards, shards, Causal())
    mixed = [shards[0], shards[1].double()]
    with pytest.raises(ValueError, match="q is .* torch.float32 on rank 0 but .* torch.float64 on"):
        plan.attention(mixed, mixed, mixed, Causal())
    plan.unshard(shards)
    with pytest.raises(ValueError, match="ranks disagree in plan.unshard: x is"):
        plan.unshard(mixed)


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
