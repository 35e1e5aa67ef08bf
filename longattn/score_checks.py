# SPDX-License-Identifier: BSD-3-Clause
"""Wrong biases, softcaps and sink logits end here."""

from __future__ import annotations

import math
from numbers import Real

from longattn.biases import Bias
from longattn.checks import check_is_tensor
from longattn.readable import can_be_read

# Far beyond any use; inside, float32 keeps the digits of softcap * tanh(score / softcap).
SOFTCAPS = (1e-4, 1e8)


def check_scores(bias, softcap, sink_logits) -> None:
    """What can be said without a call: types and numbers."""
    check_softcap(softcap)
    check_sink_logits(sink_logits)
    check_bias(bias)


def check_bias(bias) -> None:
    if bias is not None and not isinstance(bias, Bias):
        raise TypeError(
            "bias must be a longattn bias (Alibi, Kerple, Sandwich, RelativeBias) or None, got "
            f"{type(bias).__name__}"
        )


def check_softcap(softcap) -> None:
    if softcap is None:
        return
    if not isinstance(softcap, Real) or isinstance(softcap, bool):
        raise TypeError(f"softcap must be a number or None, got {softcap!r}")
    low, high = SOFTCAPS
    # NumPy would compare in its own type; torch.compile may not know the number, but compares.
    cap = softcap if isinstance(softcap, (int, float)) else float(softcap)
    if not low <= cap <= high:
        raise ValueError(f"softcap must be in [{low}, {high}], got {softcap}")


def check_sink_logits(sink_logits) -> None:
    if sink_logits is None:
        return
    check_is_tensor("sink_logits", sink_logits)
    if not sink_logits.is_floating_point():
        raise TypeError(f"sink_logits must be floating point, got {sink_logits.dtype}")


def check_sink_values(sink_logits) -> None:
    """-inf is no sink. +inf would be all of the softmax, and its lse no number."""
    if sink_logits is None or not can_be_read(sink_logits):
        return
    for head, logit in enumerate(sink_logits.tolist()):
        if not logit < math.inf:  # NaN fails too
            raise ValueError(
                f"sink_logits must hold finite numbers, or -inf for heads without a sink, got "
                f"{logit} at head {head}"
            )


def check_score_tensors(q, bias, sink_logits) -> None:
    """What keeps native code inside the values of a bias [q_heads, size] and the sink logits."""
    q_heads = q.shape[-2]
    if bias is not None and (bias.dim() != 2 or bias.shape[0] != q_heads or bias.shape[1] < 1):
        raise ValueError(
            f"the values of a bias must have shape [{q_heads} heads, at least 1], got "
            f"{tuple(bias.shape)}"
        )
    if sink_logits is not None and tuple(sink_logits.shape) != (q_heads,):
        raise ValueError(
            f"sink_logits must have shape [{q_heads}], one a query head, got "
            f"{tuple(sink_logits.shape)}"
        )
    for name, tensor in (("the bias", bias), ("sink_logits", sink_logits)):
        if tensor is not None and tensor.device != q.device:
            raise ValueError(f"{name} must be on q's device {q.device}, got {tensor.device}")
