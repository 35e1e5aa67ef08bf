# SPDX-License-Identifier: BSD-3-Clause
"""The keywords about scores (bias, softcap, sink_logits) in the form that the ops take."""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch

from longattn import checks, distance_sums, score_checks
from longattn.biases import Call
from longattn.partial_engine import accumulator_dtype
from longattn.readable import can_be_read


class ScoreArguments(NamedTuple):
    bias: Optional[torch.Tensor]  # values
    sink_logits: Optional[torch.Tensor]
    bias_form: list  # kind, origin, symmetric; empty without a bias
    softcap: float  # 0: none


def check(q, bias, softcap, sink_logits) -> None:
    """Raises what `lower` and the op would, for who has work to do before."""
    score_checks.check_scores(bias, softcap, sink_logits)
    values = None
    if bias is not None:
        values = bias.form(Call(q.shape[-2], 0, 0, accumulator_dtype(q.dtype), q.device)).values
    score_checks.check_score_tensors(q, values, sink_logits)
    score_checks.check_sink_values(sink_logits)


def lower(
    q, k, bias, softcap, sink_logits, q_start, k_start, *, packed=None, masks=(), reach=None
) -> ScoreArguments:
    """packed: cu_seqlens_q and cu_seqlens_k. They, the masks of all bands, and `reach` (no visible
    |distance| is larger), keep the tables of biases short."""
    first, span = distance_sums.distance_range(
        q.shape[-3], k.shape[-3], q_start, k_start, packed is not None
    )
    if bias is not None and packed is not None and all(map(can_be_read, packed)):
        reach = longest_distance(*packed)
    last = first + span - 1
    return lower_distances(q, bias, softcap, sink_logits, first, last, masks=masks, reach=reach)


def lower_distances(
    q, bias, softcap, sink_logits, first: int, last: int, *, masks=(), reach=None
) -> ScoreArguments:
    """The same for a call that meets distances first .. last."""
    if bias is None and softcap is None and sink_logits is None:
        return ScoreArguments(None, None, [], 0.0)
    score_checks.check_scores(bias, softcap, sink_logits)
    values, form = None, []
    if bias is not None:
        nearest, longest = visible_distances(first, last, masks, q.shape[-2], reach)
        call = Call(q.shape[-2], nearest, longest, accumulator_dtype(q.dtype), q.device)
        values, *form = bias.form(call)
        form = [int(number) for number in form]
    score_checks.check_score_tensors(q, values, sink_logits)
    return ScoreArguments(values, sink_logits, form, 0.0 if softcap is None else float(softcap))


def longest_distance(cu_seqlens_q, cu_seqlens_k) -> int:
    """In any of the sequences. Wrong borders, for the op to refuse, give some number too."""
    lengths = torch.cat([cu_seqlens_q.diff(), cu_seqlens_k.diff()])
    return max(int(lengths.max()) - 1, 0) if lengths.numel() else 0


def visible_distances(first: int, last: int, masks, q_heads: int, reach) -> tuple:
    """(nearest, longest) |distance| that a call can meet whose distances are first .. last; a key
    is visible if one of the masks shows it."""
    behind, ahead = last, -first  # keys before the query and after it
    if masks:
        for mask in masks:
            checks.check_head_counts(mask, q_heads)
        bounds = [
            mask.rule(head).reach()
            for mask in masks
            for head in range(q_heads if mask.head_counts() else 1)
        ]
        behind = min(behind, max(left for left, _ in bounds))
        ahead = min(ahead, max(right for _, right in bounds))
    if reach is not None:
        behind, ahead = min(behind, reach), min(ahead, reach)
    nearest = max(first, -last, 0)
    return nearest, max(behind, ahead, nearest)
