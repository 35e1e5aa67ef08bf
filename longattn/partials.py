# SPDX-License-Identifier: BSD-3-Clause
"""Merging partial attentions of the same queries over disjoint keys."""

from __future__ import annotations

import torch

from longattn import checks


def merge_partials(outs, lses):
    """Merge partial attentions of the same queries into the attention over all of their keys.

    With L = logsumexp(lse_a): out = sum_a exp(lse_a - L) out_a, lse = L (the associative merge of
    online softmax, Milakov and Gimelshein 2018, arXiv 1805.02867). Over disjoint sets of keys the
    result is exact; a key in several partials counts several times.

    Args:
        outs: sequence of [..., q_len, q_heads, value_dim].
        lses: sequence of [..., q_heads, q_len], natural logarithm, as `attention` returns them.

    Returns:
        (out, lse): out in the promoted dtype of outs, lse in that of lses. Gradients reach every
        out and every lse. Where all partials are empty (lse -inf) the result is empty too: 0, -inf.

    Raises:
        ValueError: no partials, a different number of outs and lses, or shapes that do not agree.
    """
    for name, tensors in (("outs", outs), ("lses", lses)):
        if isinstance(tensors, torch.Tensor):
            raise TypeError(f"{name} must be a list of tensors, a partial each, got one tensor")
    outs, lses = list(outs), list(lses)
    if not outs or len(outs) != len(lses):
        raise ValueError(
            f"outs and lses must hold one and the same number of partials, at least 1, got "
            f"{len(outs)} and {len(lses)}"
        )
    for name, tensors in (("outs", outs), ("lses", lses)):
        for tensor in tensors:
            checks.check_is_tensor(f"each of {name}", tensor)
            if not tensor.is_floating_point():
                raise TypeError(f"{name} must hold floating point tensors, got {tensor.dtype}")
    if outs[0].dim() < 3:
        raise ValueError(
            f"each out must have shape [..., q_len, q_heads, value_dim], got {tuple(outs[0].shape)}"
        )
    for out, lse in zip(outs, lses):
        expected = (*outs[0].shape[:-3], outs[0].shape[-2], outs[0].shape[-3])
        if out.shape != outs[0].shape or tuple(lse.shape) != expected:
            raise ValueError(
                f"each out must have shape {tuple(outs[0].shape)} and each lse {expected}, got "
                f"{tuple(out.shape)} and {tuple(lse.shape)}"
            )
    stacked = torch.stack(lses)
    top = stacked.detach().amax(0)
    empty = top == float("-inf")
    # A finite reference keeps exp(-inf - reference) at 0 for empty rows, and its gradient too.
    reference = torch.where(empty, torch.zeros_like(top), top)
    exponentials = torch.exp(stacked - reference)
    total = exponentials.sum(0)
    safe_total = torch.where(empty, torch.ones_like(total), total)
    weights = (exponentials / safe_total).transpose(-1, -2).unsqueeze(-1)
    wide = torch.stack(outs).to(torch.promote_types(stacked.dtype, outs[0].dtype))
    out = (weights * wide).sum(0)
    lse = torch.where(empty, top, reference + torch.log(safe_total))
    dtype = outs[0].dtype
    for other in outs[1:]:
        dtype = torch.promote_types(dtype, other.dtype)
    return out.to(dtype), lse
