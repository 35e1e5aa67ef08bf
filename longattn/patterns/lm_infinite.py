# SPDX-License-Identifier: BSD-3-Clause
"""LM-Infinite: a window and sinks that stay at a distance which the model knows."""

from __future__ import annotations

from longattn import checks
from longattn.masks import Window, check_sizes
from longattn.patterns.bands import Band, Call, Far, Keywords, attend, check_rope, prepare
from longattn.rotary import PositionMap, rotate
from longattn.rotary.apply import ONE_MAP
from longattn.rotary.maps import IDENTITY
from longattn.rotary.positions import Positions


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
    **unsupported,
):
    """Causal attention to the last `window` keys and to the first `sink_tokens`, with RoPE.

    LM-Infinite (Han et al. 2023, arXiv 2308.16137). q and k come raw: they are rotated here. A key
    is seen if 0 <= d < window, or if it is among the first sink_tokens and d >= 0. Keys in the
    window stand at their true distance d; sinks further away at `distance_ceiling`, all of them.
    One softmax over both. Keys of sinks are cached raw for decoding, those of the window may be
    rotated.

    Args:
        q: [batch, q_len, q_heads, head_dim], or packed [total_q, q_heads, head_dim]; raw.
        k: [batch, kv_len, kv_heads, head_dim], or packed; raw.
        rope: a RotaryEmbedding, not of xPos.
        window: the authors' local_branch; int or tuple of length q_heads. They use the training
            length (4096, from Python) or 2048 (command line).
        sink_tokens: their n_global; int or tuple likewise. They use 10 to 100.
        distance_ceiling: their limit_distance, at least 0. The paper's min(d, window) is
            distance_ceiling=window, the default of their Python functions. None, the default of
            their command line: true distances, as StreamingLLM (arXiv 2309.17453) with absolute
            positions (for those of its cache see docs/positions.md). A ceiling above `window` is
            not a minimum: sinks beyond the window stand at the ceiling even where that is further
            than they are, as in the authors' code (which in addition lowers it to kv_len - 1; that
            is not done here).
        seq_len: the largest position + 1, for a rope that depends on it; None: from the call.
            Packed sequences on a GPU need it, since theirs would have to be read.

    The authors' code has one key head for each query head and ignores padding; here grouped heads
    and packed sequences are exact. Its path without the lambda mask applies the ceiling to all
    keys; that is `rerope_attention`. For models with ALiBi (their MPT) the ceiling is
    Alibi(distance_ceiling=..., window=window) as the bias of `lambda_attention`.

    All other arguments, the result and the errors are those of `longattn.attention`.
    """
    if unsupported:
        checks.reject_unknown("lm_infinite_attention", unsupported)
    check_rope("lm_infinite_attention", rope, xpos=False)
    _check_ceiling(distance_ceiling)
    both = Window(window, sink_tokens=sink_tokens)  # raises for wrong sizes
    keywords = Keywords(
        bias,
        softmax_scale,
        softcap,
        sink_logits,
        q_start,
        k_start,
        cu_seqlens_q,
        cu_seqlens_k,
        return_lse,
        deterministic,
        backend,
    )
    call = prepare(q, k, v, rope, seq_len, keywords)
    checks.check_head_counts(both, q.shape[-2])
    sees_far = call.farthest >= _least(both.size) and _most(both.sink_tokens) > max(call.k_start, 0)
    has_ceiling = distance_ceiling is not None and sees_far
    bands = []
    if not has_ceiling or call.nearest < _most(both.size):
        mask = both if distance_ceiling is None else Window(both.size)
        [pair] = rotate(
            q, k, rope, call.positions, ONE_MAP, seq_len=call.seq_len, backend=backend
        )
        bands.append(Band(*pair, mask))
    if has_ceiling:
        sinks = _sinks_at(distance_ceiling, _most(both.sink_tokens), rope, call)
        bands.append(Band(q, sinks, Far(both.size, both.sink_tokens)))
    return attend(bands, call)


def _sinks_at(distance: int, count: int, rope, call: Call):
    """Keys that any raw query meets at this distance: it takes the keys' rotation alone, by
    -distance, to set it. Packed: all keys, since those of sinks are everywhere."""
    q, k = call.q, call.k
    if not call.packed:
        k = k[:, : min(count - call.k_start, k.shape[1])]
    turn = (IDENTITY, PositionMap(scale=0.0, offset=-float(distance)))
    no_q = q.new_empty((*q.shape[:-3], 0, *q.shape[-2:]))
    # The rotation's own factor would be on queries as well: its square on keys is the same.
    [(_, sinks)] = rotate(
        no_q, k, rope, Positions(None, None, 0, 0), (turn,), seq_len=call.seq_len,
        factor_power=2, backend=call.keywords.backend,
    )  # fmt: skip
    return sinks


def _least(sizes) -> int:
    return min(sizes) if isinstance(sizes, tuple) else sizes


def _most(sizes) -> int:
    return max(sizes) if isinstance(sizes, tuple) else sizes


def _check_ceiling(ceiling) -> None:
    if ceiling is None:
        return
    if isinstance(ceiling, tuple):
        raise TypeError(f"distance_ceiling must be one integer for all heads, got {ceiling}")
    check_sizes("distance_ceiling", ceiling, 0)
