# SPDX-License-Identifier: BSD-3-Clause
"""Every scaling: against a plain loop of its formula, worked numbers, and its invariants."""

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

LENGTH = 4096  # max_position_embeddings of every rope here


def rope_of(scaling, head_dim=128, base=10000.0, **arguments):
    arguments = {"max_position_embeddings": LENGTH, **arguments}
    return RotaryEmbedding(head_dim, base, scaling=scaling, **arguments)


def ratios(scaling, **arguments):
    """Angles over those of the unscaled rotation."""
    return (rope_of(scaling, **arguments).inv_freq / rope_of(None, **arguments).inv_freq).tolist()


# Plain loops, one pair at a time: theta, i, d, base -> the scaled angle.


def plain_yarn(factor, *, fast=32, slow=1, truncate=True, length=LENGTH):
    def angle(theta, i, d, base):
        low, high = (
            d * math.log(length / (2 * math.pi * r)) / (2 * math.log(base)) for r in (fast, slow)
        )
        if truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, d - 1)
        share = min(max((i - low) / (high - low), 0), 1)
        return theta * (1 - share) + theta / factor * share

    return angle


def plain_rotations(factor, *, fast=32, slow=1):
    def angle(theta, i, d, base):
        kept = min(max((LENGTH * theta / (2 * math.pi) - slow) / (fast - slow), 0), 1)
        return theta / factor * (1 - kept) + theta * kept

    return angle


def plain_llama3(factor, low, high, length):
    def angle(theta, i, d, base):
        wavelength = 2 * math.pi / theta
        if wavelength < length / high:
            return theta
        if wavelength > length / low:
            return theta / factor
        smooth = (length / wavelength - low) / (high - low)
        return (1 - smooth) * theta / factor + smooth * theta

    return angle


def plain_truncated(keep, zero, constant, factor=1.0, exponent=0.0):
    def angle(theta, i, d, base):
        theta = theta / factor * (1 - i / (d / 2)) ** exponent
        return theta if theta >= keep else constant if theta >= zero else 0.0

    return angle


LONG = {
    "short_factor": [1 + i / 10 for i in range(32)],
    "long_factor": [1.0 + i for i in range(32)],
}
TWINS = {
    "linear": (Linear(3), lambda theta, i, d, base: theta / 3),
    "abf": (ABF(), lambda theta, i, d, base: 500000.0 ** (-2 * i / d)),
    "ntk": (NTK(3), lambda theta, i, d, base: (base * 3 ** (d / (d - 2))) ** (-2 * i / d)),
    "su": (Su(3), lambda theta, i, d, base: (base * 3) ** (-2 * i / d) * 3 ** (-2 / d)),
    "su old": (Su(3, fixed=False), lambda theta, i, d, base: (base * 3) ** (-2 * i / d)),
    "mixed": (
        NTKMixed(k=12, b=0.75),
        lambda theta, i, d, base: (
            theta * math.exp(-math.log(12) / (d / 2) ** 0.75 * (i + 1) ** 0.75)
        ),
    ),
    "yarn": (YaRN(4), plain_yarn(4)),
    "yarn exact": (YaRN(4, truncate=False), plain_yarn(4, truncate=False)),
    "yarn betas": (YaRN(4, beta_fast=16, beta_slow=2), plain_yarn(4, fast=16, slow=2)),
    "yarn short": (
        YaRN(4, original_max_position_embeddings=512),
        plain_yarn(4, length=512),
    ),
    "yarn rotations": (YaRN(4, ramp="rotations"), plain_rotations(4)),
    "by parts": (NTKByParts(4), plain_yarn(4)),
    "by parts rotations": (
        NTKByParts(4, ramp="rotations", beta_fast=20, beta_slow=3),
        plain_rotations(4, fast=20, slow=3),
    ),
    "dynamic yarn finetuned": (
        DynamicYaRN(finetuned=True, original_max_position_embeddings=512),
        plain_yarn(LENGTH / 512, length=512),
    ),
    "llama3": (Llama3(8, 1, 4, 1024), plain_llama3(8, 1, 4, 1024)),
    "llama3 default length": (Llama3(8, 2, 3), plain_llama3(8, 2, 3, LENGTH)),
    "proportional": (
        Proportional(0.3, factor=2),
        lambda theta, i, d, base: theta / 2 if i < int(0.3 * d // 2) else 0.0,
    ),
    "power": (
        Power(0.5, factor=2),
        lambda theta, i, d, base: theta / 2 * (1 - i / (d / 2)) ** 0.5,
    ),
    "truncated": (
        Truncated(2048),
        plain_truncated(2 * math.pi / 2048, math.pi / 8192, math.pi / 16384),
    ),
    "truncated default length": (
        Truncated(),
        plain_truncated(2 * math.pi / LENGTH, math.pi / (4 * LENGTH), math.pi / (8 * LENGTH)),
    ),
    "truncated after scale and power": (
        Truncated(keep_above=0.01, zero_below=0.002, constant=0.1, factor=2, exponent=0.4),
        plain_truncated(0.01, 0.002, 0.1, 2, 0.4),
    ),
    "longrope": (
        LongRope(**LONG, factor=8.0, original_max_position_embeddings=128),
        lambda theta, i, d, base: theta / LONG["short_factor"][i],
    ),
    "grid": (Grid(1024, of=Linear(3)), lambda theta, i, d, base: theta / 3 / 1024),
}
# A tuple factor depends on the dimension, so LongRoPE has one dimension only.
CASES = [
    (name, dim, base)
    for name in TWINS
    for dim in ([64] if name == "longrope" else [4, 6, 64, 128])
    for base in (10000.0, 500000.0)
]


@pytest.mark.parametrize("name, dim, base", CASES)
def test_scalings_are_their_formula(name, dim, base):
    scaling, plain = TWINS[name]
    rope = rope_of(scaling, dim, base)
    expected = [plain(base ** (-2 * i / dim), i, dim, base) for i in range(dim // 2)]
    assert rope.inv_freq.tolist() == pytest.approx(expected, rel=1e-12, abs=0)
    if name != "proportional":  # which is about all of the head
        partial = rope_of(scaling, dim + 10, base, rotary_dim=dim)
        assert torch.equal(partial.inv_freq, rope.inv_freq)


# Worked numbers, d=128 and base 10000 unless said.


def test_abf_number():
    assert ratios(ABF(500000.0))[63] == pytest.approx(0.02126, abs=5e-6)
    assert torch.equal(rope_of(ABF(5e5)).inv_freq, rope_of(None, base=5e5).inv_freq)


def test_dynamic_ntk_number():
    rope = rope_of(DynamicNTK(2.0))
    expected = [72195.86 ** (-2 * i / 128) for i in range(64)]
    assert rope.inv_freq_for(16384).tolist() == pytest.approx(expected, rel=1e-6)


def test_yarn_numbers():
    rope = rope_of(YaRN(16.0))
    found = ratios(YaRN(16.0))
    assert found[:21] == pytest.approx([1.0] * 21, rel=1e-14)
    assert found[46:] == pytest.approx([1 / 16] * 18, rel=1e-14)
    assert [found[i] for i in (21, 30, 45)] == pytest.approx([0.96394, 0.63942, 0.09856], abs=5e-6)
    assert rope.attention_factor == pytest.approx(1.2772588722, abs=5e-11)


def test_the_two_ramps_differ_by_two_thirds_at_most():
    index, rotations = ratios(YaRN(16.0)), ratios(YaRN(16.0, ramp="rotations"))
    differences = [abs(a - b) / a for a, b in zip(index, rotations)]
    assert max(differences) == pytest.approx(0.67, abs=0.005)
    assert differences.index(max(differences)) == 38


def test_longrope_numbers():
    lists = [1.0] * 64, [2.0] * 64
    rope = rope_of(LongRope(*lists, factor=32.0))
    assert rope.attention_factor == pytest.approx(1.1902380714, abs=5e-11)
    assert rope.attention_factor_for(5000) == rope.attention_factor  # in both editions
    derived = LongRope(*lists, original_max_position_embeddings=128)
    assert rope_of(derived).attention_factor == pytest.approx(
        math.sqrt(1 + math.log(32) / math.log(128)), rel=1e-14
    )
    assert rope_of(LongRope(*lists, factor=1.0)).attention_factor == 1
    assert rope_of(LongRope(*lists, attention_factor=1.5)).attention_factor == 1.5


def test_llama3_numbers():
    rope = rope_of(Llama3(8, 1, 4, 8192), base=5e5)
    assert rope.inv_freq[31].item() == pytest.approx(8.56751e-4, abs=5e-10)
    assert rope.inv_freq[63].item() == pytest.approx(3.06893e-7, abs=5e-13)


@pytest.mark.parametrize(
    "scaling, expected",
    [
        (NTK(8), [1, 0.96753, 0.35944, 0.125]),
        (Su(8), [0.96803, 0.93708, 0.35355, 0.125]),
        (NTKMixed(8), [0.8568, 0.78792, 0.25967, 0.125]),
        (NTKMixed(8, b=1), [0.96803, 0.93708, 0.35355, 0.125]),
        (NTKMixed(8, b=0), [0.125] * 4),
        (Linear(8), [0.125] * 4),
    ],
    ids=str,
)
def test_ntk_numbers(scaling, expected):
    found = ratios(scaling)
    assert [found[i] for i in (0, 1, 31, 63)] == pytest.approx(expected, abs=5.1e-6)


def test_ntk_interpolates_the_last_pair_exactly():
    for factor in (1.5, 8, 100):
        assert ratios(NTK(factor))[-1] == pytest.approx(1 / factor, rel=1e-13)
        assert ratios(Su(factor))[-1] == pytest.approx(1 / factor, rel=1e-13)
    assert ratios(Su(8, fixed=False))[-1] == pytest.approx(8 ** (-126 / 128), rel=1e-13)


def test_giraffe_numbers():
    table, plain = rope_of(Truncated(2048)).inv_freq, rope_of(None).inv_freq
    assert (table == plain).sum() == 41 and (table == 0).sum() == 9
    constant = table[(table != plain) & (table != 0)]
    assert len(constant) == 14
    assert constant.tolist() == pytest.approx([math.pi / 16384] * 14, rel=1e-15)
    assert math.pi / 16384 == pytest.approx(1.91748e-4, abs=5e-10)
    assert ratios(Power(0.7))[-1] == pytest.approx((2 / 128) ** 0.7, rel=1e-13)


# Temperature.


def test_yarn_attention_factors():
    def factor(**arguments):
        return rope_of(YaRN(40.0, **arguments)).attention_factor

    def magnitude(weight):
        return 0.1 * weight * math.log(40) + 1

    assert factor() == pytest.approx(magnitude(1), rel=1e-15)
    assert factor(attention_factor=1.5, mscale=1, mscale_all_dim=1) == 1.5
    assert factor(mscale=0.7, mscale_all_dim=1.0) == magnitude(0.7) / magnitude(1.0)
    for one_missing in (
        {"mscale": 0.7},
        {"mscale_all_dim": 0.7},
        {"mscale": 0, "mscale_all_dim": 1},
    ):
        assert factor(**one_missing) == magnitude(1)
    assert rope_of(NTKByParts(40.0)).attention_factor == 1


def test_the_softmax_hook_of_deepseek():
    hook = rope_of(YaRN(40.0, mscale=1.0, mscale_all_dim=1.0)).softmax_scale_factor
    assert hook == pytest.approx((0.1 * math.log(40) + 1) ** 2, rel=1e-15)
    assert rope_of(YaRN(40.0, mscale_all_dim=0.7)).softmax_scale_factor == pytest.approx(
        (0.07 * math.log(40) + 1) ** 2, rel=1e-15
    )
    for silent in (YaRN(40.0), YaRN(40.0, mscale=1.0), YaRN(40.0, mscale_all_dim=0), Linear(4)):
        assert rope_of(silent).softmax_scale_factor == 1


def test_grid_keeps_the_temperature():
    below = YaRN(40.0, mscale=0.7, mscale_all_dim=1.0)
    plain, grid = rope_of(below), rope_of(Grid(64, of=below))
    assert grid.attention_factor == plain.attention_factor != 1
    assert grid.softmax_scale_factor == plain.softmax_scale_factor != 1
