# SPDX-License-Identifier: BSD-3-Clause
"""The gradient of the attention op: one node for all of its partials, lse differentiable."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad


class _NoSecondDerivative(torch.autograd.Function):
    """Hands gradients on unchanged, and raises where they are differentiated themselves.

    torch's once_differentiable would do so only if the incoming gradient required one: the second
    derivative of a loss that is linear in out would silently be 0."""

    @staticmethod
    def forward(ctx, count, *gradients_and_sources):
        return tuple(gradient.view_as(gradient) for gradient in gradients_and_sources[:count])

    @staticmethod
    def backward(ctx, *gradients):
        raise NotImplementedError(
            "longattn's attention has no second derivatives: it was differentiated twice; use "
            "longattn.reference for that, or leave create_graph at False"
        )


def make_autograd(forward_op, backward_op):
    """The kernel for the Autograd key, made of the op and of its backward op."""

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx, q, k, v, cu_seqlens_q, cu_seqlens_k, bias, sink_logits, settings):
            tensors = (q, k, v, cu_seqlens_q, cu_seqlens_k, bias, sink_logits)
            with torch._C._AutoDispatchBelowAutograd():
                out, lse = forward_op(*tensors, *settings)
            ctx.save_for_backward(*tensors, out, lse)
            ctx.settings = settings
            ctx.set_materialize_grads(False)
            return out, lse

        @staticmethod
        def backward(ctx, dout, dlse):
            q, k, v, *others, out, lse = ctx.saved_tensors
            if dout is None and dlse is None:
                return (None,) * 8
            wanted = ctx.needs_input_grad[5:7]  # of bias and of sink_logits
            differentiates_again = torch.is_grad_enabled()
            with torch.no_grad():
                gradients = backward_op(
                    torch.zeros_like(out) if dout is None else dout,
                    dlse,
                    *(q, k, v, out, lse, *others),
                    *wanted,
                    *ctx.settings,
                )
            if differentiates_again:
                sources = (q, k, v, *others, dout, dlse)
                gradients = _NoSecondDerivative.apply(len(gradients), *gradients, *sources)
            dq, dk, dv, *rest = gradients
            dbias, dsinks = (g if want else None for g, want in zip(rest, wanted))
            return dq, dk, dv, None, None, dbias, dsinks, None

    def kernel(q, k, v, cu_seqlens_q, cu_seqlens_k, bias, sink_logits, *settings):
        tensors = (q, k, v, cu_seqlens_q, cu_seqlens_k, bias, sink_logits)
        wants_backward = (
            q.requires_grad
            or k.requires_grad
            or v.requires_grad
            or (bias is not None and bias.requires_grad)
            or (sink_logits is not None and sink_logits.requires_grad)
        )
        # Under forward-mode differentiation too: there the Function raises, since it has no jvp;
        # the plain path would return tangents of zero.
        forward_mode = forward_ad._current_level >= 0
        if forward_mode or (wants_backward and torch.is_grad_enabled()):
            # The settings travel as one argument: torch looks at each argument of apply.
            return Attention.apply(*tensors, settings)
        with torch._C._AutoDispatchBelowAutograd():
            return forward_op(*tensors, *settings)

    return kernel
