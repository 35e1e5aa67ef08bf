# SPDX-License-Identifier: BSD-3-Clause
"""Shifted sparse attention: block-local groups, shifted by half a group in half of the heads."""

from longattn import checks
from longattn.attention import attention
from longattn.masks import Groups


def shifted_sparse_attention(
    q,
    k,
    v,
    group_size,
    *,
    causal=True,
    bias=None,
    softmax_scale=None,
    softcap=None,
    sink_logits=None,
    q_start=None,
    k_start=0,
    cu_seqlens_q=None,
    cu_seqlens_k=None,
    return_lse=False,
    deterministic=None,
    backend=None,
    **unsupported,
):
    """LongLoRA's S2-Attn (Chen et al. 2023, arXiv 2309.12307): attention within groups of keys.

    Heads 0 .. q_heads/2 - 1 have group borders at multiples of group_size, the others at
    group_size // 2 plus multiples of it. The first and the last shifted group are short: nothing
    wraps around, as in LongLoRA's FlashAttention path. (Its path without FlashAttention rolls the
    sequence, which lets the first tokens see the last ones.)

    Args:
        group_size: keys of a group, at least 1.
        causal: within its group a query sees keys at its own position and before; False: all.

    All other arguments, the result and the errors are those of `longattn.attention`.
    """
    if unsupported:
        checks.reject_unknown("shifted_sparse_attention", unsupported)
    if isinstance(group_size, tuple):
        raise TypeError(f"group_size must be one integer for all heads, got {group_size}")
    checks.check_flag("causal", causal)
    Groups(group_size, causal=causal)  # raises for a wrong group_size
    checks.check_is_tensor("q", q)
    q_heads = q.shape[-2] if q.dim() > 1 else 1  # a wrong rank is told by attention
    shift = (0,) * (q_heads // 2) + (group_size // 2,) * (q_heads - q_heads // 2)
    mask = Groups(group_size, shift=shift, causal=causal)
    return attention(
        q,
        k,
        v,
        mask,
        bias=bias,
        softmax_scale=softmax_scale,
        softcap=softcap,
        sink_logits=sink_logits,
        q_start=q_start,
        k_start=k_start,
        cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k=cu_seqlens_k,
        return_lse=return_lse,
        deterministic=deterministic,
        backend=backend,
    )
