# SPDX-License-Identifier: BSD-3-Clause
"""`dilated_attention(..., plan=)`: checks, finds out which keys have to travel, and runs."""

from __future__ import annotations

from functools import partial

import torch

from longattn import score_arguments
from longattn.attention import default_scale
from longattn.ring import dilated
from longattn.ring.agreement import call_with
from longattn.ring.attention import check_own_part, checked_shards, run
from longattn.ring.autograd import Call
from longattn.ring.dilated_route import Branches, dilated_route
from longattn.ring.mesh import Mesh
from longattn.ring.plans import Plan


@torch.compiler.disable
def dilated_attention(
    plan: Plan,
    q,
    k,
    v,
    pairs,
    *,
    causal,
    head_offset,
    detach_weights,
    bias,
    softmax_scale,
    softcap,
    sink_logits,
    return_lse,
    backend,
):
    """pairs: (segment length, dilation rate) of each branch."""
    _check_plan(plan)
    geometry, ranks = plan.geometry, plan.communicator
    shared = dict(
        plan=geometry,
        branches=pairs,
        causal=causal,
        head_offset=head_offset,
        detach_weights=detach_weights,
        bias=bias,
        softmax_scale=softmax_scale,
        softcap=softcap,
        sink_logits=sink_logits,
        backend=backend,
    )
    shards = zip(*(ranks.split(x) for x in (q, k, v)))
    calls = [call_with(*qkv, **shared) for qkv in shards]
    own = (geometry, ranks, q, k, v, sink_logits, backend)
    verify = partial(check_own_part, *own)
    description = plan.agreement.check("dilated_attention", calls, verify)
    q, k, v, backend = checked_shards(geometry, ranks, q, k, v, backend)
    furthest = max(geometry.seq_len - 1, 0)
    scores = score_arguments.lower_distances(
        *(q[0], bias, softcap, sink_logits, -furthest, furthest),
        reach=max(length for length, _ in pairs),
    )
    heads = q[0].shape[2], k[0].shape[2]
    branches = Branches(tuple(pairs), head_offset, causal, detach_weights, *heads)
    call = Call(
        ranks,
        dilated,
        [dilated_route(geometry, branches, rank) for rank in ranks.ranks],
        backend,
        default_scale(q[0], softmax_scale),
        scores.softcap,
        scores.bias_form,
        description,
    )
    return run(call, q, k, v, scores, return_lse)


def _check_plan(plan) -> None:
    if not isinstance(plan, Plan):
        raise TypeError(f"plan must be made by longattn.ring.plan, got {type(plan).__name__}")
    if plan.layout != "contiguous":
        raise ValueError(
            "dilated_attention needs a plan of layout 'contiguous', whose segments stay together, "
            f"got {plan.layout!r}"
        )
    if isinstance(plan.communicator, Mesh):
        raise NotImplementedError(
            "dilated_attention needs a plan of a group or of a 1-D mesh, not one of ring and heads"
        )
    if plan.geometry.borders:
        raise ValueError(
            "dilated_attention takes no packed documents: make a plan without cu_seqlens"
        )
