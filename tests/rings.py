# SPDX-License-Identifier: BSD-3-Clause
"""Ring attention as a function of whole tensors, like its twin in the reference; and its cases."""

import dataclasses

import torch

from longattn import ring
from longattn.masks import Band, Causal, Full, Groups, Mask, Prefix, Window

LAYOUTS = ("contiguous", "zigzag", "striped")
MASKS = (
    Full(),
    Causal(),
    Window(7),
    Window(60, sink_tokens=5),
    Window(3, sink_tokens=40),
    Band(9, 4),
    Band(None, 2, sink_tokens=3),
    Groups(24),
    Groups(24, shift=12, causal=False),
    Groups(24, back=1),
    Prefix(33),
    Window((3, 90, 1, 20), sink_tokens=(0, 2, 50, 1)),
    Groups(48, shift=(0, 0, 24, 24)),
    Causal() & Groups(48, causal=False) & Band(30, None),
)
# Groups whose borders fall between the rows of a striped plan.
UNEVEN_GROUPS = (
    Groups(10),
    Groups(7, shift=(0, 0, 3, 3)),
    Groups(9, back=2, causal=False),
    Groups(12) & Prefix(20),
    Groups((7, 10, 12, 90), shift=(0, 1, 2, 3)),
    Groups(13, shift=4) & Window(4, sink_tokens=20),
)


@dataclasses.dataclass(frozen=True)
class RingCase:
    """One call of `plan.attention`."""

    layout: str
    mask: Mask
    seq_len: int
    q_heads: int = 4
    kv_heads: int = 2
    head_dim: int = 8
    value_dim: int = 6
    batch: int = 1
    cu_seqlens: tuple = ()
    loudness: float = 1.0

    def __str__(self):
        return f"{self.layout}-{self.mask}-{self.seq_len}"

    name = property(__str__)

    @property
    def q_shape(self):
        return (self.batch, self.seq_len, self.q_heads, self.head_dim)

    @property
    def k_shape(self):
        return (self.batch, self.seq_len, self.kv_heads, self.head_dim)

    @property
    def v_shape(self):
        return (self.batch, self.seq_len, self.kv_heads, self.value_dim)

    def plan(self, group):
        return ring.plan(self.seq_len, group, self.layout, cu_seqlens=self.cu_seqlens or None)


def with_gaps(x, grain=1):
    """The same rows with NaN all around; differentiable."""
    padding = (grain, 2 * grain, 1, 2, 2, 1)
    return torch.nn.functional.pad(x, padding, value=float("nan"))[
        :, 2:-1, 1:-2, grain : -2 * grain
    ]


def on_virtual_ring(case: RingCase, world_size: int, grain=1, **keywords):
    return on_ranks(case, ring.VirtualRing(world_size), grain, **keywords)


def on_ranks(case: RingCase, ranks, grain=1, **keywords):
    """A twin of reference.attention without mask: whole tensors in, whole tensors out."""

    def attend(q, k, v, return_lse, softmax_scale=None):
        plan = case.plan(ranks)
        q, k, v = ([with_gaps(shard, grain) for shard in plan.shard(x)] for x in (q, k, v))
        outs, lses = plan.attention(
            *(q, k, v, case.mask), softmax_scale=softmax_scale, return_lse=return_lse, **keywords
        )
        return plan.unshard(outs), plan.unshard(lses, dim=2)

    return attend
