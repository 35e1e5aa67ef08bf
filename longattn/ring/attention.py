# SPDX-License-Identifier: BSD-3-Clause
"""`plan.attention`: checks, lowers the mask to a route, and runs the ring."""

from __future__ import annotations

import torch

from longattn import backends, checks, score_arguments, score_checks
from longattn.attention import default_scale, head_rules
from longattn.ring import hybrid, loop
from longattn.ring.autograd import Call, attend
from longattn.ring.communicator import Communicator
from longattn.ring.mesh import Mesh
from longattn.ring.pieces import Geometry
from longattn.ring.route import route


def attention(
    geometry: Geometry,
    communicator: Communicator,
    q,
    k,
    v,
    mask,
    *,
    bias,
    softmax_scale,
    softcap,
    sink_logits,
    return_lse,
    deterministic,
    backend,
    description,
):
    checks.check_mask(mask)
    checks.check_scale(softmax_scale)
    checks.check_switches(return_lse, deterministic)
    q, k, v, backend = checked_shards(geometry, communicator, q, k, v, backend)
    rules = head_rules(mask, q[0].shape[2])
    furthest = max(geometry.seq_len - 1, 0)
    scores = score_arguments.lower_distances(
        q[0], bias, softcap, sink_logits, -furthest, furthest, masks=(mask,)
    )
    call = Call(
        communicator,
        loop,
        [],
        backend,
        default_scale(q[0], softmax_scale),
        scores.softcap,
        scores.bias_form,
        description,
    )
    if isinstance(communicator, Mesh):
        outs, lses = hybrid.attend(geometry, call, rules, q, k, v, scores)
        return joined(communicator, outs, lses, return_lse)
    routes = [route(geometry, rules, rank) for rank in communicator.ranks]
    return run(call._replace(routes=routes), q, k, v, scores, return_lse)


def check_own_part(geometry: Geometry, communicator: Communicator, q, k, v, sink_logits, backend):
    """What may be wrong on this rank alone."""
    checked_shards(geometry, communicator, q, k, v, backend)
    score_checks.check_sink_values(sink_logits)


def run(call: Call, q: list, k: list, v: list, scores, return_lse: bool):
    score_checks.check_sink_values(scores.sink_logits)
    outs, lses = attend(call, q, k, v, scores.bias, scores.sink_logits)
    return joined(call.communicator, outs, lses, return_lse)


def joined(communicator: Communicator, outs, lses, return_lse: bool):
    """What the caller gets of this process's ranks."""
    out = communicator.join(list(outs))
    return (out, communicator.join(list(lses))) if return_lse else out


def checked_shards(geometry: Geometry, communicator: Communicator, q, k, v, backend) -> tuple:
    """-> (lists of q, k and v, one for each rank of this process, and the backend)."""
    q, k, v = (communicator.split(x) for x in (q, k, v))
    for x in q:
        checks.check_is_tensor("q", x)
    backend = backends.choose(backend, q[0].device)
    shards = [
        _checked(geometry, rank, tensors, backend)
        for rank, *tensors in zip(communicator.ranks, q, k, v)
    ]
    return *(list(side) for side in zip(*shards)), backend


def _checked(geometry: Geometry, rank: int, tensors, backend) -> tuple:
    """q, k and v of a rank in one dtype."""
    tensors = in_one_dtype(tensors, backend)
    rows = geometry.length(rank)
    for name, x in zip("qkv", tensors):
        if x.shape[1] != rows:
            raise ValueError(
                f"{name} must have the {rows} rows of rank {rank} ({geometry.layout} layout of "
                f"{geometry.seq_len} positions over {geometry.world_size} ranks), got shape "
                f"{tuple(x.shape)}"
            )
    return tensors


def in_one_dtype(tensors, backend) -> tuple:
    """q, k and v, checked, as autocast wants them."""
    checks.check_tensors(*tensors, backend, packed=False)
    device = tensors[0].device.type
    if torch.is_autocast_enabled(device):
        wide = torch.get_autocast_dtype(device)
        tensors = [x if x.dtype == torch.float64 else x.to(wide) for x in tensors]
    checks.check_memory(*tensors, backend, packed=False)
    return tuple(tensors)
