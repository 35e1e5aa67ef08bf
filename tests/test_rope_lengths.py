# SPDX-License-Identifier: BSD-3-Clause
"""Scalings whose table depends on the length, and what every scaling keeps whatever its numbers."""

import pytest
import torch

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
from test_rope_scalings import LENGTH, rope_of


def test_dynamic_yarn_follows_the_length():
    rope = rope_of(DynamicYaRN())
    for length in (0, 1, 4096):
        assert torch.equal(rope.inv_freq_for(length), rope_of(None).inv_freq)
    for length in (4097, 20000):
        fixed = rope_of(YaRN(length / LENGTH))
        assert torch.equal(rope.inv_freq_for(length), fixed.inv_freq)
        assert rope.attention_factor_for(length) == fixed.attention_factor


def test_dynamic_yarn_after_finetuning_and_as_in_the_official_code():
    finetuned = rope_of(DynamicYaRN(finetuned=True, original_max_position_embeddings=1024))
    for length in (1, 1025, 4096):
        assert torch.equal(finetuned.inv_freq_for(length), finetuned.inv_freq)
    grown = rope_of(YaRN(8.0, original_max_position_embeddings=1024))
    assert torch.equal(finetuned.inv_freq_for(8192), grown.inv_freq)
    early = DynamicYaRN(finetuned=True, original_max_position_embeddings=1024, hold=1024)
    assert torch.equal(rope_of(early).inv_freq_for(2048), finetuned.inv_freq)  # never below
    paper = rope_of(DynamicYaRN(original_max_position_embeddings=1024))
    code = rope_of(DynamicYaRN(original_max_position_embeddings=1024, hold=LENGTH))
    assert torch.equal(code.inv_freq_for(4096), rope_of(None).inv_freq)
    assert not torch.equal(paper.inv_freq_for(4096), rope_of(None).inv_freq)
    assert torch.equal(code.inv_freq_for(8192), paper.inv_freq_for(8192))


def test_longrope_switches_for_the_whole_sequence():
    rope = rope_of(LongRope([2.0] * 64, [5.0] * 64, factor=4.0))
    assert rope.depends_on_length
    assert torch.equal(rope.inv_freq_for(4096), rope_of(Linear(2)).inv_freq)
    assert torch.equal(rope.inv_freq_for(4097), rope_of(Linear(5)).inv_freq)
    assert not LongRope([2.0], [2.0], factor=4.0).depends_on_length
    scales = {"short_mscale": 1.1, "long_mscale": 1.3}
    scaled = rope_of(LongRope([2.0] * 64, [2.0] * 64, factor=4.0, **scales))
    assert scaled.depends_on_length and scaled.attention_factor == 1.1
    assert [scaled.attention_factor_for(length) for length in (4096, 4097)] == [1.1, 1.3]


# Invariants.

IDENTITIES = [
    Linear(1),
    NTK(1),
    DynamicNTK(1),
    YaRN(1),
    YaRN(1, ramp="rotations"),
    NTKByParts(1),
    Su(1),
    Su(1, fixed=False),
    NTKMixed(1),
    Llama3(1, 1, 4, 1024),
    Proportional(),
    Power(0),
    ABF(10000),
    LongRope([1.0] * 64, [1.0] * 64, factor=1.0),
    DynamicYaRN(),
    Grid(1),
    Truncated(keep_above=1e-9),
]


@pytest.mark.parametrize("scaling", IDENTITIES, ids=str)
def test_factor_one_is_the_plain_rotation(scaling):
    rope = rope_of(scaling)
    torch.testing.assert_close(rope.inv_freq, rope_of(None).inv_freq, rtol=1e-14, atol=0)
    assert rope.attention_factor == 1 and rope.softmax_scale_factor == 1


@pytest.mark.parametrize(
    "make",
    [Linear, NTK, Su, NTKMixed, YaRN, NTKByParts, lambda f: Llama3(f, 1, 4, 1024)],
)
def test_larger_factors_never_turn_faster(make):
    tables = [rope_of(make(factor)).inv_freq for factor in (1, 2, 8, 64)]
    for slower, faster in zip(tables[1:], tables):
        assert (slower <= faster * (1 + 1e-15)).all() and (slower < faster).any()
    for factor, table in zip((1, 2, 8, 64), tables):
        assert (table >= rope_of(None).inv_freq / factor * (1 - 1e-14)).all()
