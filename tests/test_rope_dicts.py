# SPDX-License-Identifier: BSD-3-Clause
"""Dicts and configs: what warns, old keys, and what goes before what. No transformers needed."""

import types
import warnings

import pytest
import torch

from longattn import RotaryEmbedding
from longattn.rope import DynamicNTK, Linear

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
LLAMA3 = {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4}
CONFIG = {"hidden_size": 256, "num_attention_heads": 4, "max_position_embeddings": 4096}


def read(parameters, layer_type=None, **arguments):
    arguments = {"head_dim": 64, "max_position_embeddings": 4096, **arguments}
    return lambda: RotaryEmbedding.from_hf(parameters, layer_type, **arguments)


def whole(layer_type=None, **fields):
    return lambda: RotaryEmbedding.from_hf({**CONFIG, **fields}, layer_type)


def test_keys_without_a_meaning_warn_and_are_ignored():
    with pytest.warns(UserWarning, match="rope_type 'linear' has no 'beta_fast', 'colour'") as seen:
        rope = read({"rope_type": "linear", "factor": 2.0, "colour": 1, "beta_fast": 32})()
    assert rope.scaling == Linear(2) and seen[0].filename == __file__
    with pytest.warns(UserWarning, match="'colour'") as seen:
        RotaryEmbedding(64, scaling={"type": "linear", "factor": 2.0, "colour": 1})
    assert seen[0].filename == __file__
    with pytest.warns(UserWarning, match="'dynamic' has no 'original_max_position_embeddings'"):
        rope = read({"type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 64})()
    assert rope.scaling == DynamicNTK(2) and rope.max_position_embeddings == 4096


def test_what_has_a_meaning_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read({**YARN, "rope_theta": 1e6, "type": "yarn", "mscale": None, "truncate": True})()
        read({**LLAMA3, "partial_rotary_factor": 0.5})()
        read({})()
        whole(rope_scaling=None, rope_theta=1e6)()


def test_old_keys():
    old = RotaryEmbedding.from_hf(
        {**CONFIG, "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2}}
    )
    assert old == RotaryEmbedding(64, 5e5, scaling=Linear(2), max_position_embeddings=4096)
    pythia = RotaryEmbedding.from_hf({**CONFIG, "rotary_pct": 0.25, "rotary_emb_base": 20000})
    assert pythia == RotaryEmbedding(64, 20000, rotary_dim=16, max_position_embeddings=4096)
    assert RotaryEmbedding.from_hf(CONFIG) == RotaryEmbedding(64, max_position_embeddings=4096)


def test_one_base_for_each_kind_of_layer_in_old_configs():
    scaling = {"rope_type": "linear", "factor": 8.0}
    gemma = {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": scaling}
    expected = {"max_position_embeddings": 4096}
    assert whole("full_attention", **gemma)() == RotaryEmbedding(
        64, 1e6, scaling=Linear(8), **expected
    )
    assert whole("sliding_attention", **gemma)() == RotaryEmbedding(64, 1e4, **expected)
    bert = {"global_rope_theta": 160000.0, "local_rope_theta": 1e4, "rope_scaling": scaling}
    for layer_type, base in (("full_attention", 160000.0), ("sliding_attention", 1e4)):
        rope = whole(layer_type, **bert)()
        assert rope == RotaryEmbedding(64, base, scaling=Linear(8), **expected)


def test_the_head_that_is_rotated():
    """DeepSeek's config.json has no head_dim; only this part of its heads is rotated."""
    config = {**CONFIG, "qk_rope_head_dim": 32, "qk_nope_head_dim": 128}
    assert RotaryEmbedding.from_hf(config).head_dim == 32
    assert RotaryEmbedding.from_hf({**config, "head_dim": 48}).head_dim == 48


def test_arguments_go_before_the_config():
    config = {**CONFIG, "rope_interleave": True, "head_dim": 32}
    assert RotaryEmbedding.from_hf(config).interleaved
    rope = RotaryEmbedding.from_hf(
        config, head_dim=128, max_position_embeddings=10, interleaved=False
    )
    assert rope == RotaryEmbedding(128, max_position_embeddings=10)


def test_configs_are_whatever_has_the_attributes():
    config = types.SimpleNamespace(**CONFIG, rope_scaling=YARN, rope_theta=None)
    assert RotaryEmbedding.from_hf(config) == read(YARN)()


def test_the_trained_length():
    """The config's, else the dict's, else max_position_embeddings; by layer type: the dict's."""
    beside = {"original_max_position_embeddings": 512}
    assert whole(rope_scaling=YARN, **beside)().scaling.original_max_position_embeddings == 512
    assert whole(rope_scaling=YARN)().scaling.original_max_position_embeddings == 1024
    nested = whole("full", rope_parameters={"full": YARN}, **beside)()
    assert nested.scaling.original_max_position_embeddings == 1024
    without = {"rope_type": "yarn", "factor": 4.0}
    rope = whole(rope_scaling=without)()
    told = whole(rope_scaling={**without, "original_max_position_embeddings": 4096})()
    assert torch.equal(rope.inv_freq, told.inv_freq)
