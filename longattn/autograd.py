# SPDX-License-Identifier: BSD-3-Clause
"""The gradient of the attention op: one node for all of its partials, lse differentiable."""

from __future__ import annotations

import torch

from longattn import transforms
from longattn.flat import flatten, regroup


def make_autograd(forward_op, backward_op):
    """The kernel for the Autograd key, made of the op and of its backward op. The op takes one q
    and one k, or a list of each."""

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx, counts, settings, *tensors):
            out, lse = transforms.run_below(forward_op, *regroup(tensors, counts), *settings)
            ctx.save_for_backward(*tensors, out, lse)
            ctx.counts = counts
            ctx.settings = settings
            ctx.set_materialize_grads(False)
            return out, lse

        @staticmethod
        def backward(ctx, dout, dlse):
            *tensors, out, lse = ctx.saved_tensors
            if dout is None and dlse is None:
                return (None,) * (2 + len(tensors))
            q, k, v, *others = regroup(tensors, ctx.counts)
            wanted = ctx.needs_input_grad[-2:]  # of bias and of sink_logits
            gradients = transforms.run_backward(
                backward_op,
                torch.zeros_like(out) if dout is None else dout,
                dlse,
                *(q, k, v, out, lse, *others),
                *wanted,
                *ctx.settings,
            )
            *of_inputs, dbias, dsinks = flatten(gradients)[0]
            dbias, dsinks = (g if want else None for g, want in zip((dbias, dsinks), wanted))
            return None, None, *of_inputs, None, None, dbias, dsinks

        jvp = transforms.refuse_forward_mode("attention")

    def kernel(q, k, v, cu_seqlens_q, cu_seqlens_k, bias, sink_logits, *settings):
        arguments = (q, k, v, cu_seqlens_q, cu_seqlens_k, bias, sink_logits)
        tensors, counts = (arguments, ()) if isinstance(q, torch.Tensor) else flatten(arguments)
        if transforms.is_differentiated(*tensors):
            # The settings travel as one argument: torch looks at each argument of apply.
            return transforms.apply(Attention, counts, settings, *tensors)
        with torch._C._AutoDispatchBelowAutograd():
            return forward_op(*arguments, *settings)

    return kernel
