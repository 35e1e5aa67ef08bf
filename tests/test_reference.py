# SPDX-License-Identifier: BSD-3-Clause
"""The reference itself, against torch's own attention, plain loops, and worked examples."""

import math

import pytest
import torch

import inputs
from cases import CORNER, DILATED, RAGGED, REGULAR
from comparison import plain
from longattn import reference
from longattn.masks import Band, Causal, Full, Groups, Prefix, Window

CASES = [case for case in REGULAR + RAGGED + CORNER if not case.packed]


def positions(q_len, kv_len=None, q_start=0, k_start=0):
    kv_len = q_len if kv_len is None else kv_len
    return q_start + torch.arange(q_len), k_start + torch.arange(kv_len)


def seen_by(mask, row, length, head=0):
    """The keys that one row sees, as a list."""
    return reference.visible(mask, *positions(length), head)[row].nonzero().flatten().tolist()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_attention_is_torch_attention_with_an_explicit_mask(case):
    q, k, v = (plain(tensor) for tensor in inputs.qkv(case, torch.float64))
    out = reference.attention(q, k, v, case.mask, **inputs.call_arguments(case))
    i, j = (
        positions(case.q_shape[1], case.k_shape[1], *case.positions(0))
        if case.batch
        else (positions(case.q_shape[1], case.k_shape[1]))
    )
    shown = torch.stack([reference.visible(case.mask, i, j, h) for h in range(case.q_heads)])
    expected = torch.nn.functional.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2).repeat_interleave(q.shape[2] // k.shape[2], dim=1),
        v.transpose(1, 2).repeat_interleave(q.shape[2] // k.shape[2], dim=1),
        attn_mask=shown,
        scale=case.softmax_scale,
    ).transpose(1, 2)
    some = shown.any(dim=-1).T  # torch leaves rows that see nothing to its backends
    torch.testing.assert_close(out[:, some], expected[:, some], rtol=1e-12, atol=1e-12)
    assert (out[:, ~some] == 0).all()


def test_lse_is_the_logarithm_of_the_sum_of_exponentials():
    q, k, v = (torch.randn(1, 3, 1, 4, dtype=torch.float64) for _ in range(3))
    _, lse = reference.attention(q, k, v, Full(), return_lse=True, softmax_scale=0.7)
    expected = [
        math.log(sum(math.exp(0.7 * (q[0, i, 0] @ k[0, j, 0]).item()) for j in range(3)))
        for i in range(3)
    ]
    assert lse[0, 0].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_rows_that_see_nothing_are_exact(dtype):
    q, k, v = (torch.randn(1, n, 2, 4, dtype=dtype, requires_grad=True) for n in (5, 3, 3))
    out, lse = reference.attention(q, k, v, Causal(), return_lse=True)
    assert (out[:, :2] == 0).all() and (lse[:, :, :2] == -math.inf).all()
    assert lse[:, :, 2:].isfinite().all()
    gradients = torch.autograd.grad(
        (out, lse), (q, k, v), (torch.ones_like(out), torch.ones_like(lse))
    )
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (gradients[0][:, :2] == 0).all() and (gradients[0][:, 2:] != 0).any()


def test_no_keys_at_all():
    q = torch.randn(1, 3, 2, 4, requires_grad=True)
    k = torch.randn(1, 0, 2, 4)
    out, lse = reference.attention(q, k, k, Full(), return_lse=True)
    assert (out == 0).all() and (lse == -math.inf).all()
    (gradient,) = torch.autograd.grad(out.sum(), q)
    assert (gradient == 0).all()


def test_gradients():
    q, k, v = (torch.randn(1, n, 2, 3, dtype=torch.float64, requires_grad=True) for n in (4, 6, 6))
    masks = [Causal(), Window(2, sink_tokens=1), Groups(3)]
    for mask in masks:
        torch.autograd.gradcheck(
            lambda *qkv: reference.attention(*qkv, mask, return_lse=True), (q, k, v)
        )


def test_packed_sequences_are_attentions_of_their_own():
    q = torch.randn(9, 4, 8, dtype=torch.float64)
    k = torch.randn(12, 2, 8, dtype=torch.float64)
    v = torch.randn(12, 2, 5, dtype=torch.float64)
    out, lse = reference.attention(
        q,
        k,
        v,
        Window(3),
        cu_seqlens_q=torch.tensor([0, 4, 4, 9]),
        cu_seqlens_k=torch.tensor([0, 6, 9, 12]),
        return_lse=True,
    )
    assert out.shape == (9, 4, 5) and lse.shape == (4, 9)
    for rows, keys in ((slice(0, 4), slice(0, 6)), (slice(4, 9), slice(9, 12))):
        alone, alone_lse = reference.attention(
            q[None, rows], k[None, keys], v[None, keys], Window(3), return_lse=True
        )
        torch.testing.assert_close(out[rows], alone[0])
        torch.testing.assert_close(lse[:, rows], alone_lse[0])


# Rows of visible keys, worked out by hand from the papers.


def test_causal_and_bands_by_hand():
    assert seen_by(Causal(), 2, 5) == [0, 1, 2]
    assert seen_by(Full(), 2, 5) == [0, 1, 2, 3, 4]
    assert seen_by(Window(1), 2, 5) == [2]
    assert seen_by(Window(2), 2, 5) == [1, 2]
    assert seen_by(Band(1, 1), 2, 5) == [1, 2, 3]
    assert seen_by(Band(None, 1), 2, 5) == [0, 1, 2, 3]
    assert seen_by(Band(0, None), 2, 5) == [2, 3, 4]
    assert seen_by(Band(0, 1, sink_tokens=1), 3, 5) == [0, 3, 4]
    assert seen_by(Band(0, 0, sink_tokens=9), 3, 5) == [0, 1, 2, 3]  # sinks end at the right bound
    assert seen_by(Prefix(3), 1, 5) == [0, 1, 2]
    assert seen_by(Prefix(3), 3, 5) == [0, 1, 2, 3]
    assert seen_by(Window(2) & Groups(3), 3, 6) == [3]


def test_lm_infinite_by_hand():
    rows = [[0], [0, 1], [0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 5]]
    assert [seen_by(Window(2, sink_tokens=1), row, 6) for row in range(6)] == rows


def test_longlora_groups_by_hand():
    mask = Groups(4, shift=(0, 2), causal=False)
    groups = [sorted({tuple(seen_by(mask, row, 16, head)) for row in range(16)}) for head in (0, 1)]
    assert groups[0] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11), (12, 13, 14, 15)]
    assert groups[1] == [(0, 1), (2, 3, 4, 5), (6, 7, 8, 9), (10, 11, 12, 13), (14, 15)]


def test_shifted_sparse_attention_is_groups_with_half_of_the_heads_shifted():
    x = torch.randn(1, 16, 4, 8, dtype=torch.float64)
    expected = reference.attention(x, x, x, Groups(4, shift=(0, 0, 2, 2)))
    assert torch.equal(reference.shifted_sparse_attention(x, x, x, 4), expected)


def test_lambda_attention_is_a_window_with_sinks():
    x = torch.randn(1, 16, 2, 8, dtype=torch.float64)
    expected = reference.attention(x, x, x, Window(3, sink_tokens=2))
    assert torch.equal(reference.lambda_attention(x, x, x, window=3, sink_tokens=2), expected)


LONGNET_ROWS = {  # segments (4, 8), rates (1, 2), 8 positions: head, row -> key: multiplicity
    (0, 6): {0: 1, 2: 1, 4: 2, 5: 1, 6: 2},
    (0, 7): {4: 1, 5: 1, 6: 1, 7: 1},
    (1, 6): {4: 1, 5: 1, 6: 1},
    (1, 7): {1: 1, 3: 1, 4: 1, 5: 2, 6: 1, 7: 2},
}


@pytest.mark.parametrize("head, row", LONGNET_ROWS)
@pytest.mark.parametrize("detach_weights", [False, True])
def test_longnet_by_hand(head, row, detach_weights):
    counts = LONGNET_ROWS[head, row]
    q, k = (torch.randn(1, 8, 2, 4, dtype=torch.float64) for _ in range(2))
    v = torch.eye(8, dtype=torch.float64)[None, :, None, :].expand(1, 8, 2, 8)
    weights, lse = reference.dilated_attention(
        q, k, v, (4, 8), (1, 2), detach_weights=detach_weights, return_lse=True
    )
    scores = [(q[0, row, head] @ k[0, j, head]).item() / 2 for j in range(8)]
    masses = [counts.get(j, 0) * math.exp(scores[j]) for j in range(8)]
    assert lse[0, head, row].item() == pytest.approx(math.log(sum(masses)), abs=1e-12)
    expected = [mass / sum(masses) for mass in masses]
    assert weights[0, row, head].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("case", DILATED, ids=str)
def test_multiplicities_equal_mixing_by_lse(case):
    """The two published forms of LongNet, for every list of branches."""
    q, k, v = (plain(tensor) for tensor in inputs.qkv(case, torch.float64))
    arguments = dict(
        causal=case.causal, head_offset=case.head_offset, q_start=case.q_start, k_start=case.k_start
    )
    branches = [
        reference.dilated_attention(q, k, v, (w,), (r,), return_lse=True, **arguments)
        for w, r in zip(case.segment_lengths, case.dilation_rates)
    ]
    mixed = reference.merge_partials(*zip(*branches))
    for detach_weights in (False, True):
        union = reference.dilated_attention(
            q,
            k,
            v,
            case.segment_lengths,
            case.dilation_rates,
            detach_weights=detach_weights,
            return_lse=True,
            **arguments,
        )
        torch.testing.assert_close(union, mixed, rtol=1e-11, atol=1e-11)


def test_merge_by_hand():
    """lse ln 3 and 0 merge to ln 4 with weights 3/4 and 1/4."""
    outs = [torch.full((1, 1, 1, 2), value, dtype=torch.float64) for value in (1.0, 5.0)]
    lses = [torch.full((1, 1, 1), value, dtype=torch.float64) for value in (math.log(3), 0.0)]
    out, lse = reference.merge_partials(outs, lses)
    assert out.flatten().tolist() == pytest.approx([2.0, 2.0])
    assert lse.item() == pytest.approx(math.log(4))


def test_merging_nothing_with_nothing_is_nothing():
    out = torch.zeros(1, 2, 1, 3, requires_grad=True)
    lse = torch.tensor([[[0.0, -math.inf]]]).requires_grad_()
    empty = torch.full((1, 1, 2), -math.inf).requires_grad_()
    merged, merged_lse = reference.merge_partials([out, out], [lse, empty])
    assert (merged == 0).all() and merged_lse.flatten().tolist() == [0.0, -math.inf]
    gradients = torch.autograd.grad(
        (merged, merged_lse), (out, lse, empty), (torch.ones_like(out), torch.ones_like(lse))
    )
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert gradients[1].flatten().tolist() == [1.0, 0.0] and (gradients[2] == 0).all()


def test_reference_refuses_what_no_engine_does():
    x, ends = torch.randn(1, 3, 1, 4), torch.tensor([0, 3])
    with pytest.raises(NotImplementedError, match="cu_seqlens"):
        reference.dilated_attention(x, x, x, (2,), (1,), cu_seqlens_q=ends, cu_seqlens_k=ends)
