# SPDX-License-Identifier: BSD-3-Clause
"""torch's scaled_dot_product_attention. Tensors are [batch, heads, length, dim]."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.contenders.base import Absent, Contender, square_fits

SDPA = "torch SDPA"  # on a CPU: its flash kernel
FLOAT_MASK = f"{SDPA} + float mask"


def attend(q, k, v, **keywords):
    """SDPA for grouped heads as well."""
    grouped = q.shape[1] != k.shape[1]
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=grouped, **keywords)


def dense_causal(q, k, v):
    """is_causal is aligned top left, which is the same for equal lengths."""
    return attend(q, k, v, is_causal=True)


def causal_backends(case, *, baseline=False) -> tuple:
    """One contender for each of torch's kernels."""
    kernels = {
        SDPA if case.device == "cpu" else f"{SDPA}, flash": SDPBackend.FLASH_ATTENTION,
        f"{SDPA}, efficient": SDPBackend.EFFICIENT_ATTENTION,
        f"{SDPA}, cuDNN": SDPBackend.CUDNN_ATTENTION,
        f"{SDPA}, math": SDPBackend.MATH,
    }
    return tuple(
        Contender(
            name, lambda name=name, kernel=kernel: _forced(case, name, kernel), True, baseline
        )
        for name, kernel in kernels.items()
    )


def causal(case, *, baseline=True) -> Contender:
    """The dense line beside a sparse pattern."""
    return Contender(f"dense: {SDPA}", lambda: dense_causal, baseline=baseline)


def _forced(case, name, kernel):
    if kernel in (SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION):
        if case.device == "cpu":
            raise Absent(f"{name} runs on CUDA only")
    if kernel == SDPBackend.MATH:
        square_fits(case, 5)

    def call(q, k, v, *_):
        with sdpa_kernel(kernel):
            return dense_causal(q, k, v)

    return call


def masked(case, visible, name=f"{SDPA} + bool mask") -> Contender:
    """With a [length, length] mask, made before the clock runs.

    visible(queries [length, 1], keys [1, length]) -> bool; with a leading dimension of heads where
    they differ."""

    def prepare():
        square_fits(case, 3)
        position = torch.arange(case.length, device=case.device)
        mask = visible(position[:, None], position)
        mask = mask if mask.dim() == 2 else mask[None]  # the fused kernel takes no three dimensions
        return lambda q, k, v, *_: attend(q, k, v, attn_mask=mask)

    return Contender(name, prepare)


def biased(case, bias_matrix, name=FLOAT_MASK) -> Contender:
    """With an additive [heads, length, length] mask, made before the clock runs. The bias has no
    gradient here."""

    def prepare():
        square_fits(case, 5)
        position = torch.arange(case.length, device=case.device)
        distance = position[:, None] - position
        mask = bias_matrix(distance).to(case.torch_dtype)
        mask.masked_fill_(distance < 0, -torch.inf)
        mask = mask[None]  # of three dimensions it would not reach the fused kernel
        return lambda q, k, v, *_: attend(q, k, v, attn_mask=mask)

    return Contender(name, prepare)


def flash(q, k, v):
    """Causal, by the fused kernel itself: (out, lse)."""
    if q.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, is_causal=True)
    return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, is_causal=True)[:2]
