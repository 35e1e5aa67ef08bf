# SPDX-License-Identifier: BSD-3-Clause
"""The lambda-shaped mask: a sliding window and the first tokens of the sequence."""

from longattn import checks
from longattn.attention import attention
from longattn.masks import Window


def lambda_attention(
    q,
    k,
    v,
    *,
    window,
    sink_tokens,
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
    """Causal attention to the last `window` keys and to the first `sink_tokens` keys.

    The mask of LM-Infinite (Han et al. 2023, arXiv 2308.16137) and StreamingLLM (Xiao et al. 2023,
    arXiv 2309.17453), at their true distances: a key is seen if 0 <= d < window, or if it is among
    the first sink_tokens and d >= 0. q and k are already rotated.

    Args:
        window: keys of the local branch, the query's own included; int or tuple of length q_heads.
        sink_tokens: keys of the global branch, counted from position 0; int or tuple likewise.

    All other arguments, the result and the errors are those of `longattn.attention`.
    """
    if unsupported:
        checks.reject_unknown("lambda_attention", unsupported)
    return attention(
        q,
        k,
        v,
        Window(window, sink_tokens=sink_tokens),
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
