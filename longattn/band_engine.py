# SPDX-License-Identifier: BSD-3-Clause
"""What the op of several bands does: each band is one partial of the softmax."""

from __future__ import annotations

from longattn import backends, checks, partial_engine, score_checks
from longattn.allocation import converted
from longattn.engine import layouts, scores_of, sinks_of
from longattn.partial_engine import Partial


def encode(rules) -> list:
    """The rules of all bands in one list, each after its length."""
    return [number for rule in rules for number in (len(rule), *rule)]


def _decode(rules) -> list:
    bands, begin = [], 0
    while begin < len(rules):
        end = begin + 1 + rules[begin]
        if not begin < end <= len(rules):
            raise ValueError(f"the rules of a band have a wrong length, got {rules}")
        bands.append(list(rules[begin + 1 : end]))
        begin = end
    return bands


def _partials(q, k, v, cu_q, cu_k, rules, q_start, k_start, backend) -> list:
    """q and k: one tensor for each band, or one for all of them. A k may stop before v does: that
    band is one of the first keys."""
    bands = _decode(rules)
    if not bands or not {len(q), len(k)} <= {1, len(bands)}:
        raise ValueError(
            f"{len(bands)} bands need as many q and k, or one of them for all, got {len(q)} and "
            f"{len(k)}"
        )
    # Gradients are told apart by tensor: one that was given twice must become two.
    q, k = ([tensor.detach() for tensor in side] for side in (q, k))
    partials = []
    for band, rule in enumerate(bands):
        of_q, of_k = q[band if len(q) > 1 else 0], k[band if len(k) > 1 else 0]
        [layout] = layouts(of_q, of_k, cu_q, cu_k, (), q_start, k_start)
        partials.append(Partial(of_q, of_k, layout, rule))
    for partial in partials:
        _check_rows(partial, q[0], v, packed=cu_q is not None)
        checks.check_memory(partial.q, partial.k, partial.of_keys(v), backend, cu_q is not None)
    return partials


def _check_rows(partial: Partial, first_q, v, packed: bool) -> None:
    """Bands share the rows of out, and the values."""
    if partial.q.shape != first_q.shape:
        raise ValueError(
            f"the q of all bands must have one shape, got {tuple(first_q.shape)} and "
            f"{tuple(partial.q.shape)}"
        )
    rows, most = partial.k.shape[-3], v.shape[-3]
    if rows > most or (packed and rows != most):
        accepted = "as many rows as v" if packed else "at most as many rows as v"
        raise ValueError(f"the k of a band must have {accepted}, which has {most}, got {rows}")


def forward(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    bias,
    sink_logits,
    rules,
    bias_form,
    softmax_scale,
    softcap,
    q_start,
    k_start,
    backend,
) -> tuple:
    """-> (out in q's dtype, lse in the accumulator's). rules: see `encode`."""
    backend = backends.get(backend)
    partials = _partials(q, k, v, cu_seqlens_q, cu_seqlens_k, rules, q_start, k_start, backend)
    score_checks.check_score_tensors(q[0], bias, sink_logits)
    score_checks.check_sink_values(sink_logits)
    return partial_engine.forward(
        partials,
        v,
        scores_of(q[0], softmax_scale, softcap, bias, bias_form),
        sinks_of(q[0], sink_logits),
        backend.engine,
        merge=True,
    )


def backward(
    dout,
    dlse,
    q,
    k,
    v,
    out,
    lse,
    cu_seqlens_q,
    cu_seqlens_k,
    bias,
    sink_logits,
    wants_bias,
    wants_sinks,
    rules,
    bias_form,
    softmax_scale,
    softcap,
    q_start,
    k_start,
    backend,
) -> tuple:
    """-> (dq, dk, dv, dbias, dsink_logits): dq and dk lists as q and k; the last two are empty
    where nobody wants them."""
    backend = backends.get(backend)
    partials = _partials(q, k, v, cu_seqlens_q, cu_seqlens_k, rules, q_start, k_start, backend)
    score_checks.check_score_tensors(q[0], bias, sink_logits)
    gradients = partial_engine.backward(
        partials,
        v,
        scores_of(q[0], softmax_scale, softcap, bias, bias_form),
        sinks_of(q[0], sink_logits),
        dout,
        dlse,
        out,
        lse,
        backend,
        wants_bias=wants_bias,
        wants_sinks=wants_sinks,
    )
    return (
        [converted(gradients.dq[band], tensor.dtype) for band, tensor in enumerate(q)],
        [converted(gradients.dk[band], tensor.dtype) for band, tensor in enumerate(k)],
        converted(gradients.dv, v.dtype),
        gradients.bias.to(bias.dtype) if wants_bias else v.new_empty(0),
        gradients.sink_logits.to(sink_logits.dtype) if wants_sinks else v.new_empty(0),
    )
