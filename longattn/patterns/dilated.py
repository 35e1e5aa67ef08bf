# SPDX-License-Identifier: BSD-3-Clause
"""LongNet's dilated attention: every branch is a strided view with segments, mixed exactly."""

from longattn import backends, checks, native, ops, score_arguments
from longattn.attention import default_scale, encode_rules
from longattn.masks import Causal, Full
from longattn.ring import dilated_call


def dilated_attention(
    q,
    k,
    v,
    segment_lengths,
    dilation_rates,
    *,
    causal=True,
    head_offset="mod",
    detach_weights=False,
    plan=None,
    bias=None,
    softmax_scale=None,
    softcap=None,
    sink_logits=None,
    q_start=None,
    k_start=0,
    cu_seqlens_q=None,
    cu_seqlens_k=None,
    return_lse=False,
    deterministic=None,
    backend=None,
    **unsupported,
):
    """Dilated attention (LongNet, Ding et al. 2023, arXiv 2307.02486).

    Branch (w, r) cuts the positions into segments [t w, (t + 1) w). In head h it keeps the
    positions p with (p mod w) mod r = offset(h): a query at such a position attends to the kept
    keys of its segment. Branches are mixed by their softmax denominators, which is the softmax over
    the union of their keys, a key in several branches counting several times. Nothing is gathered
    or padded: a branch reads q, k and v where they lie. r need not divide w.

    Args:
        segment_lengths, dilation_rates: w and r of each branch, e.g. [2048, 4096], [1, 2].
        causal: within a segment a query sees keys at its own position and before; False: all.
        head_offset: "mod": offset(h) = h mod r (paper); "blocks": h // ceil(q_heads / r), the
            contiguous blocks of heads of torchscale's code.
        detach_weights: False differentiates the mixture exactly. True takes the mixing weights as
            constants in the backward pass, as torchscale does.
        plan: of `longattn.ring.plan`, layout "contiguous": q, k and v are this rank's rows, and the
            result is that of one process. Segments that lie within a rank stay there; where they go
            on on other ranks, only the kept keys travel. All ranks make the same call.
        cu_seqlens_q, cu_seqlens_k: not supported here; must be None.

    All other arguments and errors are those of `longattn.attention`. A query that no branch
    covers gets out 0 and lse -inf. The lse counts multiplicity, so it does not merge with a
    partial over the same keys.
    """
    if unsupported:
        checks.reject_unknown("dilated_attention", unsupported)
    checks.reject_not_yet(cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k)
    if detach_weights and sink_logits is not None:
        raise NotImplementedError(
            "detach_weights=True takes no sink_logits: their gradient is that of a mixing weight; "
            "leave one of the two out"
        )
    checks.check_branches(segment_lengths, dilation_rates, head_offset, native.HEAD_OFFSETS)
    for name, value in (("causal", causal), ("detach_weights", detach_weights)):
        checks.check_flag(name, value)
    checks.check_switches(return_lse, deterministic)
    checks.check_scale(softmax_scale)
    pairs = [(int(w), int(r)) for w, r in zip(segment_lengths, dilation_rates)]
    if plan is not None:
        if q_start is not None or k_start != 0:
            raise ValueError(
                f"q_start and k_start belong to the plan, got q_start={q_start} and "
                f"k_start={k_start}"
            )
        return dilated_call.dilated_attention(
            *(plan, q, k, v, pairs),
            causal=causal,
            head_offset=head_offset,
            detach_weights=detach_weights,
            bias=bias,
            softmax_scale=softmax_scale,
            softcap=softcap,
            sink_logits=sink_logits,
            return_lse=return_lse,
            backend=backend,
        )
    checks.check_is_tensor("q", q)
    backend = backends.choose(backend, q.device)
    checks.check_tensors(q, k, v, backend, packed=False)
    q_start, k_start = checks.check_positions(False, q_start, k_start)
    if q_start is None:
        q_start = k_start + k.shape[1] - q.shape[1]
    branches = [native.HEAD_OFFSETS[head_offset], *(number for pair in pairs for number in pair)]
    scores = score_arguments.lower(
        *(q, k, bias, softcap, sink_logits, q_start, k_start),
        reach=max(segment_lengths),
    )
    out, lse = ops.attention(
        q,
        k,
        v,
        None,
        None,
        scores.bias,
        scores.sink_logits,
        encode_rules(Causal() if causal else Full(), q.shape[-2]),
        branches,
        scores.bias_form,
        default_scale(q, softmax_scale),
        scores.softcap,
        q_start,
        k_start,
        detach_weights,
        backend.name,
    )
    return (out, lse) if return_lse else out
