# SPDX-License-Identifier: BSD-3-Clause
"""Signatures: patterns share attention's keywords, and the reference has the same names."""

import inspect

import pytest

import longattn
from longattn import reference

FUNCTIONS = [
    "attention",
    "lambda_attention",
    "dilated_attention",
    "shifted_sparse_attention",
    "lm_infinite_attention",
    "rerope_attention",
    "xpos_attention",
    "merge_partials",
]
PATTERNS = FUNCTIONS[1:-1]
COMMON = {  # the keywords of attention after mask, and their defaults
    "bias": None,
    "softmax_scale": None,
    "softcap": None,
    "sink_logits": None,
    "q_start": None,
    "k_start": 0,
    "cu_seqlens_q": None,
    "cu_seqlens_k": None,
    "return_lse": False,
    "deterministic": None,
    "backend": None,
}


def parameters(function) -> dict:
    """Names, kinds and defaults, less the catch-all that turns unknown keywords into sentences."""
    return {
        name: (parameter.kind, parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


@pytest.mark.parametrize("name", FUNCTIONS[:-1])
def test_common_keywords(name):
    own = parameters(getattr(longattn, name))
    for keyword, default in COMMON.items():
        assert own.get(keyword) == (inspect.Parameter.KEYWORD_ONLY, default), f"{name}({keyword}=)"


def test_attention_has_no_other_keywords():
    assert list(parameters(longattn.attention)) == ["q", "k", "v", "mask", *COMMON]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_reference_has_the_same_parameters(name):
    ours, theirs = (parameters(getattr(module, name)) for module in (longattn, reference))
    assert ours == theirs


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_functions_are_exported_and_documented(name):
    assert name in longattn.__all__
    assert len(getattr(longattn, name).__doc__.split()) > 10
    assert len(getattr(reference, name).__doc__.split()) > 10


@pytest.mark.parametrize("name", ["Full", "Causal", "Window", "Band", "Groups", "Prefix"])
def test_masks_are_exported(name):
    assert name in longattn.__all__ and getattr(longattn, name).__doc__


def test_own_keywords_of_the_patterns():
    kinds = {
        name: {key: kind for key, (kind, _) in parameters(getattr(longattn, name)).items()}
        for name in PATTERNS
    }
    keyword, positional = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert kinds["lambda_attention"]["window"] == keyword
    assert kinds["lambda_attention"]["sink_tokens"] == keyword
    assert kinds["dilated_attention"]["segment_lengths"] == positional
    assert kinds["dilated_attention"]["dilation_rates"] == positional
    assert kinds["dilated_attention"]["causal"] == keyword
    assert kinds["shifted_sparse_attention"]["group_size"] == positional
    assert kinds["shifted_sparse_attention"]["causal"] == keyword
    for name in ("lm_infinite_attention", "rerope_attention", "xpos_attention"):
        assert kinds[name]["rope"] == positional
        assert kinds[name]["window"] == keyword
