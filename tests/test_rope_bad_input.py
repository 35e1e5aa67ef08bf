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

def rope(scaling, **arguments):
    return lambda: RotaryEmbedding(64, scaling=scaling, **arguments)


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
]


@pytest.mark.parametrize("call, exception, says", [row[1:] for row in BAD], ids=[b[0] for b in BAD])
def test_bad_input(call, exception, says):
    with pytest.raises(exception, match=says) as caught:
        call()
    assert type(caught.value) is exception and len(str(caught.value)) < 600


def test_the_names_of_the_bad_are_distinct():
    names = [row[0] for row in BAD]
    assert len(set(names)) == len(names)
