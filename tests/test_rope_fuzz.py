# SPDX-License-Identifier: BSD-3-Clause
"""Fuzzing of dicts, configs and scalings: a rotation of finite numbers comes out, or a sentence."""

import math
import warnings

import hypothesis
import torch
from hypothesis import strategies as st

from longattn import RotaryEmbedding, rope
from longattn.rope.rope_parameters import KNOWN_KEYS, TYPES

LENGTHS = (0, 1, 5000, 10**18)

NUMBERS = st.one_of(
    st.sampled_from([0, 1, 2, 0.5, 1.0, 4096, 2.5, -1, 1e-30, 1e18, 1e300, 10**400, math.inf]),
    st.floats(allow_nan=True),
    st.integers(-5, 2**70),
)
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.text(max_size=4),
    st.lists(NUMBERS, max_size=5),
    st.just([1.0] * 8),
    st.dictionaries(st.sampled_from(sorted(KNOWN_KEYS)), NUMBERS, max_size=3),
)
# Accepted by most fields, up to their limits.
FACTORS = st.one_of(st.sampled_from([1, 2.0, 16, 4096]), st.floats(1, 1e18))
COUNTS = st.one_of(st.sampled_from([1, 2, 64, 4096, 10**18]), st.integers(1, 10**18))
SMALL = st.one_of(st.sampled_from([1e-9, 0.5, 1.0]), st.floats(1e-9, 1e18))
LISTS = st.lists(SMALL, min_size=8, max_size=8)
FIELDS = {
    "short_factor": LISTS,
    "long_factor": LISTS,
    "truncate": st.booleans(),
    "original_max_position_embeddings": COUNTS,
    "partial_rotary_factor": st.sampled_from([1, 1.0, 0.5, 0.25]),
    "low_freq_factor": SMALL,
    "alpha": FACTORS,
}
DAMAGE = st.dictionaries(
    st.sampled_from([*sorted(KNOWN_KEYS), "mrope_section", "colour", "full_attention"]),
    st.one_of(ANYTHING, st.sampled_from([*TYPES, "su", "mrope", "axial"])),
    max_size=2,
)


@st.composite
def parameters(draw):
    """What a type asks for, and some of what it allows."""
    name = draw(st.sampled_from(sorted(TYPES)))
    kind = TYPES[name]
    optional = draw(st.sets(st.sampled_from(sorted(kind.optional)))) if kind.optional else ()
    keys = [*kind.required, *sorted(set(optional) - {"alpha"})]
    chosen = {key: draw(FIELDS.get(key, FACTORS), label=key) for key in keys}
    base = draw(st.floats(1, 1e18, exclude_min=True), label="rope_theta")
    return {"rope_type": name, "rope_theta": base, **chosen}


@st.composite
def damaged_parameters(draw):
    flat = {**draw(parameters()), **draw(DAMAGE)}
    if draw(st.sampled_from([False, False, True]), label="nested"):
        return {"full_attention": flat, "sliding_attention": draw(parameters()), **draw(DAMAGE)}
    return flat


@st.composite
def damaged_config(draw):
    config = {"hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 4096}
    config[draw(st.sampled_from(["rope_parameters", "rope_scaling"]))] = draw(damaged_parameters())
    names = ("head_dim", "num_attention_heads", "rotary_pct", "layer_types", "rope_theta")
    names += ("original_max_position_embeddings", "max_position_embeddings", "per_layer_config")
    names += ("rope_interleave", "rope_local_base_freq", "text_config", "rope_scaling")
    return {**config, **draw(st.dictionaries(st.sampled_from(names), ANYTHING, max_size=2))}


def assert_sound_or_sentence(call):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one, again = call(), call()
    except (TypeError, ValueError) as error:
        hypothesis.event("refused")
        assert type(error) in (TypeError, ValueError) and len(str(error).split()) > 4
        return
    hypothesis.event(f"accepted {type(one.scaling).__name__}")
    for table in [one.inv_freq, *map(one.inv_freq_for, LENGTHS)]:
        assert table.shape == (one.rotary_dim // 2,) and table.dtype == torch.float64
        assert torch.isfinite(table).all() and (table >= 0).all()
    factors = [one.attention_factor, *map(one.attention_factor_for, LENGTHS)]
    assert all(math.isfinite(factor) and factor > 0 for factor in factors)
    assert math.isfinite(one.softmax_scale_factor) and one.softmax_scale_factor > 0
    assert one == again and hash(one) == hash(again)


LAYER_TYPES = st.sampled_from(["full_attention", None, "other"])


@hypothesis.settings(max_examples=400)
@hypothesis.given(damaged_parameters(), LAYER_TYPES)
def test_parameters(given, layer_type):
    told = {"head_dim": 16, "max_position_embeddings": 4096}
    assert_sound_or_sentence(lambda: RotaryEmbedding.from_hf(given, layer_type, **told))


@hypothesis.settings(max_examples=400)
@hypothesis.given(damaged_config(), LAYER_TYPES)
def test_configs(config, layer_type):
    assert_sound_or_sentence(lambda: RotaryEmbedding.from_hf(config, layer_type))


@hypothesis.settings(max_examples=200)
@hypothesis.given(parameters(), st.sampled_from([16, 18, 32]), st.one_of(st.just(16), ANYTHING))
def test_parameters_as_scaling(given, head_dim, rotary_dim):
    base = given.pop("rope_theta")
    assert_sound_or_sentence(
        lambda: RotaryEmbedding(
            head_dim, base, scaling=given, max_position_embeddings=64, rotary_dim=rotary_dim
        )
    )


@hypothesis.settings(max_examples=100)
@hypothesis.given(ANYTHING, st.one_of(st.just(1e4), ANYTHING), ANYTHING, ANYTHING)
def test_arguments(head_dim, base, length, scale_base):
    head_dim = head_dim if isinstance(head_dim, (str, bool)) else 16
    assert_sound_or_sentence(
        lambda: RotaryEmbedding(
            head_dim, base, max_position_embeddings=length, xpos_scale_base=scale_base
        )
    )


EXPONENTS = st.one_of(st.sampled_from([0, 0.5, 1]), st.floats(0, 1e18))
RAMPS = {
    "original_max_position_embeddings": COUNTS,
    "beta_fast": SMALL,
    "beta_slow": SMALL,
    "ramp": st.sampled_from(["index", "rotations"]),
}
OWN = st.one_of(
    st.builds(rope.NTK, FACTORS),
    st.builds(rope.Su, FACTORS, st.booleans()),
    st.builds(rope.NTKMixed, FACTORS, EXPONENTS),
    st.builds(rope.Power, EXPONENTS, factor=FACTORS),
    st.builds(rope.Truncated, COUNTS, factor=FACTORS, exponent=EXPONENTS),
    st.builds(rope.Grid, COUNTS, of=st.builds(rope.Linear, FACTORS)),
    st.builds(dict, kind=st.just(rope.NTKByParts), factor=FACTORS, **RAMPS),
    st.builds(dict, kind=st.just(rope.YaRN), factor=FACTORS, mscale_all_dim=EXPONENTS, **RAMPS),
    st.builds(dict, kind=st.just(rope.DynamicYaRN), finetuned=st.booleans(), hold=COUNTS, **RAMPS),
)


@hypothesis.settings(max_examples=400)
@hypothesis.given(OWN, st.floats(1, 1e18, exclude_min=True), st.sampled_from([4, 16, 256]))
def test_own_scalings_of_any_size(own, base, head_dim):
    def call():
        fields = dict(own) if isinstance(own, dict) else None
        scaling = own if fields is None else fields.pop("kind")(**fields)
        return RotaryEmbedding(head_dim, base, scaling=scaling, max_position_embeddings=4096)

    assert_sound_or_sentence(call)
