# SPDX-License-Identifier: BSD-3-Clause
"""The gradient of the attention op: one node for all of its partials, lse differentiable."""

from __future__ import annotations

import torch

from longattn import transforms


def make_autograd(forward_op, backward_op):
    """The kernel for the Autograd key, made of the op and of its backward op."""

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx, q, k, v, cu_seqlens_q, cu_seqlens_k, bias, sink_logits, settings):
            tensors = (q, k, v, cu_seqlens_q, cu_seqlens_k, bias, sink_logits)
            out, lse = transforms.run_below(forward_op, *tensors, *settings)
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
            dq, dk, dv, *rest = transforms.run_backward(
                backward_op,
                torch.zeros_like(out) if dout is None else dout,
                dlse,
                *(q, k, v, out, lse, *others),
                *wanted,
                *ctx.settings,
            )
            dbias, dsinks = (g if want else None for g, want in zip(rest, wanted))
            return dq, dk, dv, None, None, dbias, dsinks, None

        jvp = staticmethod(transforms.refuse_forward_mode)

    def kernel(q, k, v, cu_seqlens_q, cu_seqlens_k, bias, sink_logits, *settings):
        tensors = (q, k, v, cu_seqlens_q, cu_seqlens_k, bias, sink_logits)
        if transforms.is_differentiated(q, k, v, bias, sink_logits):
            # The settings travel as one argument: torch looks at each argument of apply.
            return transforms.apply(Attention, *tensors, settings)
        with torch._C._AutoDispatchBelowAutograd():
            return forward_op(*tensors, *settings)

    return kernel
