# SPDX-License-Identifier: BSD-3-Clause
"""ReRoPE and its relatives: true distances in a window, others beyond it."""

from __future__ import annotations

import math
from numbers import Integral, Real

from longattn import checks
from longattn.masks import Causal, Window, check_flag
from longattn.patterns.bands import Band, Far, Keywords, attend, check_rope, prepare
from longattn.rotary import PositionMap, rotate
from longattn.rotary.maps import IDENTITY

SMALLEST_LEAK = 1e-6  # far beyond any use; positions are divided by it, and still have angles


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
    **unsupported,
):
    """Causal attention whose rotation goes by d up to `window`, and slower or not at all beyond.

    q and k come raw: they are rotated here, so that a query and a key at distance d meet at
    phi(d) = d if d < window, else window + (d - window) / leak. No distance of a long input then
    needs to be one that training has not shown. Keys are cached raw for decoding.

    - ReRoPE (leak None: infinity; Su, kexue.fm 9708): all keys beyond stand at `window`.
    - Leaky ReRoPE (leak > 1; same): they move away `leak` times slower.
    - InvLeaky ReRoPE (leak < 1; kexue.fm 9728): faster. For training; such a model then runs with
      plain RoPE (phi(d) = d) on long inputs. The author trains with leak = 1 / (2 * expansion).
    - Self-Extend (floor=True, leak an integer; Jin et al. 2024, arXiv 2401.01325): grouped
      positions, floor(p / leak) + window - floor(window / leak) for queries, floor(p / leak) for
      keys.

    Two partials over disjoint keys, with their rotations from one launch, are merged exactly: only
    tiles that the distance `window` crosses are visited twice. An input without such distances
    is one partial.

    Args:
        q: [batch, q_len, q_heads, head_dim], or packed [total_q, q_heads, head_dim]; raw.
        k: [batch, kv_len, kv_heads, head_dim], or packed; raw.
        rope: a RotaryEmbedding, not of xPos.
        window: distances below it are true; at least 1. The author's 512 goes with a training
            length of 4096; 1/4 to 1/2 of that length is advised.
        leak: None (infinity), or a number greater than 0. 1 is plain RoPE.
        floor: Self-Extend's grouped positions.
        q_scale: None, a number, or LogN(training_length), which the author's code applies too.
        seq_len: the largest position + 1, for a rope that depends on it; None: from the call.
            Packed sequences on a GPU need it, since theirs would have to be read.

    Positions are global: q_start and k_start matter where floor rounds and to LogN.
    All other arguments, the result and the errors are those of `longattn.attention`.
    """
    if unsupported:
        checks.reject_unknown("rerope_attention", unsupported)
    check_rope("rerope_attention", rope, xpos=False)
    window = _plain_window(window)
    leak = _plain_leak(leak, floor)
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
    beyond = _maps_beyond(window, leak, floor)
    masks, maps = [], []
    is_plain_rope = beyond == (IDENTITY, IDENTITY)
    has_far = call.farthest >= window and not is_plain_rope
    if not has_far or call.nearest < window:
        masks.append(Causal() if is_plain_rope else Window(window))
        maps.append((IDENTITY, IDENTITY))
    if has_far:
        masks.append(Far(window))
        maps.append(beyond)
    pairs = rotate(
        q, k, rope, call.positions, maps, q_scale=q_scale, seq_len=call.seq_len, backend=backend
    )
    return attend([Band(*pair, mask) for pair, mask in zip(pairs, masks)], call)


def _maps_beyond(window: int, leak, floor: bool) -> tuple:
    """Of queries and keys that are `window` and more apart."""
    if leak is None:
        return PositionMap(scale=0.0, offset=float(window)), PositionMap(scale=0.0)
    if leak == 1:
        return IDENTITY, IDENTITY
    if floor:
        scale = 1.0 / leak
        return (
            PositionMap(scale, float(window - window // leak), floor=True),
            PositionMap(scale, floor=True),
        )
    scale = 1.0 / leak
    return PositionMap(scale, window * (1.0 - scale)), PositionMap(scale)


def _plain_window(window) -> int:
    if isinstance(window, tuple):
        raise TypeError(f"window must be one integer for all heads, got {window}")
    return Window(window).size  # raises for a wrong one


def _plain_leak(leak, floor):
    """leak as a number of Python, None for infinity."""
    check_flag("floor", floor)
    if leak is None:
        if floor:
            raise ValueError(
                "floor=True (Self-Extend) needs a leak, the size of its groups, an integer of at "
                "least 1, got leak=None"
            )
        return None
    if not isinstance(leak, (int, float, Real)) or isinstance(leak, bool):
        raise TypeError(f"leak must be a number greater than 0 or None (infinity), got {leak!r}")
    if not SMALLEST_LEAK <= leak < math.inf:
        raise ValueError(
            f"leak must be greater than 0 (at least {SMALLEST_LEAK:g}) and finite, or None "
            f"(infinity), got {leak}"
        )
    if floor and (leak != int(leak) or leak < 1):
        raise ValueError(
            f"leak must be an integer of at least 1 with floor=True (Self-Extend), got {leak}"
        )
    if isinstance(leak, (int, float)):
        return leak
    return int(leak) if isinstance(leak, Integral) else float(leak)
