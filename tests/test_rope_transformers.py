# SPDX-License-Identifier: BSD-3-Clause
"""Every rope_type against Hugging Face's own functions, to 1e-6 (theirs are float32)."""

import pytest
import torch

from longattn import RotaryEmbedding

transformers = pytest.importorskip(
    "transformers",
    minversion="5.23",
    reason="no transformers 5.23 to compare with: `pip install longattn[test]`",
)

from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS  # noqa: E402

PAIRS = 64
SHORT = [1.0 + i / 50 for i in range(PAIRS)]
LONG = [1.0 + i / 2 for i in range(PAIRS)]
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 1024}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONGROPE = {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG}
PARAMETERS = {
    "default": {},
    "linear": {"rope_type": "linear", "factor": 2.5},
    "dynamic": {"rope_type": "dynamic", "factor": 3.0},
    "yarn": YARN,
    "yarn whole": {"rope_type": "yarn", "factor": 1.0, "original_max_position_embeddings": 8192},
    "yarn derived": {**YARN, "factor": None},
    "yarn given attention factor": {**YARN, "attention_factor": 1.25},
    "yarn exact ends": {**YARN, "truncate": False, "beta_fast": 20, "beta_slow": 2.5},
    "yarn betas 0": {**YARN, "beta_fast": 0, "beta_slow": 0},
    "yarn mscale": {**YARN, "mscale": 0.707, "mscale_all_dim": 1.0},
    "yarn mscale alone": {**YARN, "mscale": 0.707},
    "yarn ends outside": {**YARN, "original_max_position_embeddings": 16},
    "longrope": {**LONGROPE, "original_max_position_embeddings": 1024},
    "longrope factor": {**LONGROPE, "original_max_position_embeddings": 4096, "factor": 32.0},
    "longrope given attention factor": {
        **LONGROPE,
        "original_max_position_embeddings": 4096,
        "attention_factor": 1.5,
    },
    "llama3": {**LLAMA3, "original_max_position_embeddings": 1024},
    "llama3 length of the config": LLAMA3,
    "proportional": {"rope_type": "proportional", "partial_rotary_factor": 0.3},
    "proportional factor": {"rope_type": "proportional", "factor": 2.0},
    "proportional none": {"rope_type": "proportional", "partial_rotary_factor": 0.0},
}


def config_of(parameters, kind="LlamaConfig", **arguments):
    """Their configs keep and complete the dict that they get, so each has a copy of its own."""
    settings = {
        "hidden_size": 512,
        "num_attention_heads": 4,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_theta": 500000.0, **parameters},
        **arguments,
    }
    return getattr(transformers, kind)(**settings)


def theirs(config, layer_type=None, seq_len=None):
    own = config.rope_parameters if layer_type is None else config.rope_parameters[layer_type]
    if own["rope_type"] == "default":
        llama = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding
        return llama.compute_default_rope_parameters(config)
    function = ROPE_INIT_FUNCTIONS[own["rope_type"]]
    return function(config, seq_len=seq_len, layer_type=layer_type)


def assert_same(rope, inv_freq, attention_factor, seq_len=None):
    ours, factor = rope.inv_freq, rope.attention_factor
    if seq_len is not None:
        ours, factor = rope.inv_freq_for(seq_len), rope.attention_factor_for(seq_len)
    torch.testing.assert_close(ours, inv_freq.double(), rtol=1e-6, atol=0)
    assert factor == pytest.approx(attention_factor, rel=1e-14)


@pytest.mark.parametrize("name", PARAMETERS)
def test_types(name):
    config = config_of(dict(PARAMETERS[name]))
    rope = RotaryEmbedding.from_hf(config)
    assert (rope.head_dim, rope.base, rope.max_position_embeddings) == (128, 500000.0, 8192)
    for seq_len in (None, 1, 1024, 1025, 8192, 8193, 50000):
        assert_same(rope, *theirs(config, seq_len=seq_len), seq_len)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_same_from_a_config_a_dict_and_parameters(name):
    config = config_of(dict(PARAMETERS[name]))
    rope = RotaryEmbedding.from_hf(config)
    assert RotaryEmbedding.from_hf(config.to_dict()) == rope
    alone = dict(PARAMETERS[name], rope_theta=500000.0)
    told = {"head_dim": 128, "max_position_embeddings": 8192}
    assert_same(RotaryEmbedding.from_hf(alone, **told), rope.inv_freq, rope.attention_factor)
    direct = RotaryEmbedding(
        128, 500000.0, scaling=dict(PARAMETERS[name]), max_position_embeddings=8192
    )
    assert_same(direct, rope.inv_freq, rope.attention_factor)


def test_reading_changes_nothing():
    config = config_of(dict(YARN))
    before = repr(config)
    RotaryEmbedding.from_hf(config)
    given = dict(YARN)
    RotaryEmbedding.from_hf(given, head_dim=64)
    assert repr(config) == before and given == YARN


@pytest.mark.parametrize("name", ["linear", "dynamic", "yarn", "llama3"])
def test_partial_rotation(name):
    config = config_of({**PARAMETERS[name], "partial_rotary_factor": 0.5})
    rope = RotaryEmbedding.from_hf(config)
    assert (rope.head_dim, rope.rotary_dim) == (128, 64)
    assert_same(rope, *theirs(config))


def test_partial_rotation_of_longrope():
    lists = {"short_factor": SHORT[:48], "long_factor": LONG[:48]}
    config = config_of(
        {**LONGROPE, **lists, "original_max_position_embeddings": 4096},
        kind="Phi3Config",
        partial_rotary_factor=0.75,
        original_max_position_embeddings=2048,
    )
    rope = RotaryEmbedding.from_hf(config)
    assert rope.rotary_dim == 96
    assert rope.scaling.original_max_position_embeddings == 2048  # the config's goes first
    for seq_len in (None, 2048, 2049):
        assert_same(rope, *theirs(config, seq_len=seq_len), seq_len)


@pytest.mark.parametrize("old", ["su", "yarn"])
def test_old_names_of_longrope(old):
    parameters = {"type": old, "short_factor": SHORT[:48], "long_factor": LONG[:48]}
    old_config = {
        "model_type": "phi3",
        "hidden_size": 3072,
        "num_attention_heads": 32,
        "rope_theta": 20000.0,
        "rope_scaling": parameters,
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
    }
    parameters = {**parameters, "original_max_position_embeddings": 4096, "rope_theta": 20000.0}
    config = transformers.Phi3Config(
        **{
            **old_config,
            "rope_scaling": None,
            "rope_parameters": {**parameters, "type": "longrope"},
        }
    )
    rope = RotaryEmbedding.from_hf(old_config)
    assert_same(rope, *theirs(config))
    assert_same(rope, *theirs(config, seq_len=4097), 4097)


NESTED = {
    "full_attention": {**YARN, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
}


@pytest.mark.parametrize("layer_type", NESTED)
def test_parameters_by_layer_type(layer_type):
    config = config_of(
        {},
        kind="Gemma3TextConfig",
        head_dim=64,
        num_hidden_layers=6,
        rope_parameters={name: dict(parameters) for name, parameters in NESTED.items()},
    )
    rope = RotaryEmbedding.from_hf(config, layer_type)
    assert rope.head_dim == 64
    assert_same(rope, *theirs(config, layer_type))
    assert RotaryEmbedding.from_hf(config.to_dict(), layer_type) == rope
    alone = RotaryEmbedding.from_hf(NESTED, layer_type, head_dim=64, max_position_embeddings=8192)
    assert alone == rope


def test_truncate_beside_the_layer_types():
    """Where Hugging Face reads it; inside of a layer's own parameters it does not, we do."""
    layers = {name: dict(parameters) for name, parameters in NESTED.items()}
    config = config_of({}, kind="Gemma3TextConfig", head_dim=64, rope_parameters=layers)
    config.rope_parameters["truncate"] = False
    rope = RotaryEmbedding.from_hf(config, "full_attention")
    assert_same(rope, *theirs(config, "full_attention"))
    inside = {**NESTED, "full_attention": {**NESTED["full_attention"], "truncate": False}}
    told = {"head_dim": 64, "max_position_embeddings": 8192}
    assert RotaryEmbedding.from_hf(inside, "full_attention", **told) == rope
    assert RotaryEmbedding.from_hf(NESTED, "full_attention", **told) != rope


def test_head_dim_by_layer_type():
    config = transformers.Gemma4TextConfig(num_hidden_layers=6)
    for layer_type, head_dim in (("full_attention", 512), ("sliding_attention", 256)):
        rope = RotaryEmbedding.from_hf(config, layer_type)
        assert rope.head_dim == head_dim
        assert RotaryEmbedding.from_hf(config.to_dict(), layer_type) == rope
    assert_same(
        RotaryEmbedding.from_hf(config, "full_attention"), *theirs(config, "full_attention")
    )


def test_deepseek():
    attention = transformers.models.deepseek_v3.modeling_deepseek_v3.DeepseekV3Attention
    parameters = {**YARN, "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 1.0}
    config = config_of(parameters, kind="DeepseekV3Config", num_hidden_layers=1)
    rope = RotaryEmbedding.from_hf(config)
    assert (rope.head_dim, rope.interleaved, rope.attention_factor) == (64, True, 1.0)
    assert_same(rope, *theirs(config))
    with torch.device("meta"):
        layer = attention(config, 0)
    scale = layer.qk_head_dim**-0.5 * rope.softmax_scale_factor
    assert scale == pytest.approx(layer.scaling, rel=1e-14)


def test_hunyuan_means_a_fixed_stretch_by_dynamic():
    module = transformers.models.hunyuan_v1_dense.modeling_hunyuan_v1_dense
    parameters = {"rope_type": "dynamic", "factor": 1.0, "alpha": 1000.0}
    config = config_of(parameters, kind="HunYuanDenseV1Config", head_dim=128)
    their_module = module.HunYuanDenseV1RotaryEmbedding(config)
    rope = RotaryEmbedding.from_hf(config)
    assert not rope.depends_on_length
    assert_same(rope, their_module.inv_freq, their_module.attention_scaling)


def test_models_that_also_see_say_it_in_their_text_config():
    config = transformers.LlavaConfig(text_config=config_of({"rope_type": "linear", "factor": 2.0}))
    rope = RotaryEmbedding.from_hf(config)
    assert rope == RotaryEmbedding.from_hf(config.text_config) and rope.scaling.factor == 2
    assert RotaryEmbedding.from_hf(config.to_dict()) == rope
    seeing = transformers.Qwen2VLConfig()
    seeing.text_config.rope_parameters["mrope_section"] = [16, 24, 24]
    with pytest.raises(ValueError, match="mrope_section.*multimodal"):
        RotaryEmbedding.from_hf(seeing)


def test_cos_and_sin_of_a_whole_model():
    """Their module's tables, which are float32 and lose accuracy with the position."""
    config = config_of(dict(YARN))
    module = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config)
    positions = torch.arange(500)
    cos, sin = module(torch.zeros(1), positions[None])
    rope = RotaryEmbedding.from_hf(config)
    angles = positions[:, None] * rope.inv_freq.repeat(2)
    torch.testing.assert_close(
        cos[0], (angles.cos() * rope.attention_factor).float(), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        sin[0], (angles.sin() * rope.attention_factor).float(), atol=1e-4, rtol=0
    )
