# SPDX-License-Identifier: BSD-3-Clause
"""`attention`: the one call that every pattern comes down to."""

from __future__ import annotations

from functools import lru_cache

import torch

from longattn import backends, checks, ops, score_arguments
from longattn.masks import MAX_RULES, Mask


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: Mask = None,
    *,
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
    """Exact softmax attention over the keys that `mask` shows: softmax(scale * q k^T) v.

    Tiles that the mask hides are never touched, so a window or a lambda mask costs time and memory
    linear in the length (tiled online softmax: Dao et al. 2022, arXiv 2205.14135).

    Args:
        q: [batch, q_len, q_heads, head_dim]; float16, bfloat16, float32 or float64. head_dim is at
            most 256. Any strides, as long as the last dimension is contiguous. On CUDA: float16 or
            bfloat16, head_dim at most 128, addresses and strides at multiples of 16 bytes.
        k: [batch, kv_len, kv_heads, head_dim]; q_heads is a multiple of kv_heads, and query head h
            uses kv head h // (q_heads / kv_heads).
        v: [batch, kv_len, kv_heads, value_dim], value_dim at most 256.
        mask: Full(), Causal(), Window, Band, Groups, Prefix, or several joined with `&`. It is
            required; its default is refused with the names of the masks.
        bias: Alibi, Kerple, Sandwich or RelativeBias: added to the scaled (and capped) scores.
        softcap: scores become softcap * tanh(score / softcap) before the bias (Gemma 2,
            arXiv 2408.00118); in [1e-4, 1e8].
        sink_logits: [q_heads], floating point: one more key in each head's softmax, with this logit
            and a value of 0 (gpt-oss, arXiv 2508.10925). lse covers it. A query that sees no key
            then has out 0 and lse sink_logits[head]. -inf: no sink in this head; +inf and NaN are
            refused on the CPU, and give NaN on a GPU, where values are not read.
        softmax_scale: None means head_dim ** -0.5.
        q_start: global position of the first query. None aligns the last query with the last key
            (bottom right, as FlashAttention; torch's scaled_dot_product_attention aligns its
            is_causal to the top left): k_start + kv_len - q_len.
        k_start: global position of the first key; sinks and group borders are global positions.
        cu_seqlens_q, cu_seqlens_k: [sequences + 1] int32 or int64. Given (both), sequences are
            packed: q [total_q, q_heads, head_dim], k and v likewise; sequence s has rows
            cu_seqlens[s] to cu_seqlens[s + 1]. Nothing leaks between sequences.
        return_lse: also return the natural logarithm of the softmax denominator.
        deterministic: the backward pass always is, bit by bit; accepted for what is to come.
        backend: None (by device), "cpu" or "cuda".

    Returns:
        out [batch, q_len, q_heads, value_dim] in q's dtype, or (out, lse) with
        lse [batch, q_heads, q_len] (packed: [q_heads, total_q]) in float32, float64 for float64.
        Both are differentiable. A query that sees nothing gets out 0, lse -inf, gradients 0.

    Raises:
        TypeError, ValueError, NotImplementedError: before any work; the message names the value
        and what is accepted.
    """
    if unsupported:
        checks.reject_unknown("attention", unsupported)
    packed = cu_seqlens_q is not None or cu_seqlens_k is not None
    checks.check_is_tensor("q", q)
    backend = backends.choose(backend, q.device)
    checks.check_tensors(q, k, v, backend, packed)
    checks.check_mask(mask)
    checks.check_scale(softmax_scale)
    checks.check_switches(return_lse, deterministic)
    q_start, k_start = checks.check_positions(packed, q_start, k_start)
    if packed:
        checks.check_cu_seqlens(q, k, cu_seqlens_q, cu_seqlens_k)
        q_start = 0
    elif q_start is None:
        q_start = k_start + k.shape[1] - q.shape[1]
    borders = (cu_seqlens_q, cu_seqlens_k) if packed else None
    scores = score_arguments.lower(
        q, k, bias, softcap, sink_logits, q_start, k_start, packed=borders, masks=(mask,)
    )
    out, lse = ops.attention(
        q,
        k,
        v,
        cu_seqlens_q,
        cu_seqlens_k,
        scores.bias,
        scores.sink_logits,
        encode_rules(mask, q.shape[-2]),
        [],
        scores.bias_form,
        default_scale(q, softmax_scale),
        scores.softcap,
        q_start,
        k_start,
        False,
        backend.name,
    )
    return (out, lse) if return_lse else out


def default_scale(q: torch.Tensor, softmax_scale) -> float:
    return q.shape[-1] ** -0.5 if softmax_scale is None else float(softmax_scale)


def encode_rules(mask: Mask, q_heads: int) -> list:
    """The mask as the engines take it; csrc/api/lower_bands.h tells the order."""
    if torch.compiler.is_compiling():  # which looks through a cache, and warns that it does
        return _encode_rules(mask, q_heads)
    return _cached_rules(mask, q_heads)


def head_rules(mask: Mask, q_heads: int) -> tuple:
    """One rule for all heads, or one a head."""
    checks.check_head_counts(mask, q_heads)
    rules = tuple(mask.rule(head) for head in range(q_heads if mask.head_counts() else 1))
    distinct = len(set(rules))
    if distinct > MAX_RULES:
        raise NotImplementedError(
            f"{mask} has {distinct} different per-head rules, at most {MAX_RULES} are supported"
        )
    return rules


def encode_head_rules(rules) -> list:
    distinct = list(dict.fromkeys(rules))
    encoded = [len(distinct)]
    for rule in distinct:
        encoded += [rule.soft_left, rule.sink_tokens, len(rule.terms)]
        for term in rule.terms:
            encoded += term
    if len(distinct) > 1:
        encoded += [distinct.index(rule) for rule in rules]
    return encoded


def _encode_rules(mask: Mask, q_heads: int) -> list:
    return encode_head_rules(head_rules(mask, q_heads))


_cached_rules = lru_cache(maxsize=256)(_encode_rules)
