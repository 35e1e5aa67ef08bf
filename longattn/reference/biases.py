# SPDX-License-Identifier: BSD-3-Clause
"""What each bias adds to a score, pair by pair, as its paper writes it."""

import torch

from longattn import biases
from longattn.reference.softmax import lse_dtype


def bias_matrices(bias, q, q_positions, k_positions):
    """[q_heads, q_len, kv_len], or None."""
    if bias is None:
        return None
    distances = q_positions[:, None] - k_positions[None, :]
    heads = q.shape[2]
    dtype = lse_dtype(q)
    return torch.stack([bias_matrix(bias, distances, h, heads, dtype) for h in range(heads)])


def bias_matrix(bias, distances, head, q_heads, dtype):
    """The bias of `head` for int64 `distances` (query - key), in `dtype`."""
    if isinstance(bias, biases.T5Bias):
        bias = bias.relative()
    away = distances.abs()
    if isinstance(bias, biases.Alibi):
        slopes = _default_slopes(q_heads) if bias.slopes is None else bias.slopes
        if bias.distance_ceiling is not None:
            window = bias.distance_ceiling if bias.window is None else bias.window
            away = torch.where(away < window, away, bias.distance_ceiling)
        return -slopes[head] * away.to(dtype)
    if isinstance(bias, biases.Kerple):
        r1, r2 = (torch.as_tensor(r[head], dtype=dtype) for r in (bias.r1, bias.r2))
        if bias.kind == "log":
            return -r1 * torch.log(1 + r2 * away)
        # The inner where keeps ln 0 out of the gradient.
        return torch.where(away == 0, 0, -r1 * torch.where(away == 0, 1, away).to(dtype) ** r2)
    if isinstance(bias, biases.Sandwich):
        total = sum(
            torch.cos(distances.double() / 10000 ** (2 * i / bias.dim))
            for i in range(bias.dim // 2)
        )
        return (total / (8 * (head + 1) / q_heads)).to(dtype)
    if isinstance(bias, biases.RelativeBias):
        entries = (distances + bias.origin).clamp(0, bias.table.shape[1] - 1)
        return bias.table[head].to(dtype)[entries]
    raise TypeError(f"reference.bias_matrix knows the biases of longattn.biases, got {bias!r}")


def _default_slopes(heads):
    """The recursion of the ALiBi authors' code."""
    power = 1
    while 2 * power <= heads:
        power *= 2
    if power == heads:
        start = 2 ** (-8 / heads)
        return [start ** (h + 1) for h in range(heads)]
    return _default_slopes(power) + _default_slopes(2 * power)[0::2][: heads - power]
