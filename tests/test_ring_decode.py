# SPDX-License-Identifier: BSD-3-Clause
"""plan.decode: keys on many ranks, a few queries on all of them, equals attention to all keys."""

import pytest
import torch

import inputs
import longattn
import processes
from closeness import assert_close, assert_lse_close
from longattn import reference
from longattn.masks import Band, Causal, Full, Groups, Prefix, Window
from longattn.ring import VirtualRing
from rings import LAYOUTS, UNEVEN_GROUPS

PROMPT = 90  # positions that the plan splits
Q_HEADS, KV_HEADS, HEAD_DIM, VALUE_DIM = 4, 2, 16, 24
MASKS = (
    Causal(), Full(), Window(20), Window(3, sink_tokens=40), Band(9, 4), Prefix(33),
    Groups(24, shift=12), Window((3, 90, 1, 20), sink_tokens=(0, 2, 50, 1)),
)  # fmt: skip


def tensors(length, q_len, dtype=torch.float64, batch=2):
    """q of the last positions, k and v of all"""
    q = inputs.random((batch, q_len, Q_HEADS, HEAD_DIM), dtype, "q")
    k = inputs.random((batch, length, KV_HEADS, HEAD_DIM), dtype, "k", transposed=True)
    v = inputs.random((batch, length, KV_HEADS, VALUE_DIM), dtype, "v")
    return q, k, v


def owners(world_size: int, length: int) -> list:
    """What each rank appended after the prompt: every world_size-th position."""
    return [range(PROMPT + rank, length, world_size) for rank in range(world_size)]


def cache(plan, x, appended):
    """Each rank's rows of the whole x: those of the plan, then those appended."""
    shards = plan.shard(x[:, :PROMPT])
    shards = shards if isinstance(shards, list) else [shards]
    return [
        inputs.hostile(torch.cat([shard, *(x[:, i : i + 1] for i in positions)], dim=1))
        for shard, positions in zip(shards, appended)
    ]


def decode(world_size, layout, q, k, v, mask, *, q_start, **keywords):
    plan = longattn.ring.plan(PROMPT, VirtualRing(world_size), layout)
    appended = owners(world_size, k.shape[1])
    k, v = cache(plan, k, appended), cache(plan, v, appended)
    return plan.decode(
        *(q, k, v, mask), q_start=q_start, appended=appended, return_lse=True, **keywords
    )


def assert_equals_the_whole(actual, q, k, v, mask, q_start, **keywords):
    """By the rule, against the float64 reference."""
    whole = dict(q_start=q_start, return_lse=True, **keywords)
    exact = reference.attention(q.double(), k.double(), v.double(), mask, **whole)
    eager, _ = reference.attention(q, k, v, mask, **whole)
    assert actual[0].dtype == q.dtype
    assert_close(actual[0], [eager], exact[0], "out")
    assert_lse_close(actual[1], exact[1], 10.0)


@pytest.mark.parametrize("q_len", (1, 3))
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_equals_attention_to_all_keys(mask, layout, q_len):
    length = PROMPT + 14
    q, k, v = tensors(length, q_len)
    for world_size in (1, 2, 4, 8):
        actual = decode(world_size, layout, q, k, v, mask, q_start=length - q_len)
        assert_equals_the_whole(actual, q, k, v, mask, length - q_len)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mask", UNEVEN_GROUPS, ids=str)
def test_groups_whose_borders_fall_between_rows(mask, layout):
    """Tokens go to ranks in turn, whatever the plan's layout; a rank's first one has no step."""
    for length, q_len in ((PROMPT + 1, 1), (PROMPT + 4, 3), (PROMPT + 25, 2)):
        q, k, v = tensors(length, q_len)
        for world_size in (3, 4):
            actual = decode(world_size, layout, q, k, v, mask, q_start=length - q_len)
            assert_equals_the_whole(actual, q, k, v, mask, length - q_len)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_errors_do_not_grow_with_the_number_of_ranks(dtype):
    q, k, v = tensors(PROMPT, 1, dtype)
    exact, _ = reference.attention(*(x.double() for x in (q, k, v)), Causal(), return_lse=True)
    errors = []
    for world_size in (1, 2, 4, 8, 32):
        actual = decode(world_size, "zigzag", q, k, v, Causal(), q_start=PROMPT - 1)
        assert_equals_the_whole(actual, q, k, v, Causal(), PROMPT - 1)
        errors.append((actual[0].double() - exact).abs().max().item())
    assert max(errors) <= 1.5 * errors[0] + torch.finfo(torch.float32).eps


def test_keys_of_one_rank_only():
    """All others have none, or none that is visible."""
    q, k, v = tensors(PROMPT, 2)
    plan = longattn.ring.plan(0, VirtualRing(3))
    nothing = [x[:, :0] for x in (k, v)]
    rows = [[nothing[i], x, nothing[i]] for i, x in enumerate((k, v))]
    appended = [(), range(PROMPT), []]
    for mask in (Causal(), Window(5)):
        actual = plan.decode(q, *rows, mask, q_start=PROMPT - 2, appended=appended, return_lse=True)
        assert_equals_the_whole(actual, q, k, v, mask, PROMPT - 2)
    actual = decode(4, "contiguous", q, k, v, Window(3), q_start=PROMPT - 2)
    assert_equals_the_whole(actual, q, k, v, Window(3), PROMPT - 2)


@pytest.mark.parametrize("sinks", [None, torch.linspace(-1, 1, Q_HEADS, dtype=torch.float64)])
def test_queries_that_see_nothing(sinks):
    q, k, v = tensors(PROMPT, 7)
    out, lse = decode(3, "zigzag", q, k, v, Window(5), q_start=PROMPT, sink_logits=sinks)
    assert_equals_the_whole((out, lse), q, k, v, Window(5), PROMPT, sink_logits=sinks)
    assert (out[:, 4:] == 0).all() and not (out[:, :4] == 0).any()


@pytest.mark.parametrize("length", [0, 1])
def test_fewer_keys_than_ranks(length):
    q, k, v = (x[:, :length] if i else x for i, x in enumerate(tensors(5, 2)))
    plan = longattn.ring.plan(length, VirtualRing(4))
    rows = [plan.shard(x) for x in (k, v)]
    actual = plan.decode(q, *rows, Causal(), q_start=length, return_lse=True)
    assert_equals_the_whole(actual, q, k, v, Causal(), length)


def scores() -> dict:
    heads = torch.linspace(0.1, 0.8, Q_HEADS, dtype=torch.float64)
    table = inputs.random((Q_HEADS, 40), torch.float64, "table")
    return {
        "alibi": dict(bias=longattn.Alibi()),
        "kerple": dict(bias=longattn.Kerple(heads, heads.flip(0))),
        "table": dict(bias=longattn.RelativeBias(table)),
        "sinks": dict(sink_logits=heads * 3),
        "softcap": dict(softcap=2.0, softmax_scale=0.9),
    }


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", scores())
def test_scores(name, layout):
    keywords, length = scores()[name], PROMPT + 6
    q, k, v = tensors(length, 2)
    for world_size in (1, 4):
        actual = decode(world_size, layout, q, k, v, Causal(), q_start=length - 2, **keywords)
        assert_equals_the_whole(actual, q, k, v, Causal(), length - 2, **keywords)


def test_what_travels_does_not_depend_on_the_number_of_keys():
    sent = []
    for length in (PROMPT, 10 * PROMPT):
        ring = VirtualRing(4)
        plan = longattn.ring.plan(length, ring)
        q, k, v = tensors(length, 1, torch.bfloat16)
        rows = [plan.shard(x) for x in (k, v)]
        ring.traffic.reset()
        plan.decode(q, *rows, Causal(), q_start=length - 1)
        sent.append(ring.traffic)
        numbers = q.shape[0] * Q_HEADS * (VALUE_DIM + 2)
        assert ring.traffic.reduced_bytes == 4 * 4 * numbers  # float32, four ranks
        assert ring.traffic.reductions == 4 * 2 and ring.traffic.bytes == 0
    assert sent[0] == sent[1]


def on_processes(rank, layout):
    """A prompt by plan.attention, then tokens by plan.decode: the rows of one long call."""
    world, length = 3, PROMPT + 5
    q, k, v = tensors(length, length, torch.float32)
    plan = longattn.ring.plan(PROMPT, layout=layout)
    mask = Window(30, sink_tokens=2)
    shards = [plan.shard(x[:, :PROMPT]) for x in (q, k, v)]
    rows = [plan.unshard(plan.attention(*shards, mask))]
    keys, values = shards[1:]
    count = 0
    for token in range(PROMPT, length):
        here = slice(token, token + 1)
        if token % world == rank:
            keys = torch.cat([keys, k[:, here]], dim=1)
            values = torch.cat([values, v[:, here]], dim=1)
            count += 1
        first = PROMPT + (rank - PROMPT) % world
        appended = range(first, first + count * world, world)
        rows.append(plan.decode(q[:, here], keys, values, mask, q_start=token, appended=appended))
    return torch.cat(rows, dim=1)


@pytest.mark.parametrize("layout", ["zigzag", "striped"])
def test_a_prompt_and_then_tokens_on_processes(tmp_path, layout):
    outs = processes.run(3, on_processes, tmp_path, layout)
    length = PROMPT + 5
    q, k, v = tensors(length, length, torch.float32)
    mask = Window(30, sink_tokens=2)
    exact = reference.attention(q.double(), k.double(), v.double(), mask)
    eager = reference.attention(q, k, v, mask)
    for out in outs:
        assert torch.equal(out, outs[0])
        assert_close(out, [eager], exact, "out")


@pytest.mark.parametrize("rows", ((1, 1), (2, 2), (0, 3)), ids=str)
def test_rows_that_two_ranks_claim_are_refused(rows):
    q, k, v = tensors(PROMPT, 1)
    plan = longattn.ring.plan(PROMPT, VirtualRing(2))
    keys, values = (
        [torch.cat([own, x[:, :more]], 1) for own, more in zip(plan.shard(x), rows)] for x in (k, v)
    )
    appended = [range(PROMPT, PROMPT + more) for more in rows]
    last = max(rows)
    if rows[0] == 0:  # one rank keeps them all
        plan.decode(q, keys, values, Causal(), q_start=PROMPT + last - 1, appended=appended)
        return
    with pytest.raises(ValueError, match="ranks appended .* each position belongs to one rank"):
        plan.decode(q, keys, values, Causal(), q_start=PROMPT + last - 1, appended=appended)


def test_under_autocast():
    q, k, v = tensors(PROMPT, 1, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out, lse = decode(2, "zigzag", q, k, v, Causal(), q_start=PROMPT - 1)
    narrow = (x.bfloat16() for x in (q, k, v))
    expected = decode(2, "zigzag", *narrow, Causal(), q_start=PROMPT - 1)
    assert out.dtype == torch.bfloat16 and torch.equal(out, expected[0])
    assert lse.dtype == torch.float32 and torch.equal(lse, expected[1])


INFINITE = torch.full((Q_HEADS,), torch.inf)


def wrong_calls() -> dict:
    q, k, v = tensors(PROMPT, 1)
    plan = longattn.ring.plan(PROMPT, VirtualRing(2))
    keys, values = plan.shard(k), plan.shard(v)
    packed = longattn.ring.plan(PROMPT, VirtualRing(2), cu_seqlens=[0, 40, PROMPT])
    last = dict(q_start=PROMPT - 1)
    learned = [x.clone().requires_grad_() for x in keys]
    logits = torch.zeros(Q_HEADS, requires_grad=True)
    return {
        "a gradient is wanted": (plan, (q, learned, values, Causal()), last, "no gradients"),
        "of sinks": (plan, (q, keys, values, Causal()), {**last, "sink_logits": logits}, "no_grad"),
        "no number": (
            *(plan, (q, keys, values, Causal()), {**last, "sink_logits": INFINITE}),
            "must hold finite numbers, or -inf",
        ),
        "packed": (packed, (q, keys, values, Causal()), last, "one sequence, not packed"),
        "no mask": (plan, (q, keys, values), last, "mask is required"),
        "q_start": (plan, (q, keys, values, Causal()), dict(q_start=None), "must be an int"),
        "rows": (plan, (q, [keys[0][:, 1:], keys[1]], values, Causal()), last, "agree in all but"),
        "rows of both": (
            *(plan, (q, [x[:, 1:] for x in keys], [x[:, 1:] for x in values], Causal()), last),
            "k and v of rank 0 must have 45 rows, 45 of the plan and 0 appended, got 44",
        ),
        "appended": (
            *(plan, (q, keys, values, Causal()), {**last, "appended": [range(89, 90), ()]}),
            r"come after the plan's 90, got range\(89, 90\)",
        ),
        "twice": (
            *(plan, (q, keys, values, Causal())),
            {**last, "appended": [[range(90, 95, 2), range(94, 96)], ()]},
            r"appended ranges of rank 0 overlap, got \[range\(90, 95, 2\), range\(94, 96\)\]",
        ),
        "falling": (
            *(plan, (q, keys, values, Causal()), {**last, "appended": [range(99, 90, -1), ()]}),
            "must rise",
        ),
        "no ranges": (
            *(plan, (q, keys, values, Causal()), {**last, "appended": [[90], ()]}),
            "a range of positions or a list of them, got int",
        ),
        "one for all": (
            *(plan, (q, keys, values, Causal()), {**last, "appended": range(90, 92)}),
            "lists of 2 shards",
        ),
        "dropout": (plan, (q, keys, values, Causal()), {**last, "dropout_p": 0.1}, "no dropout"),
    }


@pytest.mark.parametrize("name", wrong_calls())
def test_wrong_calls_raise_sentences(name):
    plan, arguments, keywords, words = wrong_calls()[name]
    with pytest.raises((TypeError, ValueError, NotImplementedError), match=words):
        plan.decode(*arguments, **keywords)


def test_gradients_may_be_off():
    plan = longattn.ring.plan(PROMPT, VirtualRing(2))
    q, k, v = tensors(PROMPT, 1)
    q.requires_grad_()
    keys, values = plan.shard(k), plan.shard(v)
    with torch.no_grad():
        assert not plan.decode(q, keys, values, Causal(), q_start=PROMPT - 1).requires_grad
