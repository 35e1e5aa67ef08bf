# SPDX-License-Identifier: BSD-3-Clause
"""What every public function means, in dense PyTorch: the definition to read and to test against.

Same names, same signatures, any device. Scores are held as one [q_len, kv_len] matrix a head and
everything is computed in the dtype of the inputs: float64 in is an oracle, bfloat16 in shows the
error that honest eager code makes. Gradients come from ordinary autograd.

One rule of exactness: a query that sees no key has out = 0, lse = -inf and sends no gradient.
"""

import math

import torch

from longattn import masks
from longattn.reference import softmax
from longattn.reference.biases import bias_matrices


def is_sink(key_positions, sink_tokens: int):
    """Keys before position 0 count with the first ones; where there are no sinks, none is one."""
    return (key_positions < sink_tokens) & (sink_tokens > 0)


def visible(mask, q_positions, k_positions, head=0):
    """Which keys `head` sees under `mask`: a bool tensor [q_len, kv_len].

    Positions are int64 tensors. This states the definitions of the masks, one line each; the
    engines go by `mask.rule(head)` instead, and the tests compare the two.
    """

    def of(value):
        return value[head] if isinstance(value, tuple) else value

    i, j = q_positions[:, None], k_positions[None, :]
    distance = i - j
    everything = torch.ones_like(distance, dtype=torch.bool)
    if isinstance(mask, masks.Full):
        return everything
    if isinstance(mask, masks.Causal):
        return distance >= 0
    if isinstance(mask, masks.Window):
        return (distance >= 0) & ((distance < of(mask.size)) | (is_sink(j, of(mask.sink_tokens))))
    if isinstance(mask, masks.Band):
        left, right = of(mask.left), of(mask.right)
        is_near = everything if left is None else distance <= left
        near = is_near | is_sink(j, of(mask.sink_tokens))
        return near if right is None else near & (distance >= -right)
    if isinstance(mask, masks.Groups):
        size, shift = of(mask.size), of(mask.shift)
        groups_back = (i - shift) // size - (j - shift) // size  # // rounds down, also below zero
        together = (groups_back >= 0) & (groups_back <= of(mask.back))
        return together & (distance >= 0) if mask.causal else together
    if isinstance(mask, masks.Prefix):
        return (j < of(mask.length)) | (distance >= 0)
    if isinstance(mask, masks.Intersection):
        first = visible(mask.first, q_positions, k_positions, head)
        return first & visible(mask.second, q_positions, k_positions, head)
    raise TypeError(f"reference.visible knows the masks of longattn.masks, got {mask!r}")


def attention(
    q,
    k,
    v,
    mask=None,
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
):
    """softmax(softmax_scale * q k^T over the visible keys) v, and the log of its denominator.

    q [batch, q_len, q_heads, head_dim], k [batch, kv_len, kv_heads, head_dim],
    v [batch, kv_len, kv_heads, value_dim] -> out [batch, q_len, q_heads, value_dim],
    lse [batch, q_heads, q_len]. Query head h reads key head h // (q_heads / kv_heads).
    Packed sequences drop the batch dimension: q [total_q, q_heads, head_dim], lse [q_heads,
    total_q]; each sequence is an attention of its own.
    """
    rule = {"softcap": softcap, "sink_logits": sink_logits}
    if cu_seqlens_q is None and cu_seqlens_k is None:
        i, j = _positions(q, k, q_start, k_start)
        counts = _per_head(q, lambda head: visible(mask, i, j, head))
        rule["bias"] = bias_matrices(bias, q, i, j)
        out, lse = softmax.attend(q, k, v, counts, softmax_scale, **rule)
        return (out, lse) if return_lse else out

    if q_start is not None or k_start != 0:
        raise ValueError("packed sequences have their own positions: leave q_start and k_start out")
    ends_q, ends_k = cu_seqlens_q.tolist(), cu_seqlens_k.tolist()  # one given means both
    outs = [v.new_zeros(0, q.shape[1], v.shape[-1])]
    lses = [v.new_zeros(q.shape[1], 0, dtype=softmax.lse_dtype(q))]
    for s in range(len(ends_q) - 1):
        rows, keys = slice(ends_q[s], ends_q[s + 1]), slice(ends_k[s], ends_k[s + 1])
        out, lse = attention(
            q[None, rows],
            k[None, keys],
            v[None, keys],
            mask,
            bias=bias,
            softmax_scale=softmax_scale,
            **rule,
            return_lse=True,
        )
        outs.append(out[0])
        lses.append(lse[0])
    out, lse = torch.cat(outs), torch.cat(lses, dim=-1)
    return (out, lse) if return_lse else out


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
):
    """The lambda-shaped mask: the last `window` keys and the first `sink_tokens` of the sequence.

    LM-Infinite (Han et al., arXiv:2308.16137), StreamingLLM (Xiao et al., arXiv:2309.17453);
    q and k come already rotated.
    """
    return attention(
        q,
        k,
        v,
        masks.Window(window, sink_tokens=sink_tokens),
        bias=bias,
        softmax_scale=softmax_scale,
        softcap=softcap,
        sink_logits=sink_logits,
        q_start=q_start,
        k_start=k_start,
        cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k=cu_seqlens_k,
        return_lse=return_lse,
    )


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
):
    """LongLoRA's shifted sparse attention (Chen et al., arXiv:2309.12307), without wrap-around.

    Attention within groups of `group_size` keys; the second half of the query heads has its group
    boundaries moved by half a group, so that information crosses them.
    """
    heads = q.shape[-2]
    shift = (0,) * (heads // 2) + (group_size // 2,) * (heads - heads // 2)
    return attention(
        q,
        k,
        v,
        masks.Groups(group_size, shift=shift, causal=causal),
        bias=bias,
        softmax_scale=softmax_scale,
        softcap=softcap,
        sink_logits=sink_logits,
        q_start=q_start,
        k_start=k_start,
        cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k=cu_seqlens_k,
        return_lse=return_lse,
    )


def dilated_attention(
    q,
    k,
    v,
    segment_lengths,
    dilation_rates,
    *,
    causal=True,
    head_offset="mod",
    detach_weights=False,
    plan=None,
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
):
    """LongNet's dilated attention (Ding et al., arXiv:2307.02486).

    Each branch (segment length, dilation rate) is an attention over a sparse pattern; branches are
    mixed by the softmax of their lse. That equals one softmax over all keys in which a key shown
    by c branches counts c times: softmax(scores + ln c). detach_weights=True is torchscale's
    gradient: the mixing weights are constants there. The tensors here are whole: no plan is needed.
    """
    _refuse(cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k)
    i, j = _positions(q, k, q_start, k_start)
    branches = [
        _per_head(
            q, lambda h, w=w, r=r: _dilated(w, r, _offset(head_offset, h, q, r), causal, i, j)
        )
        for w, r in zip(segment_lengths, dilation_rates, strict=True)
    ]
    rule = {"bias": bias_matrices(bias, q, i, j), "softcap": softcap}
    counts = sum(pattern.int() for pattern in branches)
    out, lse = softmax.attend(q, k, v, counts, softmax_scale, **rule, sink_logits=sink_logits)
    if detach_weights:
        _refuse(sink_logits=sink_logits)
        partials = [softmax.attend(q, k, v, pattern, softmax_scale, **rule) for pattern in branches]
        weights, _ = softmax.mixing_weights([branch_lse for _, branch_lse in partials])
        out = softmax.mix([branch_out for branch_out, _ in partials], weights.detach())
    return (out, lse) if return_lse else out


def merge_partials(outs, lses):
    """Attention over a union of key sets, from (out, lse) over each of the sets.

    outs: a sequence of [..., q_len, q_heads, dim]; lses: of [..., q_heads, q_len].
    lse = ln sum_a e^lse_a and out = sum_a e^(lse_a - lse) out_a.
    """
    weights, lse = softmax.mixing_weights(lses)
    return softmax.mix(outs, weights), lse


def _dilated(segment_length, rate, offset, causal, q_positions, k_positions):
    """The pattern of one branch: in each segment (from position 0) one residue class."""
    i, j = q_positions[:, None], k_positions[None, :]
    together = i // segment_length == j // segment_length
    covered = (i % segment_length % rate == offset) & (j % segment_length % rate == offset)
    return together & covered & (i >= j) if causal else together & covered


def _offset(head_offset, head, q, rate):
    if head_offset == "mod":  # the paper
        return head % rate
    if head_offset == "blocks":  # torchscale: contiguous blocks of heads share an offset
        return head // math.ceil(q.shape[2] / rate)
    raise ValueError(f"head_offset must be 'mod' or 'blocks', got {head_offset!r}")


def _positions(q, k, q_start, k_start):
    """Positions of queries and keys; by default the last query stands at the last key."""
    q_len, kv_len = q.shape[1], k.shape[1]
    if q_start is None:
        q_start = k_start + kv_len - q_len
    i = q_start + torch.arange(q_len, device=q.device)
    j = k_start + torch.arange(kv_len, device=q.device)
    return i, j


def _per_head(q, pattern):
    return torch.stack([pattern(head) for head in range(q.shape[2])])


def _refuse(**arguments):
    for name, value in arguments.items():
        if value is not None:
            raise NotImplementedError(f"{name} is not supported here, leave it out; got {value!r}")
