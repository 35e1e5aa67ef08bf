# SPDX-License-Identifier: BSD-3-Clause
"""The published patterns: lambda-shaped, dilated and shifted sparse attention."""

import dataclasses

import pytest
import torch

import comparison
import inputs
import longattn
from cases import DILATED, Case, Dilated
from longattn import reference
from longattn.masks import Causal, Full, Groups, Window

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
CLOSE = dict(rtol=1e-10, atol=1e-10)


def dtype_name(dtype):
    return str(dtype).removeprefix("torch.")


def dilated_arguments(case) -> dict:
    return dict(
        segment_lengths=case.segment_lengths,
        dilation_rates=case.dilation_rates,
        causal=case.causal,
        head_offset=case.head_offset,
        q_start=case.q_start,
        k_start=case.k_start,
    )


# Dilated


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("case", DILATED, ids=str)
def test_dilated(case, dtype):
    comparison.compare(
        longattn.dilated_attention,
        reference.dilated_attention,
        inputs.qkv(case, dtype),
        dilated_arguments(case),
        case.name,
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=dtype_name)
@pytest.mark.parametrize("case", DILATED, ids=str)
def test_dilated_with_detached_weights(case, dtype):
    """torchscale's gradient: mixing weights are constants."""
    comparison.compare(
        longattn.dilated_attention,
        reference.dilated_attention,
        inputs.qkv(case, dtype),
        dict(dilated_arguments(case), detach_weights=True),
        case.name,
    )


BRANCHES = Dilated("branches", (16, 32, 64), (1, 2, 4), 150, q_heads=4, kv_heads=2)


def test_detached_weights_change_gradients_but_not_results():
    tensors = inputs.qkv(BRANCHES, torch.float64)
    outs, gradients = [], []
    for detach_weights in (False, True):
        out = longattn.dilated_attention(
            *tensors, **dict(dilated_arguments(BRANCHES), detach_weights=detach_weights)
        )
        outs.append(out)
        gradients.append(torch.autograd.grad(out.square().sum(), tensors))
    torch.testing.assert_close(*outs, **CLOSE)
    assert (gradients[0][0] - gradients[1][0]).abs().max() > 1e-3


def test_the_order_of_branches_does_not_matter():
    tensors = inputs.qkv(BRANCHES, torch.float64, requires_grad=False)
    expected = longattn.dilated_attention(*tensors, (16, 32, 64), (1, 2, 4), return_lse=True)
    for order in ((2, 1, 0), (1, 2, 0)):
        segments = tuple((16, 32, 64)[i] for i in order)
        rates = tuple((1, 2, 4)[i] for i in order)
        actual = longattn.dilated_attention(*tensors, segments, rates, return_lse=True)
        torch.testing.assert_close(actual, expected, **CLOSE)


def test_lists_and_tuples_of_branches():
    tensors = inputs.qkv(BRANCHES, torch.float32, requires_grad=False)
    expected = longattn.dilated_attention(*tensors, (16, 64), (1, 2))
    assert torch.equal(longattn.dilated_attention(*tensors, [16, 64], [1, 2]), expected)


@pytest.mark.parametrize("causal, mask", [(True, Causal()), (False, Full())])
def test_one_dense_branch_is_attention(causal, mask):
    tensors = inputs.qkv(BRANCHES, torch.float64, requires_grad=False)
    actual = longattn.dilated_attention(*tensors, (150,), (1,), causal=causal, return_lse=True)
    torch.testing.assert_close(actual, longattn.attention(*tensors, mask, return_lse=True), **CLOSE)


def test_a_rate_of_one_is_groups():
    tensors = inputs.qkv(BRANCHES, torch.float64, requires_grad=False)
    actual = longattn.dilated_attention(*tensors, (32,), (1,), return_lse=True)
    torch.testing.assert_close(
        actual, longattn.attention(*tensors, Groups(32), return_lse=True), **CLOSE
    )


@pytest.mark.parametrize("head_offset", ["mod", "blocks"])
def test_head_offsets_are_the_two_published_ones(head_offset):
    """One branch of rate 4 covers exactly the rows p with p % 4 == offset(head)."""
    x = torch.randn(1, 32, 6, 8)
    offsets = {"mod": [0, 1, 2, 3, 0, 1], "blocks": [0, 0, 1, 1, 2, 2]}[head_offset]
    out, lse = longattn.dilated_attention(
        x, x, x, (16,), (4,), head_offset=head_offset, return_lse=True
    )
    for head, offset in enumerate(offsets):
        covered = torch.arange(32) % 4 == offset
        assert lse[0, head].isfinite().tolist() == covered.tolist()
        assert (out[0, ~covered, head] == 0).all()


@pytest.mark.parametrize("case", [case for case in DILATED if case.q_len > 1], ids=str)
def test_a_decode_step_is_its_row_of_the_prefill(case):
    q, k, v = inputs.qkv(case, torch.float64, requires_grad=False)
    arguments = dilated_arguments(case)
    start = arguments.pop("q_start")
    if start is None:
        start = case.k_start + case.k_shape[1] - case.q_len
    prefill, prefill_lse = longattn.dilated_attention(
        q, k, v, q_start=start, return_lse=True, **arguments
    )
    for row in sorted({0, case.q_len // 2, case.q_len - 1}):
        out, lse = longattn.dilated_attention(
            q[:, row : row + 1], k, v, q_start=start + row, return_lse=True, **arguments
        )
        torch.testing.assert_close(out[:, 0], prefill[:, row], **CLOSE)
        torch.testing.assert_close(lse[:, :, 0], prefill_lse[:, :, row], **CLOSE)


def test_shards_of_the_keys_merge_with_dilation():
    """Segments count from position 0, so a shard of the keys knows its own residues."""
    tensors = inputs.qkv(BRANCHES, torch.float64)
    q, k, v = tensors
    whole = longattn.dilated_attention(q, k, v, (16, 64), (2, 3), return_lse=True)
    partials = [
        longattn.dilated_attention(
            q, k[:, a:b], v[:, a:b], (16, 64), (2, 3), q_start=0, k_start=a, return_lse=True
        )
        for a, b in ((0, 37), (37, 101), (101, 150))
    ]
    merged = longattn.merge_partials(*zip(*partials))
    torch.testing.assert_close(merged, whole, **CLOSE)
    for ours, theirs in zip(
        torch.autograd.grad(merged[0].square().sum() + _finite_sum(merged[1]), tensors),
        torch.autograd.grad(whole[0].square().sum() + _finite_sum(whole[1]), tensors),
    ):
        torch.testing.assert_close(ours, theirs, **CLOSE)


def _finite_sum(lse):
    return lse[lse.isfinite()].sum()


def test_dilated_causality_by_perturbation():
    x = torch.randn(1, 100, 4, 16)
    arguments = dict(segment_lengths=(8, 40), dilation_rates=(1, 3))
    before = longattn.dilated_attention(x, x, x, **arguments)
    for t in (1, 40, 63, 99):
        other = x.clone()
        other[:, t] += 1.0
        after = longattn.dilated_attention(other, other, other, **arguments)
        assert torch.equal(after[:, :t], before[:, :t])
        assert (after[:, t] != before[:, t]).any()


def test_dilated_gradcheck():
    q, k, v = (torch.randn(1, 12, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    for arguments in (dict(causal=True), dict(causal=False), dict(head_offset="blocks")):
        torch.autograd.gradcheck(
            lambda *qkv: longattn.dilated_attention(
                *qkv, (4, 12), (1, 2), return_lse=True, **arguments
            ),
            (q, k, v),
        )


LONGNET_ROWS = {  # segments (4, 8), rates (1, 2), 8 positions: head, row -> key: multiplicity
    (0, 6): {0: 1, 2: 1, 4: 2, 5: 1, 6: 2},
    (0, 7): {4: 1, 5: 1, 6: 1, 7: 1},
    (1, 6): {4: 1, 5: 1, 6: 1},
    (1, 7): {1: 1, 3: 1, 4: 1, 5: 2, 6: 1, 7: 2},
}


@pytest.mark.parametrize("detach_weights", [False, True])
def test_longnet_by_hand(detach_weights):
    """Zero queries weigh keys by their multiplicity; one-hot values show the weights."""
    q = torch.zeros(1, 8, 2, 4, dtype=torch.float64)
    v = torch.eye(8, dtype=torch.float64)[None, :, None, :].repeat(1, 1, 2, 1)
    out = longattn.dilated_attention(q, q, v, (4, 8), (1, 2), detach_weights=detach_weights)
    for (head, row), counts in LONGNET_ROWS.items():
        expected = [counts.get(key, 0) / sum(counts.values()) for key in range(8)]
        assert out[0, row, head].tolist() == pytest.approx(expected, abs=1e-12)


# Lambda-shaped


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("window, sink_tokens", [(20, 3), (1, 0), (500, 2), ((5, 60), (1, 0))])
def test_lambda(window, sink_tokens, dtype):
    case = Case("lambda", Full(), 141, 173)
    comparison.compare(
        longattn.lambda_attention,
        reference.lambda_attention,
        inputs.qkv(case, dtype),
        dict(window=window, sink_tokens=sink_tokens),
        case.name,
    )


def test_lm_infinite_by_hand():
    rows = [[0], [0, 1], [0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 5]]
    q = torch.zeros(1, 6, 1, 4)
    v = torch.eye(6)[None, :, None, :].contiguous()
    out = longattn.lambda_attention(q, q, v, window=2, sink_tokens=1)
    for row, keys in enumerate(rows):
        assert out[0, row, 0].nonzero().flatten().tolist() == keys


def test_lambda_packed_has_sinks_in_every_sequence():
    case = Case("lambda packed", Full(), q_lengths=(40, 90, 3))
    comparison.compare(
        longattn.lambda_attention,
        reference.lambda_attention,
        inputs.qkv(case, torch.float64),
        dict(window=10, sink_tokens=2, **inputs.packed_by(case.q_lengths)),
        case.name,
    )


# Shifted sparse


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("group_size", [1, 7, 64, 200])
def test_shifted(group_size, causal, dtype):
    case = Case("shifted", Full(), 149, q_heads=4, kv_heads=2, head_dim=24)
    comparison.compare(
        longattn.shifted_sparse_attention,
        reference.shifted_sparse_attention,
        inputs.qkv(case, dtype),
        dict(group_size=group_size, causal=causal),
        case.name,
    )


@pytest.mark.parametrize("q_heads", [1, 3])
def test_shifted_with_an_odd_number_of_heads(q_heads):
    """Heads from q_heads // 2 on are shifted."""
    case = Case("odd heads", Full(), 70, q_heads=q_heads)
    tensors = inputs.qkv(case, torch.float64)
    comparison.compare(
        longattn.shifted_sparse_attention,
        reference.shifted_sparse_attention,
        tensors,
        dict(group_size=16),
        case.name,
    )


def test_longlora_groups_by_hand():
    q = torch.zeros(1, 16, 2, 4)
    v = torch.eye(16)[None, :, None, :].repeat(1, 1, 2, 1)
    out = longattn.shifted_sparse_attention(q, q, v, 4, causal=False)
    expected = [
        [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11), (12, 13, 14, 15)],
        [(0, 1), (2, 3, 4, 5), (6, 7, 8, 9), (10, 11, 12, 13), (14, 15)],
    ]
    for head, groups in enumerate(expected):
        for group in groups:
            for row in group:
                assert tuple(out[0, row, head].nonzero().flatten().tolist()) == group


def test_a_group_over_everything_is_dense_for_the_first_heads():
    """The shifted heads then split at half a group."""
    q, k, v = inputs.qkv(Case("one group", Full(), 64), torch.float64, requires_grad=False)
    out = longattn.shifted_sparse_attention(q, k, v, 64)
    dense = longattn.attention(q, k, v, Causal())
    halves = longattn.attention(q, k, v, Groups(32))
    torch.testing.assert_close(out[:, :, 0], dense[:, :, 0], **CLOSE)
    torch.testing.assert_close(out[:, :, 1], halves[:, :, 1], **CLOSE)


@pytest.mark.parametrize("pattern", ["lambda", "dilated", "shifted"])
def test_common_keywords_are_passed_on(pattern):
    """softmax_scale, q_start and k_start mean in a pattern what they mean in attention."""
    case = dataclasses.replace(BRANCHES, q_len=30, kv_len=70)
    function, reference_function, own = {
        "lambda": (
            longattn.lambda_attention,
            reference.lambda_attention,
            dict(window=9, sink_tokens=30),
        ),
        "dilated": (
            longattn.dilated_attention,
            reference.dilated_attention,
            dict(segment_lengths=(16, 64), dilation_rates=(1, 2)),
        ),
        "shifted": (
            longattn.shifted_sparse_attention,
            reference.shifted_sparse_attention,
            dict(group_size=24),
        ),
    }[pattern]
    comparison.compare(
        function,
        reference_function,
        inputs.qkv(case, torch.float64),
        dict(own, softmax_scale=0.4, q_start=41, k_start=9),
        pattern,
    )


def test_packed_shifted_groups_begin_in_every_sequence():
    case = Case("packed shifted", Full(), q_lengths=(40, 90, 3))
    arguments = inputs.packed_by(case.q_lengths)
    tensors = inputs.qkv(case, torch.float64)
    comparison.compare(
        longattn.shifted_sparse_attention,
        reference.shifted_sparse_attention,
        tensors,
        dict(arguments, group_size=16),
        case.name,
    )
    expected = longattn.attention(*tensors, Groups(16, shift=(0, 8)), **arguments)
    assert torch.equal(longattn.shifted_sparse_attention(*tensors, 16, **arguments), expected)


def test_a_window_in_lambda_is_the_same_call():
    tensors = inputs.qkv(Case("same call", Full(), 90), torch.float32, requires_grad=False)
    expected = longattn.attention(*tensors, Window(12, sink_tokens=3))
    assert torch.equal(longattn.lambda_attention(*tensors, window=12, sink_tokens=3), expected)
