# SPDX-License-Identifier: BSD-3-Clause
"""Bad parameters and configs of Hugging Face: a sentence with the field and what is accepted."""

import pytest

from longattn import RotaryEmbedding

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
LLAMA3 = {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4}
LISTS = {"short_factor": [1.0] * 32, "long_factor": [2.0] * 32}
CONFIG = {"hidden_size": 256, "num_attention_heads": 4, "max_position_embeddings": 4096}


def rope(scaling, **arguments):
    return lambda: RotaryEmbedding(64, scaling=scaling, **arguments)


def read(parameters, layer_type=None, **arguments):
    arguments = {"head_dim": 64, "max_position_embeddings": 4096, **arguments}
    return lambda: RotaryEmbedding.from_hf(parameters, layer_type, **arguments)


def whole(layer_type=None, **fields):
    return lambda: RotaryEmbedding.from_hf({**CONFIG, **fields}, layer_type)


BAD = [
    # name, call, exception, what the sentence says
    # parameters alone
    (
        "type unknown",
        read({"rope_type": "ropey"}),
        ValueError,
        "one of 'default', 'linear'.*'ropey'",
    ),
    ("type number", read({"rope_type": 3}), TypeError, "rope_type must be one of 'default'.* 3"),
    ("type missing", read({"factor": 2.0}), ValueError, "must name a rope_type.*'factor'"),
    (
        "two types",
        read({"rope_type": "linear", "type": "dynamic", "factor": 2.0}),
        ValueError,
        "rope_type 'linear' and type 'dynamic' contradict",
    ),
    ("no factor", read({"rope_type": "linear"}), ValueError, "'linear' needs factor"),
    (
        "factor None",
        read({"type": "dynamic", "factor": None}),
        ValueError,
        "'dynamic' needs factor",
    ),
    (
        "factor 0.5",
        read({"type": "linear", "factor": 0.5}),
        ValueError,
        "factor .*at least 1.* 0.5",
    ),
    ("factor text", read({"type": "linear", "factor": "2"}), TypeError, "factor .*number.*'2'"),
    (
        "no lists",
        read({"type": "su", "factor": 2}),
        ValueError,
        "needs short_factor and long_factor",
    ),
    ("llama3", read({"rope_type": "llama3"}), ValueError, "needs factor and low_freq_factor and"),
    ("llama3 ends", read({**LLAMA3, "high_freq_factor": 1}), ValueError, "must be greater"),
    ("axial", read({"rope_type": "axial"}), ValueError, "'axial' means a multimodal rotation"),
    ("mrope", read({"type": "mrope"}), ValueError, "'mrope' means a multimodal rotation"),
    (
        "mrope_section",
        read({"rope_type": "default", "mrope_section": [16, 24, 24]}),
        ValueError,
        "'mrope_section' means a multimodal rotation",
    ),
    ("keys", read({3: 4}), TypeError, "keys of rope_parameters must be strings, got 3"),
    (
        "alpha",
        read({"type": "dynamic", "factor": 2, "alpha": 9}),
        ValueError,
        "alpha=9 and factor=2",
    ),
    (
        "partial 0",
        read({"partial_rotary_factor": 0.0}),
        ValueError,
        "partial_rotary_factor must rotate an even number",
    ),
    ("partial odd", read({"partial_rotary_factor": 0.24}), ValueError, "0.24 of head_dim 64 is 15"),
    ("partial 2", read({"partial_rotary_factor": 2}), ValueError, "partial_rotary_factor .* 2"),
    ("no head_dim", read({"rope_theta": 1e4}, head_dim=None), ValueError, "head_dim must be given"),
    (
        "no length",
        read(LLAMA3, max_position_embeddings=None),
        ValueError,
        "Llama3 needs original_max_position_embeddings",
    ),
    (
        "a part of longrope",
        read({"type": "longrope", **LISTS, "factor": 2, "partial_rotary_factor": 0.5}),
        ValueError,
        "short_factor must hold rotary_dim / 2 = 16 numbers.* 32",
    ),
    ("nested, no layer_type", read({"full": YARN}), ValueError, "layer_type .*'full'.*None"),
    ("nested, other", read({"full": YARN}, "slide"), ValueError, "layer_type .*'full'.*'slide'"),
    ("nested, None", read({"full": YARN, "nope": None}, "nope"), ValueError, "'nope' have no rot"),
    ("nested, 3", read({"full": YARN, "odd": 3}, "odd"), TypeError, r"rope_parameters\['odd'\].*3"),
    ("layer_type 3", read({"full": YARN}, 3), TypeError, "layer_type must be a string or None.* 3"),
    # configs
    ("config None", lambda: RotaryEmbedding.from_hf(None), TypeError, "config must be .*NoneType"),
    ("config text", lambda: RotaryEmbedding.from_hf("gpt"), TypeError, "config must be .*got str"),
    ("parameters text", whole(rope_parameters="yarn"), TypeError, "rope_parameters must be a dict"),
    (
        "two dicts",
        whole(rope_parameters={"rope_theta": 1e4}, rope_scaling=YARN),
        ValueError,
        "rope_parameters .* and rope_scaling .* contradict each other",
    ),
    ("heads 0", whole(num_attention_heads=0), ValueError, "num_attention_heads .*at least 1.* 0"),
    (
        "no width",
        lambda: RotaryEmbedding.from_hf({"model_type": "llama"}),
        ValueError,
        "neither head_dim nor hidden_size and num_attention_heads",
    ),
    (
        "two bases",
        whole(rope_theta=1e6, rope_local_base_freq=1e4),
        ValueError,
        "layer_type must be one of 'full_attention', 'sliding_attention'.*None",
    ),
    # a dict as scaling=
    (
        "base and rope_theta",
        rope({**YARN, "rope_theta": 5e5}),
        ValueError,
        "base=10000.0 and rope_theta=500000.0 of scaling contradict",
    ),
    (
        "rotary_dim and partial_rotary_factor",
        rope({**YARN, "partial_rotary_factor": 0.5}, rotary_dim=48),
        ValueError,
        "rotary_dim=48 and scaling, which says 32, contradict",
    ),
]


@pytest.mark.parametrize("call, exception, says", [row[1:] for row in BAD], ids=[b[0] for b in BAD])
def test_bad_input(call, exception, says):
    with pytest.raises(exception, match=says) as caught:
        call()
    assert type(caught.value) is exception and len(str(caught.value)) < 600


def test_the_names_of_the_bad_are_distinct():
    names = [row[0] for row in BAD]
    assert len(set(names)) == len(names)
