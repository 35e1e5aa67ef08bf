# SPDX-License-Identifier: BSD-3-Clause
"""What `apply_rotary` means, in dense PyTorch and exact integers.

Angles are reduced modulo 2 pi as rational numbers, so that they are right at any position; the rest
is computed in the dtype of q and k, and gradients come from ordinary autograd.
"""

import math
from fractions import Fraction

import torch

IDENTITY = (1.0, 0.0, False)  # scale, offset and floor of a PositionMap
BITS = 256
TWO_PI = 0x6487ED5110B4611A62633145C06E0E68948127044533E63A0105DF531D89CD912  # times 2**-BITS


def apply_rotary(
    q,
    k,
    rope,
    positions=None,
    *,
    q_bias=None,
    k_bias=None,
    key_norm=False,
    q_scale=None,
    inplace=False,
    seq_len=None,
    backend=None,
):
    """bias -> norm -> rotation (times the attention factor) -> scale; see `longattn.apply_rotary`.

    q [batch, q_len, q_heads, head_dim], k [batch, kv_len, kv_heads, head_dim], packed without the
    batch. In place means that q and k hold the results too.
    """
    ((new_q, new_k),) = rotate(
        q, k, rope, positions, [(IDENTITY, IDENTITY)], q_bias=q_bias, k_bias=k_bias,
        key_norm=key_norm, q_scale=q_scale, seq_len=seq_len,
    )  # fmt: skip
    return (q.copy_(new_q), k.copy_(new_k)) if inplace else (new_q, new_k)


def rotate(
    q,
    k,
    rope,
    positions,
    maps,
    *,
    q_bias=None,
    k_bias=None,
    key_norm=False,
    q_scale=None,
    seq_len=None,
    xpos_centre=None,
    backend=None,
):
    """A pair (q_m, k_m) for each pair (q_map, k_map) of maps."""
    of_q, of_k = _positions(positions, q, k)
    everything = [p for rows in of_q + of_k for p in rows]
    length = seq_len or max([0, *map(math.floor, everything)]) + 1
    frequencies = rope.inv_freq_for(length) if rope.depends_on_length else rope.inv_freq
    factor = rope.attention_factor_for(length) if rope.depends_on_length else rope.attention_factor

    q = _prepared(q, q_bias, key_norm in ("query", "both"))
    k = _prepared(k, k_bias, key_norm in (True, "both"))
    scale = _row_scale(of_q, q_scale, q)
    results = []
    for q_map, k_map in maps:
        new_q = _rotated(q, _mapped(of_q, q_map), rope, frequencies, factor)
        new_k = _rotated(k, _mapped(of_k, k_map), rope, frequencies, factor)
        results.append((new_q, new_k))
    if rope.xpos_scale_base is not None:
        ends = [_mapped([[p]], side)[0][0] for pair in maps for side in pair for p in everything]
        ends = ends or [0]
        centre = math.floor((min(ends) + max(ends)) / 2) if xpos_centre is None else xpos_centre
        results = [
            (
                _grown(new_q, _mapped(of_q, q_map), rope, centre, 1),
                _grown(new_k, _mapped(of_k, k_map), rope, centre, -1),
            )
            for (new_q, new_k), (q_map, k_map) in zip(results, maps)
        ]
    return tuple((new_q * scale, new_k) for new_q, new_k in results)


def _positions(positions, q, k) -> tuple:
    """Of queries and of keys: [batch][row] exact numbers."""
    q_len, k_len = q.shape[-3], k.shape[-3]
    if positions is None:
        positions = (torch.arange(k_len - q_len, k_len), torch.arange(k_len))
    elif isinstance(positions, torch.Tensor):
        positions = (positions, positions)
    batch = q.shape[0] if q.dim() == 4 else 1
    return tuple(
        [[Fraction(p) for p in row] for row in p.expand(batch, p.shape[-1]).tolist()]
        for p in positions
    )


def _mapped(positions, position_map) -> list:
    """p -> scale * p, rounded down if floor, plus offset; what is nearest to 1 / n means 1 / n."""
    scale, offset, floor = position_map
    exact = Fraction(scale)
    if 2**-53 <= scale < 1 and scale == 1 / round(1 / scale):
        exact = Fraction(1, round(1 / scale))
    scaled = [[exact * p for p in row] for row in positions]
    if floor:
        scaled = [[Fraction(math.floor(p)) for p in row] for row in scaled]
    return [[p + Fraction(offset) for p in row] for row in scaled]


def _prepared(x, bias, normalize):
    if bias is not None:
        x = x + bias.to(x.dtype)
    return torch.nn.functional.normalize(x, dim=-1, eps=1e-12) if normalize else x


def _angle(position: Fraction, frequency: float) -> float:
    """position * frequency modulo 2 pi."""
    product = position * Fraction(frequency)
    return ((product.numerator << BITS) // product.denominator % TWO_PI) / 2**BITS


def _rotated(x, positions, rope, frequencies, attention_factor):
    """Pairs (a, b) -> (a cos - b sin, b cos + a sin) times the attention factor."""
    frequencies = frequencies.tolist()
    angles = [_angle(p, f) for row in positions for p in row for f in frequencies]
    angles = torch.tensor(angles, dtype=torch.float64, device=x.device)
    angles = angles.reshape(*x.shape[:-2], 1, len(frequencies))
    cosine = (angles.cos() * attention_factor).to(x.dtype)
    sine = (angles.sin() * attention_factor).to(x.dtype)
    rotated, rest = x[..., : rope.rotary_dim], x[..., rope.rotary_dim :]
    a, b = _pairs(rotated, rope.interleaved)
    return torch.cat([_joined(a * cosine - b * sine, b * cosine + a * sine, rope), rest], -1)


def _grown(x, positions, rope, centre, sign):
    """xPos: both of pair i times zeta_i ** (sign * (position - centre) / scale_base)."""
    d = rope.rotary_dim
    zeta = [(2 * i + 0.4 * d) / (1.4 * d) for i in range(d // 2)]
    powers = [
        z ** float(sign * (p - Fraction(centre)) / Fraction(rope.xpos_scale_base))
        for row in positions
        for p in row
        for z in zeta
    ]
    growth = torch.tensor(powers, dtype=torch.float64, device=x.device)
    growth = growth.reshape(*x.shape[:-2], 1, d // 2).to(x.dtype)
    a, b = _pairs(x[..., :d], rope.interleaved)
    return torch.cat([_joined(a * growth, b * growth, rope), x[..., d:]], -1)


def _pairs(x, interleaved):
    return (x[..., ::2], x[..., 1::2]) if interleaved else x.chunk(2, dim=-1)


def _joined(a, b, rope):
    return torch.stack([a, b], -1).flatten(-2) if rope.interleaved else torch.cat([a, b], -1)


def _row_scale(positions, q_scale, q):
    """None, a number, or ln(i + 1) / ln(training_length), at least 1 if post_hoc."""
    if q_scale is None or isinstance(q_scale, (int, float)):
        return 1.0 if q_scale is None else float(q_scale)
    unit = math.log(q_scale.training_length)
    scales = [math.log(max(p, 0) + 1) / unit for row in positions for p in row]
    if q_scale.post_hoc:
        scales = [max(1.0, scale) for scale in scales]
    scales = torch.tensor(scales, dtype=torch.float64, device=q.device)
    return scales.reshape(*q.shape[:-2], 1, 1).to(q.dtype)
