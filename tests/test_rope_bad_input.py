# SPDX-License-Identifier: BSD-3-Clause
"""Bad rotations: a sentence that names the field and what is accepted."""

import math

import pytest
import torch

from longattn import RotaryEmbedding
from longattn.rope import (
    ABF,
    NTK,
    DynamicNTK,
    DynamicYaRN,
    Grid,
    Linear,
    Llama3,
    LongRope,
    NTKByParts,
    NTKMixed,
    Power,
    Proportional,
    Su,
    Truncated,
    YaRN,
)

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
    ("odd head_dim", lambda: RotaryEmbedding(63), ValueError, "head_dim must be even.* 63"),
    ("no head_dim", lambda: RotaryEmbedding(0), ValueError, "head_dim .*at least 2.* 0"),
    ("huge head_dim", lambda: RotaryEmbedding(2**40), ValueError, "head_dim .*at most 65536"),
    ("head_dim text", lambda: RotaryEmbedding("64"), TypeError, "head_dim .*integer.*'64'"),
    ("head_dim True", lambda: RotaryEmbedding(True), TypeError, "head_dim .*integer.*True"),
    ("head_dim 64.5", lambda: RotaryEmbedding(64.5), TypeError, "head_dim .*integer.*64.5"),
    ("base 1", lambda: RotaryEmbedding(64, 1.0), ValueError, "base .*greater than 1.* 1.0"),
    ("base NaN", lambda: RotaryEmbedding(64, math.nan), ValueError, "base .*nan"),
    ("base inf", lambda: RotaryEmbedding(64, math.inf), ValueError, "base .*at most 1e.18.*inf"),
    ("base None", lambda: RotaryEmbedding(64, None), TypeError, "base must be a number.*None"),
    ("base tensor", lambda: RotaryEmbedding(64, torch.ones(())), TypeError, "base .*tensor"),
    ("rotary_dim odd", rope(None, rotary_dim=33), ValueError, "rotary_dim must be even.* 33"),
    ("rotary_dim long", rope(None, rotary_dim=66), ValueError, "rotary_dim .*at most.* 64.* 66"),
    ("interleaved", rope(None, interleaved=1), TypeError, "interleaved must be True or False.* 1"),
    ("length 0", rope(None, max_position_embeddings=0), ValueError, "max_position_emb.*at least 1"),
    ("scaling text", rope("yarn"), TypeError, "scaling must be None, a scaling.*'yarn'"),
    ("scaling class", rope(Linear), TypeError, "scaling must be None, a scaling"),
    (
        "xpos and scaling",
        rope(Linear(2), xpos_scale_base=512),
        ValueError,
        "xpos_scale_base=512.* and scaling=Linear.*exclude each other",
    ),
    ("xpos 0", lambda: RotaryEmbedding.xpos(64, scale_base=0), ValueError, "xpos_scale_base .* 0"),
    # lengths
    ("length text", lambda: RotaryEmbedding(64).inv_freq_for("9"), TypeError, "seq_len .*'9'"),
    ("length -1", lambda: RotaryEmbedding(64).inv_freq_for(-1), ValueError, "seq_len .*0.* -1"),
    ("length", lambda: RotaryEmbedding(64).attention_factor_for(1.5), TypeError, "seq_len .*1.5"),
    ("length huge", lambda: RotaryEmbedding(64).inv_freq_for(10**30), ValueError, "seq_len .*1e"),
    # scalings by themselves
    *(
        (f"{make.__name__} below 1", lambda make=make: make(0.5), ValueError, "at least 1.* 0.5")
        for make in (Linear, NTK, DynamicNTK, YaRN, NTKByParts, Su, NTKMixed)
    ),
    ("Linear NaN", lambda: Linear(math.nan), ValueError, "factor .*nan"),
    ("Linear None", lambda: Linear(None), TypeError, "factor must be a number.*None"),
    ("NTK of one pair", lambda: RotaryEmbedding(2, scaling=NTK(2)), ValueError, "rotary_dim.* 4"),
    ("DynamicNTK", rope(DynamicNTK(2)), ValueError, "DynamicNTK.*needs max_position_embeddings"),
    ("YaRN length", rope(YaRN(2)), ValueError, "YaRN needs original_max_position_embeddings"),
    (
        "YaRN nothing",
        rope(YaRN(), max_position_embeddings=64),
        ValueError,
        "YaRN needs factor, or both original_max_position_embeddings and max_position_embeddings",
    ),
    (
        "YaRN shrinking",
        rope(YaRN(original_max_position_embeddings=128), max_position_embeddings=64),
        ValueError,
        "max_position_embeddings must be at least original_max_position_embeddings.* 64 and 128",
    ),
    ("YaRN betas", lambda: YaRN(2, beta_fast=1, beta_slow=2), ValueError, "beta_fast .*greater"),
    ("YaRN beta", lambda: YaRN(2, beta_slow=-1), ValueError, "beta_slow .*at least.* -1"),
    (
        "YaRN ramp",
        lambda: YaRN(2, ramp="paper"),
        ValueError,
        "ramp .*'index', 'rotations'.*'paper'",
    ),
    (
        "YaRN ramp without ends to round",
        lambda: YaRN(2, ramp="rotations", truncate=False),
        ValueError,
        "truncate=False .*ramp='index' only",
    ),
    (
        "rotations without room",
        lambda: NTKByParts(2, ramp="rotations", beta_fast=2, beta_slow=2),
        ValueError,
        "beta_fast must be greater than beta_slow",
    ),
    ("YaRN truncate", lambda: YaRN(2, truncate=0), TypeError, "truncate must be True or False"),
    ("YaRN af", lambda: YaRN(2, attention_factor=0), ValueError, "attention_factor .*than 0"),
    ("YaRN mscale", lambda: YaRN(2, mscale=-1), ValueError, "mscale .*at least 0.* -1"),
    (
        "DynamicYaRN finetuned for what",
        rope(DynamicYaRN(finetuned=True), max_position_embeddings=64),
        ValueError,
        "DynamicYaRN needs factor, or both",
    ),
    (
        "LongRope text",
        lambda: LongRope("12", [1.0]),
        TypeError,
        "short_factor must be a list.*'12'",
    ),
    ("LongRope empty", lambda: LongRope([1.0], []), TypeError, "long_factor must be a list.* "),
    ("LongRope 0", lambda: LongRope([0.0], [1.0]), ValueError, "each entry of short_factor .* 0.0"),
    (
        "LongRope lengths",
        rope(LongRope([1.0] * 31, [1.0] * 32, factor=2), max_position_embeddings=64),
        ValueError,
        "short_factor must hold rotary_dim / 2 = 32 numbers.* 31",
    ),
    (
        "LongRope long length",
        rope(LongRope([1.0] * 32, [1.0] * 33, factor=2), max_position_embeddings=64),
        ValueError,
        "long_factor must hold rotary_dim / 2 = 32 numbers.* 33",
    ),
    (
        "LongRope one scale",
        lambda: LongRope([1.0], [1.0], short_mscale=1.1),
        ValueError,
        "short_mscale and long_mscale must both",
    ),
    (
        "LongRope two factors",
        lambda: LongRope([1.0], [1.0], short_mscale=1.1, long_mscale=1.2, attention_factor=1.0),
        ValueError,
        "attention_factor=1.0 and short_mscale=1.1 exclude",
    ),
    (
        "LongRope no length",
        rope(LongRope([1.0] * 32, [1.0] * 32, factor=2)),
        ValueError,
        "LongRope needs original_max_position_embeddings",
    ),
    (
        "LongRope length 1",
        rope(LongRope([1.0] * 32, [1.0] * 32, factor=2), max_position_embeddings=1),
        ValueError,
        "LongRope needs a trained length of at least 2",
    ),
    ("Llama3 ends", lambda: Llama3(8, 4, 4), ValueError, "high_freq_factor must be greater.*4"),
    ("Llama3 length", rope(Llama3(8, 1, 4)), ValueError, "Llama3 needs original_max_position_emb"),
    (
        "Proportional",
        lambda: Proportional(1.5),
        ValueError,
        "partial_rotary_factor .*at most 1.*1.5",
    ),
    (
        "Proportional of a part",
        rope(Proportional(0.5), rotary_dim=32),
        ValueError,
        "Proportional .*leave rotary_dim out, got 32",
    ),
    ("Power", lambda: Power(-1), ValueError, "exponent .*at least 0.* -1"),
    (
        "Truncated length",
        rope(Truncated()),
        ValueError,
        "Truncated needs length, keep_above, or max",
    ),
    (
        "Truncated twice",
        lambda: Truncated(64, keep_above=0.1),
        ValueError,
        "length=64 and keep_above=0.1 exclude",
    ),
    (
        "Truncated ends",
        rope(Truncated(keep_above=0.1, zero_below=0.2)),
        ValueError,
        "zero_below must be at most keep_above = 0.1, got 0.2",
    ),
    ("Grid", lambda: Grid(0), ValueError, "steps .*at least 1.* 0"),
    ("Grid of", lambda: Grid(8, of="yarn"), TypeError, "of must be None or a scaling.*'yarn'"),
    ("Grid of lengths", lambda: Grid(8, of=DynamicNTK()), ValueError, "of must not depend"),
    ("ABF", lambda: ABF(1), ValueError, "base of ABF .*greater than 1"),
    ("Su", lambda: Su(2, fixed="yes"), TypeError, "fixed must be True or False.*'yes'"),
    # dicts
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
    names = [row[0] for row in BAD if row[0] != "no head_dim"]
    assert len(set(names)) == len(names)
