# SPDX-License-Identifier: BSD-3-Clause
"""Keywords that other attention functions have, and what to say here instead."""

# What a query sees is one argument of `attention`, and follows from the arguments of a pattern.
SAID_BY_THE_MASK = {
    "is_causal": "the mask says it: longattn.Causal(), aligned to the bottom right (torch's "
    "is_causal to the top left, as longattn.Causal() with q_start=0)",
    "causal": "the mask says it: longattn.Causal() or longattn.Full()",
    "attn_mask": "tensors are not taken as masks; the mask is one of longattn.Full, Causal, "
    "Window, Band, Groups, Prefix, or several joined with &",
    "attention_mask": "tensors are not taken as masks; the mask is one of longattn.Full, Causal, "
    "Window, Band, Groups, Prefix, and padding is left out by cu_seqlens_q and cu_seqlens_k",
    "window_size": "the mask says it: longattn.Band.from_flash(window_size, causal), or "
    "longattn.Window(size) for the last `size` keys",
    "sliding_window": "the mask says it: longattn.Window.from_hf(sliding_window)",
    "block_mask": "the mask is one of longattn.Full, Causal, Window, Band, Groups, Prefix, or "
    "several joined with &",
}
SAID_OTHERWISE = {
    "scale": "it is called softmax_scale here",
    "scaling": "it is called softmax_scale here",
    "sm_scale": "it is called softmax_scale here",
    "enable_gqa": "k and v may have fewer heads than q without being asked; leave it out",
    "max_seqlen": "cu_seqlens_q and cu_seqlens_k tell the lengths; leave it out",
    "max_seqlen_q": "cu_seqlens_q tells the lengths; leave it out",
    "max_seqlen_k": "cu_seqlens_k tells the lengths; leave it out",
    "alibi_slopes": "give bias=longattn.Alibi(alibi_slopes), one slope a head",
    "rope": "q and k come rotated here: longattn.apply_rotary(q, k, rope) rotates them",
    "distance_ceiling": "longattn.lm_infinite_attention takes it, with a rope; for ALiBi it is "
    "part of the bias: longattn.Alibi(distance_ceiling=..., window=...)",
    "limit_distance": "it is called distance_ceiling in longattn.lm_infinite_attention",
    "s_aux": "it is called sink_logits here, with the same numbers",
    "sinks": "it is called sink_logits here, with the same numbers",
    "learnable_sink": "it is called sink_logits here, with the same numbers",
    "logits_soft_cap": "it is called softcap here; leave it out for none, where others say 0",
    "logit_softcapping": "it is called softcap here; leave it out for none, where others say 0",
    "attn_logit_softcapping": "it is called softcap here",
    "slopes": "give bias=longattn.Alibi(slopes)",
    "position_bias": "give bias=longattn.RelativeBias(table), a number for each head and distance, "
    "or RelativeBias.from_t5(buckets)",
    "score_mod": "scores are changed by bias, softcap and sink_logits; a bias is longattn.Alibi, "
    "Kerple, Sandwich or RelativeBias",
    "plan": "call plan.attention(q, k, v, mask) for attention over the ranks of a plan",
    "group": "make a plan of it: longattn.ring.plan(seq_len, group).attention(q, k, v, mask)",
    "key_padding_mask": "padding is left out by packing the sequences: give cu_seqlens_q and "
    "cu_seqlens_k",
}
DOCUMENTS = "documents belong to the plan: longattn.ring.plan(seq_len, group, cu_seqlens=...)"
SAID_BY_THE_PLAN = {
    "cu_seqlens": DOCUMENTS,
    "cu_seqlens_q": DOCUMENTS,
    "cu_seqlens_k": DOCUMENTS,
    "q_start": "positions belong to the plan; leave it out",
    "k_start": "positions belong to the plan; leave it out",
    "attention_mask": "tensors are not taken as masks; padding is left out by packing documents: "
    "longattn.ring.plan(seq_len, group, cu_seqlens=...)",
}


def advice(function: str, keyword: str):
    """What to say instead in a call of `function`, or None for a keyword that nobody has."""
    if function in ("attention", "plan.attention", "plan.decode"):  # which take a mask
        if function != "attention" and keyword in SAID_BY_THE_PLAN:
            return SAID_BY_THE_PLAN[keyword]
        return SAID_BY_THE_MASK.get(keyword) or SAID_OTHERWISE.get(keyword)
    if keyword == "mask" or keyword in SAID_BY_THE_MASK:
        return (
            f"what a query sees follows from the other arguments of {function}; "
            "longattn.attention takes a mask"
        )
    return SAID_OTHERWISE.get(keyword)
