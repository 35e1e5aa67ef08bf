# SPDX-License-Identifier: BSD-3-Clause
"""What bench/ measures is what it says: work is counted right, and everybody computes the truth."""

import pytest
import torch

from bench import truth, visible_pairs, work
from bench.contenders import gathered, rotation, xpos
from bench.contenders.base import Absent, ours
from bench.contenders.chunked import CHUNKED
from bench.contenders.rotation import COPY
from bench.contenders.sdpa import FLOAT_MASK
from bench.contenders.sinks import FUSED
from bench.measure import Job, Options, measure
from bench.prepared import Prepared
from bench_shapes import EVERY, label, tiny
from longattn import reference
from longattn.masks import Causal, Groups, Window

QUICK = Options(repeats=2, seconds=0.01)
LENGTHS = (1, 2, 31, 64, 100)


def counted(mask, length) -> int:
    position = torch.arange(length)
    return int(reference.visible(mask, position, position).sum())


@pytest.mark.parametrize("length", LENGTHS)
def test_pairs_are_those_that_the_masks_show(length):
    assert visible_pairs.causal_pairs(length) == counted(Causal(), length)
    for window in (1, 7, 64, 200):
        for sinks in (0, 1, 5, 90, 300):
            mask = Window(window, sink_tokens=sinks)
            assert visible_pairs.lambda_pairs(length, window, sinks) == counted(mask, length)
    for size, shift in ((1, 0), (8, 0), (8, 4), (7, 3), (300, 150)):
        mask = Groups(size, shift=shift)
        assert visible_pairs.group_pairs(length, size, shift) == counted(mask, length)


def test_pairs_of_blocks_are_those_of_groups_that_reach_back():
    for length in LENGTHS:
        case = tiny("xpos", length=length, block=16, q_heads=1)
        assert case.visible_pairs() == counted(Groups(16, back=1), length)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("segment_length, rate", [(16, 1), (16, 4), (33, 5), (300, 3)])
def test_dilated_pairs_are_those_of_the_reference(length, segment_length, rate):
    position, heads = torch.arange(length), 7
    expected = sum(
        int(
            reference.dense._dilated(segment_length, rate, h % rate, True, position, position).sum()
        )
        for h in range(heads)
    )
    assert visible_pairs.dilated_pairs(length, segment_length, rate, heads) == expected


def test_work_is_counted_by_hand():
    case = tiny("window", length=10, window=3, q_heads=2, kv_heads=1, head_dim=4, batch=3)
    pairs = 3 * 2 * (1 + 2 + 8 * 3)
    assert case.visible_pairs() == pairs
    assert work.operations(case, "forward") == 2 * 2 * 4 * pairs
    assert work.operations(case, "backward") == 5 * 2 * 4 * pairs
    q, k = 3 * 10 * 2 * 4 * 4, 3 * 10 * 1 * 4 * 4  # bytes
    lse = 3 * 2 * 10 * 4
    assert work.bytes_moved(case, "forward") == q + 2 * k + q + lse
    # Reads q, k, v, out, dout, lse; writes dq, dk, dv.
    assert work.bytes_moved(case, "backward") == (q + 2 * k + q + q + lse) + (q + 2 * k)
    rotary = tiny("rotary", length=10, q_heads=2, kv_heads=1, head_dim=4)
    assert work.operations(rotary, "both") == 0
    assert work.bytes_moved(rotary, "forward") == 2 * 10 * 3 * 4 * 4


def assert_everybody_is_right(case) -> None:
    """longattn and every rival that is here and needs no compiler."""
    inputs = case.inputs()
    exact = truth.truth_of(case, inputs, 0)
    rivals = [one for one in case.rivals() if not one.baseline and "compiled" not in one.name]
    for contender in (ours("longattn", case.ours()), *rivals):
        try:
            prepared = Prepared(contender, inputs, exact.gradients)
        except Absent as reason:
            assert str(reason) and contender.name != "longattn"
            continue
        errors = truth.output_errors(prepared, exact)
        try:
            errors |= truth.gradient_errors(prepared, exact)
        except NotImplementedError as reason:
            assert "gradient" in str(reason) and contender.name == FUSED
        assert truth.wrong(errors, case.tolerance()) is None, contender.name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name, settings", EVERY, ids=label)
def test_ours_and_every_rival_are_right(name, settings, dtype):
    assert_everybody_is_right(tiny(name, dtype=dtype, **settings))


@pytest.mark.parametrize("name, settings", EVERY, ids=label)
def test_grouped_heads_and_batches_are_right(name, settings):
    assert_everybody_is_right(tiny(name, kv_heads=2, batch=2, **settings))


@pytest.mark.parametrize("sink_tokens", [0, 5, 300, 900])
@pytest.mark.parametrize("name", ["sinks", "lm_infinite"])
def test_loops_of_several_blocks_are_right(name, sink_tokens):
    settings = {"window": 270, "sink_tokens": sink_tokens}
    if name == "lm_infinite":
        settings["distance_ceiling"] = 200
    assert_everybody_is_right(tiny(name, length=777, kv_heads=2, **settings))


def test_the_copy_of_a_rotation_allocates_nothing_and_has_no_backward():
    case = tiny("rotary")
    q, k = case.inputs()
    call = next(one for one in case.rivals() if one.name == COPY).prepare()
    first, again = call(q, k), call(k, q)
    assert [x.data_ptr() for x in first] == [x.data_ptr() for x in again]
    assert torch.equal(again[0], k) and torch.equal(again[1], q)
    rows = {row["part"]: row for row in measure(Job(case, rivals=(COPY,)), QUICK)[1::2]}
    assert "ms" in rows["forward"] and "no backward pass" in rows["both"]["not_timed"]


def test_a_mask_of_biases_reaches_the_fused_kernel():
    """One of three dimensions does not, and a rival would be slow by it."""
    case = tiny("biases", kind="alibi")
    call = next(one for one in case.rivals() if one.name == FLOAT_MASK).prepare()
    out = call(*(x.transpose(1, 2).requires_grad_() for x in case.inputs()))
    assert "FlashAttention" in out.grad_fn.name()


def test_the_gathered_branches_are_right():
    assert_everybody_is_right(tiny("dilated", batch=2, q_heads=8))
    rates = {"segment_lengths": (32, 64), "dilation_rates": (2, 4), "length": 64}
    assert_everybody_is_right(tiny("dilated", **rates))  # rows that no branch keeps


def test_gathering_copies_kept_rows_only():
    x = torch.arange(2 * 4 * 32 * 3.0).view(2, 4, 32, 3)
    kept = gathered._kept(x, 16, 2)
    assert kept.shape == (2, 2, 2, 2, 8, 3) and kept.data_ptr() == x.data_ptr()
    for head in range(4):
        rows = kept[:, head // 2, head % 2]
        assert torch.equal(rows, x[:, head].unflatten(1, (2, 16))[:, :, head % 2 :: 2])


def test_the_loop_gives_the_gradient_of_no_slice():
    """A slice's gradient is as long as what it was cut from: the loop would be slow by them."""
    case = tiny("sinks", length=1000)
    (loop,) = [one for one in case.rivals() if one.name == CHUNKED]
    out = loop.prepare()(*(x.transpose(1, 2).requires_grad_() for x in case.inputs()))
    names, waiting = set(), [out.grad_fn]
    while waiting:
        node = waiting.pop()
        names.add(node.name())
        waiting += [one for one, _ in node.next_functions if one is not None]
    assert "SplitWithSizesBackward0" in names and "SliceBackward0" not in names


@pytest.mark.parametrize("name", ["rotary", "rerope", "xpos", "sinks", "lm_infinite"])
def test_tables_and_masks_of_rivals_are_made_before_the_clock_runs(name, monkeypatch):
    """On a GPU they would be copied from the host in every call."""
    case = tiny(name)
    rivals = [one for one in case.rivals() if name_says(one, "rotation", "loop", "torchscale")]
    prepared = [Prepared(one, case.inputs(), case.gradients()) for one in rivals]
    assert prepared

    def late(*words, **keywords):
        raise AssertionError("made while the clock runs")

    for module in (rotation, xpos):
        monkeypatch.setattr(module, "tables", late)
    monkeypatch.setattr(torch, "arange", late)
    for one in prepared:
        one.training_step()


def name_says(contender, *words) -> bool:
    return "compiled" not in contender.name and any(word in contender.name for word in words)


@pytest.mark.parametrize("length", [1, 5, 8, 9, 23, 24, 25, 26, 1000])
def test_sampled_rows_lie_in_the_case_and_do_not_overlap(length):
    blocks = tiny("dense", length=length).blocks()
    rows = [row for start, stop in blocks for row in range(start, stop)]
    assert rows == sorted(set(rows))
    assert rows[0] == 0 and rows[-1] == length - 1


def test_truth_of_sampled_rows_is_that_of_the_whole():
    """The gradient of the output is zero elsewhere: dk and dv of the whole sequence."""
    case = tiny("sinks", length=90, dtype="float64")
    sampled = truth.truth_of(case, case.inputs(), 0)
    q, k, v = (x.requires_grad_() for x in case.inputs())
    mask = Window(case.window, sink_tokens=case.sink_tokens)
    out = reference.attention(q, k, v, mask)
    expected = torch.autograd.grad(out, (q, k, v), sampled.gradients)
    torch.testing.assert_close(tuple(sampled.input_gradients.values()), expected)
    rows = torch.cat([out[:, start:stop] for start, stop in sampled.blocks], 1)
    torch.testing.assert_close(sampled.outputs["out"], rows)


def test_rows_tell_everything_about_a_case():
    case = tiny("sinks")
    names = tuple(one.name for one in case.rivals() if "compiled" not in one.name)
    rows = measure(Job(case, rivals=names), QUICK)
    ours_rows = [row for row in rows if row["role"] == "ours"]
    assert [row["part"] for row in ours_rows] == ["forward", "backward", "both"]
    for row in rows:
        assert row["parameters"] == {"window": 40, "sink_tokens": 5}
        assert not row.get("not_timed", "").startswith("wrong")
        if "ms" not in row:
            assert row["not_timed"]
            continue
        median, low, high = row["ms"]
        assert 0 < low <= median <= high
        assert row["gflops"] > 0 and row["matmul_share"] > 0
        assert ("ratio" in row) == (row["role"] != "ours")
    assert {"chunked SDPA loop", "dense: torch SDPA"} <= {
        row["contender"] for row in rows if "ratio" in row
    }
