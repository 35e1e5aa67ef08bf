# SPDX-License-Identifier: BSD-3-Clause
"""Keywords that a signature lacks: the function called is named, and what to say instead."""

import inspect
import re

import pytest
import torch

import longattn
from longattn import foreign
from longattn.masks import Causal

Q = torch.randn(1, 6, 2, 8)
ROPE = longattn.RotaryEmbedding(8)
CALLS = {
    "attention": lambda **more: longattn.attention(Q, Q, Q, Causal(), **more),
    "lambda_attention": lambda **more: longattn.lambda_attention(
        Q, Q, Q, window=3, sink_tokens=1, **more
    ),
    "dilated_attention": lambda **more: longattn.dilated_attention(Q, Q, Q, [4], [1], **more),
    "shifted_sparse_attention": lambda **more: longattn.shifted_sparse_attention(
        Q, Q, Q, 4, **more
    ),
    "rerope_attention": lambda **more: longattn.rerope_attention(
        Q, Q, Q, ROPE, window=3, **more
    ),
    "xpos_attention": lambda **more: longattn.xpos_attention(
        Q, Q, Q, longattn.RotaryEmbedding.xpos(8), **more
    ),
    "lm_infinite_attention": lambda **more: longattn.lm_infinite_attention(
        Q, Q, Q, ROPE, window=3, sink_tokens=1, **more
    ),
}
INSTEAD = {  # a regular expression for what `attention` says
    "is_causal": r"longattn\.Causal\(\).*bottom right",
    "causal": r"longattn\.Causal\(\) or longattn\.Full\(\)",
    "attn_mask": "tensors are not taken as masks",
    "attention_mask": "tensors are not taken as masks.*cu_seqlens",
    "window_size": r"Band\.from_flash\(window_size, causal\)",
    "sliding_window": r"Window\.from_hf\(sliding_window\)",
    "mask": "",
    "scale": "softmax_scale",
    "sm_scale": "softmax_scale",
    "scaling": "softmax_scale",
    "enable_gqa": "fewer heads",
    "max_seqlen": "cu_seqlens",
    "max_seqlen_q": "cu_seqlens_q",
    "max_seqlen_k": "cu_seqlens_k",
    "block_mask": r"longattn\.Full, Causal, .*joined with &",
    "alibi_slopes": r"bias=longattn\.Alibi\(alibi_slopes\)",
    "slopes": r"bias=longattn\.Alibi\(slopes\)",
    "position_bias": r"longattn\.RelativeBias\(table\).*from_t5",
    "score_mod": "bias, softcap and sink_logits",
    "s_aux": "sink_logits",
    "sinks": "sink_logits",
    "learnable_sink": "sink_logits",
    "logits_soft_cap": "softcap",
    "logit_softcapping": "softcap",
    "attn_logit_softcapping": "softcap",
    "limit_distance": r"distance_ceiling in longattn\.lm_infinite_attention",
    "rope": r"come rotated here: longattn\.apply_rotary",
    "distance_ceiling": "lm_infinite_attention takes it, with a rope",
    "key_padding_mask": "cu_seqlens",
    "plan": r"call plan\.attention",
    "group": r"longattn\.ring\.plan\(seq_len, group\)",
}


def own_keywords(function) -> set:
    return set(inspect.signature(getattr(longattn, function)).parameters)


FOREIGN = [
    (function, keyword)
    for function in CALLS
    for keyword in INSTEAD
    if keyword not in own_keywords(function)
]


@pytest.mark.parametrize("function", CALLS)
def test_unknown_keywords_are_type_errors_of_the_function_that_was_called(function):
    with pytest.raises(TypeError) as error:
        CALLS[function](colour=7)
    assert str(error.value) == f"{function}() got an unexpected keyword argument 'colour'"


@pytest.mark.parametrize("function, keyword", FOREIGN)
def test_keywords_of_other_libraries_are_translated(function, keyword):
    with pytest.raises(TypeError) as error:
        CALLS[function](**{keyword: 1})
    message = str(error.value)
    assert message.startswith(f"{function}() got an unexpected keyword argument {keyword!r}: ")
    instead = INSTEAD[keyword]
    if function != "attention" and keyword in {"mask", *foreign.SAID_BY_THE_MASK}:
        instead = f"follows from the other arguments of {function}; longattn.attention takes a mask"
    assert re.search(instead, message), message


@pytest.mark.parametrize("function", CALLS)
def test_dropout_is_refused_by_the_function_that_was_called(function):
    with pytest.raises(NotImplementedError, match=f"^{function}.*dropout_p=0.1"):
        CALLS[function](dropout_p=0.1)


def test_every_translation_is_tested_and_none_is_of_an_own_keyword():
    translated = {*foreign.SAID_BY_THE_MASK, *foreign.SAID_OTHERWISE}
    assert translated | {"mask"} == set(INSTEAD)
    assert not translated & own_keywords("attention")


def calls_of_a_plan():
    plan = longattn.ring.plan(4, longattn.ring.VirtualRing(1))
    x = [torch.zeros(1, 4, 1, 8)]
    yield "plan.attention", lambda **foreign: plan.attention(x, x, x, **foreign)
    yield "plan.decode", lambda **foreign: plan.decode(x[0], x, x, q_start=3, **foreign)


@pytest.mark.parametrize("keyword", [*foreign.SAID_BY_THE_MASK, *foreign.SAID_BY_THE_PLAN])
def test_a_plan_says_what_it_has_instead(keyword):
    for function, call in calls_of_a_plan():
        if function == "plan.decode" and keyword == "q_start":
            continue  # its own
        with pytest.raises(TypeError) as error:
            call(**{keyword: 1})
        told = foreign.SAID_BY_THE_PLAN.get(keyword) or foreign.SAID_BY_THE_MASK[keyword]
        assert str(error.value).endswith(f"got an unexpected keyword argument {keyword!r}: {told}")
