# SPDX-License-Identifier: BSD-3-Clause
"""The gradient of ring attention: one node owns all partials of this process's ranks."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from longattn import transforms
from longattn.backends import Backend
from longattn.engine import scores_of, sinks_of
from longattn.ring import communicator
from longattn.ring.communicator import Communicator
from longattn.ring.rank import Rank


class Call(NamedTuple):
    """What all ranks of a call share, tensors apart."""

    communicator: Communicator
    program: Any  # what a rank does: forward and backward of loop.py, or of dilated.py
    routes: list  # one for each rank of this process
    backend: Backend
    softmax_scale: float
    softcap: float
    bias_form: list
    description: str  # the same words on all ranks

    def ranks(self, q, k, v, bias, sink_logits) -> list:
        """q, k, v: lists with one tensor for each rank of this process."""
        scores = scores_of(q[0], self.softmax_scale, self.softcap, bias, self.bias_form)
        sinks = sinks_of(q[0], sink_logits)
        return [
            Rank(rank, route, self.communicator, self.backend, *tensors, scores, sinks)
            for rank, route, *tensors in zip(self.communicator.ranks, self.routes, q, k, v)
        ]


def attend(call: Call, q: list, k: list, v: list, bias, sink_logits) -> tuple:
    """-> (outs, lses), one for each rank of this process."""
    tensors = (*q, *k, *v, bias, sink_logits)
    if not transforms.is_differentiated(*tensors):
        return _forward(call, tensors)
    results = _RingAttention.apply(call, *tensors)
    return results[: len(q)], results[len(q) :]


def _forward(call: Call, tensors) -> tuple:
    ranks = call.ranks(*_grouped(call, tensors))
    results = communicator.run(
        call.communicator,
        call.description,
        tensors[0].device,
        [call.program.forward(one) for one in ranks],
    )
    return tuple(zip(*results))


def _grouped(call: Call, tensors) -> tuple:
    count = len(call.routes)
    q, k, v = (list(tensors[i * count : (i + 1) * count]) for i in range(3))
    return q, k, v, *tensors[3 * count :]


class _RingAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, call, *tensors):
        outs, lses = _forward(call, tensors)
        ctx.call = call
        ctx.save_for_backward(*tensors, *outs, *lses)
        ctx.set_materialize_grads(False)
        return *outs, *lses

    @staticmethod
    def backward(ctx, *incoming):
        if torch.is_grad_enabled():
            raise NotImplementedError(
                "ring attention has no second derivatives: leave create_graph at False"
            )
        call, count = ctx.call, len(ctx.call.routes)
        saved = ctx.saved_tensors
        outs, lses = saved[-2 * count : -count], saved[-count:]
        q, k, v, bias, sink_logits = _grouped(call, saved[: -2 * count])
        wants_bias, wants_sinks = ctx.needs_input_grad[-2:]
        douts = [torch.zeros_like(o) if d is None else d for d, o in zip(incoming, outs)]
        ranks = call.ranks(q, k, v, bias, sink_logits)
        gradients = communicator.run(
            call.communicator,
            f"the backward pass of {call.description}",
            q[0].device,
            [
                call.program.backward(*one, wants_bias=wants_bias, wants_sinks=wants_sinks)
                for one in zip(ranks, douts, incoming[count:], outs, lses)
            ],
        )
        of_inputs = [
            getattr(one, name).to(x.dtype)
            for name, inputs in (("q", q), ("k", k), ("v", v))
            for one, x in zip(gradients, inputs)
        ]
        dbias = _total([one.bias for one in gradients], bias)
        dsinks = _total([one.sink_logits for one in gradients], sink_logits)
        return None, *of_inputs, dbias, dsinks

    jvp = transforms.refuse_forward_mode("plan.attention")


def _total(gradients: list, value):
    """Of this process's ranks, in order."""
    if gradients[0] is None:
        return None
    return sum(gradients[1:], gradients[0]).to(value.dtype)
