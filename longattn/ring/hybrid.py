# SPDX-License-Identifier: BSD-3-Clause
"""Attention on a mesh: an all-to-all over the heads inside, a ring outside (USP, Fang and Zhao
2024, arXiv 2405.07719).

Ranks that share a ring rank trade rows for heads, so that each ring has some of the heads and all
positions; what a head of its own has (rules, biases, sink logits) is cut likewise."""

from __future__ import annotations

from longattn import score_checks, transforms
from longattn.ring import autograd
from longattn.ring.all_to_all import Swap
from longattn.ring.autograd import Call
from longattn.ring.mesh import Mesh
from longattn.ring.portions import MeshGeometry
from longattn.ring.route import route


def attend(
    geometry: MeshGeometry, call: Call, rules: tuple, q: list, k: list, v: list, scores
) -> tuple:
    """call: what all rings share; q, k, v: one for each rank of this process. -> (outs, lses),
    likewise."""
    mesh = call.communicator
    _check_heads(mesh, q[0], k[0])
    score_checks.check_sink_values(scores.sink_logits)
    heads = q[0].shape[2] // mesh.heads
    differentiated = transforms.is_differentiated(*q, *k, *v, scores.bias, scores.sink_logits)

    def attend_in_ring(place, ring, qkv):
        own = slice(place * heads, (place + 1) * heads)
        own_rules = rules if len(rules) == 1 else rules[own]
        routes = [route(geometry.ring, own_rules, rank) for rank in ring.ranks]
        bias, sinks = (x if x is None else x[own] for x in (scores.bias, scores.sink_logits))
        ring_call = call._replace(communicator=ring, routes=routes)
        outs, lses = autograd.attend(ring_call, *map(list, zip(*qkv)), bias, sinks)
        return [(out, lse.transpose(1, 2)[..., None]) for out, lse in zip(outs, lses)]

    by_heads = Swap(mesh, geometry, True, call.description).apply(
        list(zip(q, k, v)), differentiated
    )
    results = mesh.along_rings(attend_in_ring, by_heads)
    outs, lses = zip(*Swap(mesh, geometry, False, call.description).apply(results))
    return outs, [lse[..., 0].transpose(1, 2).contiguous() for lse in lses]


def _check_heads(mesh: Mesh, q, k) -> None:
    q_heads, kv_heads = q.shape[2], k.shape[2]
    if q_heads % mesh.heads or kv_heads % mesh.heads:
        raise ValueError(
            f"a mesh whose heads dimension has {mesh.heads} ranks gives each as many heads: those "
            f"of q and those of k and v must be multiples of {mesh.heads}, got {q_heads} and "
            f"{kv_heads}; let the heads dimension divide them, and make the ring longer"
        )
