# SPDX-License-Identifier: BSD-3-Clause
"""Patterns that rotate by a function phi of two positions, pair of dimensions by pair.

A rotary pair (a, b) is a complex number a + ib; a query m and a key n meet there as
Re(q_m conj(k_n) e^(i phi theta)), and the score is the sum over the pairs. Ordinary RoPE is
phi = position(m) - position(n). Nothing is rotated beforehand: every pair (m, n) has its own angle.
"""

import math

import torch

from longattn.reference import dense, softmax
from longattn.reference.biases import bias_matrices


def rerope_attention(
    q,
    k,
    v,
    rope,
    *,
    window,
    leak=None,
    floor=False,
    q_scale=None,
    seq_len=None,
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
    """ReRoPE and Leaky ReRoPE (Su, kexue.fm 9708), InvLeaky (9728), Self-Extend (arXiv:2401.01325).

    phi(d) = d below `window`, and window + (d - window) / leak from there on (leak None: window).
    floor=True instead: the difference of floor(m / leak) + window - floor(window / leak) and
    floor(n / leak).
    """

    def phi(i, j):
        d = i - j
        if leak is None:
            beyond = torch.full_like(d, window).double()
        elif floor:
            size = int(leak)
            beyond = (i // size + window - window // size - j // size).double()
        else:
            beyond = window + (d - window).double() / leak
        return torch.where(d < window, d.double(), beyond)

    def visible(i, j, head):
        return i >= j

    return _attention(
        q,
        k,
        v,
        rope,
        phi,
        visible,
        q_scale=q_scale,
        seq_len=seq_len,
        bias=bias,
        softmax_scale=softmax_scale,
        softcap=softcap,
        sink_logits=sink_logits,
        q_start=q_start,
        k_start=k_start,
        cu_seqlens=(cu_seqlens_q, cu_seqlens_k),
        return_lse=return_lse,
    )


def lm_infinite_attention(
    q,
    k,
    v,
    rope,
    *,
    window,
    sink_tokens,
    distance_ceiling=None,
    seq_len=None,
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
    """LM-Infinite (Han et al., arXiv:2308.16137): the last `window` keys at their distances and the
    first `sink_tokens` keys, which stand at `distance_ceiling` when they are out of the window.
    """

    def of(value, head):
        return value[head] if isinstance(value, tuple) else value

    def phi(i, j):
        d = (i - j).double()
        if distance_ceiling is None:
            return d
        windows = [of(window, head) for head in range(q.shape[-2])]
        return torch.stack([torch.where(d < size, d, distance_ceiling) for size in windows])

    def visible(i, j, head):
        d = i - j
        return (d >= 0) & ((d < of(window, head)) | dense.is_sink(j, of(sink_tokens, head)))

    return _attention(
        q,
        k,
        v,
        rope,
        phi,
        visible,
        seq_len=seq_len,
        bias=bias,
        softmax_scale=softmax_scale,
        softcap=softcap,
        sink_logits=sink_logits,
        q_start=q_start,
        k_start=k_start,
        cu_seqlens=(cu_seqlens_q, cu_seqlens_k),
        return_lse=return_lse,
    )


def xpos_attention(
    q,
    k,
    v,
    rope,
    *,
    window=None,
    block=None,
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
    """xPos (Sun et al., arXiv:2212.10554): RoPE whose pairs decay with the distance, at their own
    rates. block: a query sees its own block of so many positions and the one before.
    """
    if not causal:
        raise ValueError(f"causal must be True: xPos grows with negative distances, got {causal}")

    def of(value, head):
        return value[head] if isinstance(value, tuple) else value

    def phi(i, j):
        return (i - j).clamp(min=0).double()  # what is hidden must not overflow either

    def visible(i, j, head):
        shown = i >= j
        if window is not None:
            shown = shown & (i - j < of(window, head))
        if block is not None:
            shown = shown & (i // of(block, head) - j // of(block, head) <= 1)
        return shown

    return _attention(
        q,
        k,
        v,
        rope,
        phi,
        visible,
        seq_len=None,
        bias=bias,
        softmax_scale=softmax_scale,
        softcap=softcap,
        sink_logits=sink_logits,
        q_start=q_start,
        k_start=k_start,
        cu_seqlens=(cu_seqlens_q, cu_seqlens_k),
        return_lse=return_lse,
    )


def _attention(
    q, k, v, rope, phi, visible, *, q_scale=None, seq_len, q_start, k_start, cu_seqlens,
    return_lse, **rule,
):  # fmt: skip
    """phi(i, j) and visible(i, j, head) of positions [q_len, 1] and [1, kv_len]."""
    if cu_seqlens[0] is None and cu_seqlens[1] is None:
        i, j = dense._positions(q, k, q_start, k_start)
        if seq_len is None and rope.depends_on_length:
            seq_len = max([1] + [int(p.max()) + 1 for p in (i, j) if p.numel()])
        out, lse = _one_sequence(q, k, v, rope, phi, visible, q_scale, seq_len, i, j, **rule)
        return (out, lse) if return_lse else out

    if q_start is not None or k_start != 0:
        raise ValueError("packed sequences have their own positions: leave q_start and k_start out")
    ends_q, ends_k = (ends.tolist() for ends in cu_seqlens)
    lengths = [end - begin for begin, end in zip(ends_k, ends_k[1:])]
    if seq_len is None and rope.depends_on_length:
        seq_len = max([1] + lengths)  # one table for all sequences of a call
    outs = [v.new_zeros(0, q.shape[1], v.shape[-1])]
    lses = [v.new_zeros(q.shape[1], 0, dtype=softmax.lse_dtype(q))]
    for s in range(len(lengths)):
        rows, keys = slice(ends_q[s], ends_q[s + 1]), slice(ends_k[s], ends_k[s + 1])
        of_s = (q[None, rows], k[None, keys], v[None, keys])
        i, j = dense._positions(of_s[0], of_s[1], None, 0)
        out, lse = _one_sequence(*of_s, rope, phi, visible, q_scale, seq_len, i, j, **rule)
        outs.append(out[0])
        lses.append(lse[0])
    out, lse = torch.cat(outs), torch.cat(lses, dim=-1)
    return (out, lse) if return_lse else out


def _one_sequence(
    q, k, v, rope, phi, visible, q_scale, seq_len, i, j, *, bias, softmax_scale, softcap,
    sink_logits,
):  # fmt: skip
    pair = (i[:, None], j[None, :])
    shown = dense._per_head(q, lambda head: visible(*pair, head))
    group = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
    scale = q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale
    factors = _row_factors(q_scale, i).to(_wide(q.dtype))
    scores = _products(q, k, rope, phi(*pair), seq_len) * (scale * factors[:, None])
    bias = bias_matrices(bias, q, i, j)
    return softmax.weigh(scores.to(q.dtype), v, shown, bias, softcap, sink_logits)


def _products(q, k, rope, phi, seq_len):
    """sum over pairs of Re(q conj(k) e^(i phi theta)) + the dimensions that are not rotated.

    phi: [q_len, kv_len] or [q_heads, q_len, kv_len]; -> [batch, q_heads, q_len, kv_len], in single
    precision for 16-bit inputs, as products of matrices are."""
    q, k = (x.to(_wide(q.dtype)).transpose(1, 2) for x in (q, k))  # [batch, heads, rows, dim]
    if rope.depends_on_length:
        inv_freq, factor = rope.inv_freq_for(seq_len), rope.attention_factor_for(seq_len)
    else:
        inv_freq, factor = rope.inv_freq, rope.attention_factor
    total = torch.einsum("bhid,bhjd->bhij", q[..., rope.rotary_dim :], k[..., rope.rotary_dim :])
    for pair, theta in enumerate(inv_freq.tolist()):
        if rope.interleaved:
            a, b = 2 * pair, 2 * pair + 1
        else:
            a, b = pair, pair + rope.rotary_dim // 2
        qa, qb = q[..., a, None], q[..., b, None]  # [batch, heads, rows, 1]
        ka, kb = k[..., None, :, a], k[..., None, :, b]
        angle = phi * theta
        weight = factor**2 * _decay(rope, pair, phi)
        cos, sin = (weight * torch.cos(angle)).to(q.dtype), (weight * torch.sin(angle)).to(q.dtype)
        total = total + ((qa * ka + qb * kb) * cos - (qb * ka - qa * kb) * sin)
    return total


def _decay(rope, pair, distance):
    """xPos: zeta ** (distance / scale_base) in each pair of dimensions; 1 without it."""
    if rope.xpos_scale_base is None:
        return 1.0
    zeta = (2 * pair + 0.4 * rope.rotary_dim) / (1.4 * rope.rotary_dim)
    return zeta ** (distance / rope.xpos_scale_base)


def _row_factors(q_scale, positions):
    """A number for all queries, or LogN's ln(i + 1) / ln N of each."""
    if q_scale is None or isinstance(q_scale, (int, float)):
        number = 1.0 if q_scale is None else q_scale
        return torch.full(positions.shape, number, dtype=torch.float64)
    grown = torch.log(positions.clamp(min=0).double() + 1) / math.log(q_scale.training_length)
    return grown.clamp(min=1) if q_scale.post_hoc else grown


def _wide(dtype):
    return dtype if dtype in (torch.float32, torch.float64) else torch.float32
