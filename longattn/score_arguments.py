# SPDX-License-Identifier: BSD-3-Clause
"""The keywords about scores (bias, softcap, sink_logits) in the form that the ops take."""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch

from longattn import checks, distance_sums
from longattn.biases import Call
from longattn.partial_engine import accumulator_dtype


class ScoreArguments(NamedTuple):
    bias: Optional[torch.Tensor]  # values
    sink_logits: Optional[torch.Tensor]
    bias_form: list  # kind, origin, symmetric; empty without a bias
    softcap: float  # 0: none


def lower(q, k, bias, softcap, sink_logits, q_start, k_start, *, packed: bool) -> ScoreArguments:
    if bias is None and softcap is None and sink_logits is None:
        return ScoreArguments(None, None, [], 0.0)
    checks.check_softcap(softcap)
    checks.check_sink_logits(sink_logits)
    checks.check_bias(bias)
    values, form = None, []
    if bias is not None:
        first, span = distance_sums.distance_range(
            q.shape[-3], k.shape[-3], q_start, k_start, packed
        )
        longest = max(abs(first), abs(first + span - 1))
        call = Call(q.shape[-2], longest, accumulator_dtype(q.dtype), q.device)
        values, *form = bias.form(call)
        form = [int(number) for number in form]
    checks.check_score_tensors(q, values, sink_logits)
    return ScoreArguments(values, sink_logits, form, 0.0 if softcap is None else float(softcap))
