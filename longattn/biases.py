# SPDX-License-Identifier: BSD-3-Clause
"""Biases: what is added to scores, as a function of the head and of the distance.

distance = position(query) - position(key). Every bias lowers to one of two forms that the engines
know (csrc/semantics/biases): a slope for each head, or a table of distances for each head. Their
values are ordinary tensors: parameters get exact, deterministic gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Optional

import torch

from longattn import bias_form
from longattn.bias_form import Bias, Call, Form, PerHead
from longattn.distance_sums import LINEAR, TABLE
from longattn.readable import active_fake_mode


def default_slopes(heads: int) -> list:
    """ALiBi's slopes for any number of heads, as the authors' code and BLOOM choose them.

    2^(-8 (h + 1) / n) for a power of two n; otherwise those of the next lower power of two, then
    every second one of the next higher."""
    power = 2 ** int(math.log2(heads))
    slopes = [2.0 ** (-8 * (h + 1) / power) for h in range(power)]
    return slopes + [2.0 ** (-4 * (2 * t + 1) / power) for t in range(heads - power)]


def _default_slopes(call: Call) -> torch.Tensor:
    """The same, made where they are used: a copy from the host would wait for a GPU."""
    power = 2 ** int(math.log2(call.q_heads))
    wide = dict(dtype=torch.float64, device=call.device)
    first = torch.arange(1, power + 1, **wide) * (-8 / power)
    others = (2 * torch.arange(call.q_heads - power, **wide) + 1) * (-4 / power)
    return torch.cat([first, others]).exp2().to(call.dtype)


@dataclass(frozen=True, eq=False)
class Alibi(Bias):
    """-slope_h |distance| (Press et al. 2021, arXiv 2108.12409).

    Args:
        slopes: [q_heads] tensor or list of numbers; None: `default_slopes`. A tensor that requires
            grad is learned.
        distance_ceiling: keys that are `window` and more away count as this far away: LM-Infinite's
            form for ALiBi models (arXiv 2308.16137; its code for MPT), together with
            Window(window, sink_tokens=...). None: true distances.
        window: None means distance_ceiling, which gives -slope_h min(|distance|, ceiling).

    The bias is the true one in every call, so that lse is the logarithm of the true denominator and
    partials merge. (FlashAttention's causal ALiBi adds slope * key index, which shifts lse.)
    """

    slopes: PerHead = None
    distance_ceiling: Optional[int] = field(default=None, kw_only=True)
    window: Optional[int] = field(default=None, kw_only=True)

    def __post_init__(self):
        if self.slopes is not None:
            bias_form.check_numbers("slopes", self.slopes)
        bias_form.set_count(self, "distance_ceiling")
        bias_form.set_count(self, "window")
        if self.window is not None and self.distance_ceiling is None:
            raise ValueError(f"window={self.window} needs a distance_ceiling, got None")

    def form(self, call: Call) -> Form:
        if self.slopes is None:
            slopes = _default_slopes(call)[:, None]
        else:
            slopes = bias_form.per_head("slopes", self.slopes, call)[:, None]
        if self.distance_ceiling is None:
            return Form(slopes, LINEAR)
        window = self.distance_ceiling if self.window is None else self.window
        distances = bias_form.distances(call, min(window, call.longest))
        distances = torch.where(distances < window, distances, self.distance_ceiling)
        return Form(-slopes * distances, TABLE, -call.nearest, symmetric=True)


@dataclass(frozen=True, eq=False)
class Kerple(Bias):
    """Kernelised relative positions (Chi et al. 2022, arXiv 2205.09921), both parameters learned.

    kind="log":   -r1_h ln(1 + r2_h |distance|)
    kind="power": -r1_h |distance|^r2_h, 0 < r2 <= 2

    Args:
        r1, r2: [q_heads] tensors or lists of numbers, positive. The authors' code keeps them so
            with an in-place clamp to at least 0.01 before every forward pass, and draws them from
            U(0, 2) (r1 of "log", r2 of "power") and U(0, 1); neither is done here. A negative r2 of
            "log" has no logarithm at long distances: refused on the CPU, NaN on a GPU, where values
            are not read.
    """

    r1: PerHead
    r2: PerHead
    kind: str = field(default="log", kw_only=True)

    def __post_init__(self):
        bias_form.check_numbers("r1", self.r1)
        bias_form.check_numbers("r2", self.r2)
        if self.kind not in ("log", "power"):
            raise ValueError(f"kind must be 'log' or 'power', got {self.kind!r}")

    def form(self, call: Call) -> Form:
        r1 = bias_form.per_head("r1", self.r1, call)[:, None]
        r2 = bias_form.per_head("r2", self.r2, call)[:, None]
        distances = bias_form.distances(call, call.longest)
        if self.kind == "log":
            bias_form.check_at_least_0("r2 of Kerple", r2)
            values = -r1 * torch.log1p(r2 * distances)
        else:
            # Distance 0 apart: the gradient of 0^r2 would be NaN.
            powers = torch.where(distances == 0, 1.0, distances) ** r2
            values = torch.where(distances == 0, 0.0, -r1 * powers)
        return Form(values, TABLE, -call.nearest, symmetric=True)


@dataclass(frozen=True, eq=False)
class Sandwich(Bias):
    """Sinusoids' inner product as a bias (Chi et al. 2022, arXiv 2212.10356).

    [sum over i < dim / 2 of cos(distance 10000^(-2 i / dim))] / rho_h, rho_h = 8 (h + 1) / q_heads,
    added after the scaling of scores by 1 / sqrt(head_dim).
    """

    dim: int = 128

    def __post_init__(self):
        bias_form.set_count(self, "dim")
        if self.dim is None or self.dim % 2 or self.dim < 2:
            raise ValueError(f"dim must be even and at least 2, got {self.dim}")

    def form(self, call: Call) -> Form:
        sums = _sandwich_sums(self.dim, call).to(call.dtype)
        heads = torch.arange(1, call.q_heads + 1, dtype=call.dtype, device=call.device)
        values = sums * (call.q_heads / (8 * heads[:, None]))
        return Form(values, TABLE, -call.nearest, symmetric=True)


@dataclass(frozen=True, eq=False)
class RelativeBias(Bias):
    """One learned number for each head and distance; T5's buckets are one way to fill the table.

    Args:
        table: [q_heads, distances]; entry e holds distance e - origin. Distances beyond either end
            take the nearest entry.
        origin: the entry of distance 0, in [0, distances). 0: keys after the query count as
            distance 0.
    """

    table: torch.Tensor
    origin: int = field(default=0, kw_only=True)

    def __post_init__(self):
        if not isinstance(self.table, torch.Tensor) or self.table.dim() != 2:
            shape = tuple(getattr(self.table, "shape", ())) or type(self.table).__name__
            raise ValueError(f"table must be a tensor [q_heads, distances], got {shape}")
        if self.table.shape[1] < 1 or not self.table.is_floating_point():
            raise ValueError(
                "table must hold at least one distance and floating point numbers, got shape "
                f"{tuple(self.table.shape)} and {self.table.dtype}"
            )
        bias_form.set_count(self, "origin")
        if self.origin is None or self.origin >= self.table.shape[1]:
            raise ValueError(
                f"origin must be in [0, {self.table.shape[1]}), an entry of the table, got "
                f"{self.origin}"
            )

    @classmethod
    def from_t5(cls, buckets, *, max_distance: int = 128, bidirectional: bool = False) -> T5Bias:
        """T5's relative position buckets (Raffel et al. 2019, arXiv 1910.10683).

        buckets [q_heads, num_buckets], Hugging Face's `relative_attention_bias.weight.T`. T5 itself
        uses softmax_scale=1; some ports multiply the bias by sqrt(head_dim) instead.
        """
        max_distance = bias_form.plain_count("max_distance", max_distance)
        _check_buckets(buckets, max_distance, bidirectional)
        return T5Bias(buckets, max_distance, bidirectional)

    def form(self, call: Call) -> Form:
        if self.table.shape[0] != call.q_heads:
            raise ValueError(
                f"the table of a RelativeBias must have one row for each of the {call.q_heads} "
                f"heads of q, got {self.table.shape[0]}"
            )
        bias_form.check_device("table", self.table, call)
        return Form(self.table.to(call.dtype), TABLE, self.origin)


@dataclass(frozen=True, eq=False)
class T5Bias(Bias):
    """Made by RelativeBias.from_t5. The buckets are looked up in each call: they may be trained."""

    buckets: torch.Tensor
    max_distance: int
    bidirectional: bool

    def relative(self) -> RelativeBias:
        first = -self.max_distance if self.bidirectional else 0
        distances = torch.arange(first, self.max_distance + 1, device=self.buckets.device)
        size = self.buckets.shape[1]
        index = t5_bucket(distances, size, self.max_distance, self.bidirectional)
        if self.buckets.device.type == "cpu":
            # Indexing would add up gradients in an order that several threads make.
            table = self.buckets.gather(1, index.expand(self.buckets.shape[0], -1))
        else:
            table = self.buckets[:, index]
        return RelativeBias(table, origin=-first)

    def form(self, call: Call) -> Form:
        return self.relative().form(call)


def t5_bucket(distances, num_buckets: int, max_distance: int, bidirectional: bool) -> torch.Tensor:
    """T5's bucket of each distance (position of the query minus that of the key)."""
    first = torch.zeros_like(distances)
    if bidirectional:
        num_buckets //= 2
        first = (distances < 0) * num_buckets
        distances = distances.abs()
    distances = distances.clamp(min=0)
    exact = num_buckets // 2
    # float32 as in T5's code, whose rounding decides at the borders of buckets
    ratio = torch.log(distances.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = (exact + (ratio * (num_buckets - exact)).long()).clamp(max=num_buckets - 1)
    return first + torch.where(distances < exact, distances, far)


def _sandwich_sums(dim: int, call: Call) -> torch.Tensor:
    """Of distances nearest .. longest, float64."""
    end = call.longest + 1
    if torch.compiler.is_compiling() or active_fake_mode() is not None or end > 1 << 20:
        return _sums_of_cosines(dim, call.nearest, end, call.device)
    # There is nothing to learn: decoding step by step finds the sums of the step before.
    return _known_sums(dim, 1 << (end - 1).bit_length(), call.device)[call.nearest : end]


def _sums_of_cosines(dim: int, begin: int, end: int, device) -> torch.Tensor:
    frequencies = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64, device=device) / dim)
    distances = torch.arange(begin, end, device=device).double()
    chunks = distances.split(1 << 16)  # [chunk, dim / 2] stays small beside q
    return torch.cat([torch.cos(chunk[:, None] * frequencies).sum(1) for chunk in chunks])


@lru_cache(maxsize=16)
def _known_sums(dim: int, length: int, device) -> torch.Tensor:
    return _sums_of_cosines(dim, 0, length, device)


def _check_buckets(buckets, max_distance, bidirectional) -> None:
    if not isinstance(buckets, torch.Tensor) or buckets.dim() != 2:
        shape = tuple(getattr(buckets, "shape", ())) or type(buckets).__name__
        raise ValueError(f"buckets must be a tensor [q_heads, num_buckets], got {shape}")
    exact = buckets.shape[1] // (4 if bidirectional else 2)
    if exact < 1:
        raise ValueError(
            f"num_buckets must be at least {4 if bidirectional else 2}, got {buckets.shape[1]}"
        )
    if max_distance is None or max_distance <= exact:
        raise ValueError(
            f"max_distance must be greater than the {exact} distances that have buckets of their "
            f"own, got {max_distance}"
        )
