# SPDX-License-Identifier: BSD-3-Clause
"""RotaryEmbedding as a value: frozen, hashable, picklable, the same in every mode of torch."""

import copy
import dataclasses
import math
import pickle
import subprocess
import sys

import pytest
import torch

import longattn
from longattn import RotaryEmbedding
from longattn.rope import DynamicNTK, DynamicYaRN, Grid, Linear, LongRope, YaRN

LONGROPE = LongRope([1.0] * 8, [4.0] * 8, original_max_position_embeddings=32, factor=4)
VALUES = [
    RotaryEmbedding(16),
    RotaryEmbedding(16, 5e5, scaling=Linear(4), interleaved=True),
    RotaryEmbedding(16, rotary_dim=8, scaling=YaRN(4.0), max_position_embeddings=64),
    RotaryEmbedding(16, scaling=LONGROPE),
    RotaryEmbedding(16, scaling=DynamicYaRN(), max_position_embeddings=64),
    RotaryEmbedding(16, scaling=Grid(8, of=Linear(2))),
    RotaryEmbedding.xpos(16),
]


def test_the_plain_table():
    rope = RotaryEmbedding(128)
    expected = [10000.0 ** (-2 * i / 128) for i in range(64)]
    assert rope.inv_freq.dtype == torch.float64 and rope.inv_freq.device.type == "cpu"
    assert rope.inv_freq.tolist() == pytest.approx(expected, rel=1e-15)
    assert (rope.attention_factor, rope.softmax_scale_factor) == (1.0, 1.0)
    assert not rope.depends_on_length and rope.xpos_log_growth is None
    assert (rope.rotary_dim, rope.base, rope.interleaved) == (128, 10000.0, False)


def test_partial_rotation_counts_over_the_rotated_dimensions():
    assert torch.equal(RotaryEmbedding(80, rotary_dim=32).inv_freq, RotaryEmbedding(32).inv_freq)


@pytest.mark.parametrize("rope", VALUES, ids=repr)
def test_equal_by_value(rope):
    again = RotaryEmbedding(**{f.name: getattr(rope, f.name) for f in dataclasses.fields(rope)})
    others = [other for other in VALUES if other is not rope]
    for twin in (again, copy.copy(rope), copy.deepcopy(rope), pickle.loads(pickle.dumps(rope))):
        assert twin == rope and hash(twin) == hash(rope) and twin not in others
        assert torch.equal(twin.inv_freq, rope.inv_freq)
        assert twin.attention_factor == rope.attention_factor
    assert len({rope, again, *VALUES}) == len(VALUES)


@pytest.mark.parametrize("rope", VALUES, ids=repr)
def test_nothing_can_be_changed(rope):
    before = rope.inv_freq
    for name in [field.name for field in dataclasses.fields(rope)] + ["inv_freq", "_inv_freq"]:
        with pytest.raises(AttributeError):
            setattr(rope, name, 1)
    rope.inv_freq.zero_()
    rope.inv_freq_for(3).zero_()
    assert torch.equal(rope.inv_freq, before) and (before > 0).all()


def test_lists_given_to_a_scaling_are_copied():
    factors = [1.0] * 8
    scaling = LongRope(factors, factors, original_max_position_embeddings=32, factor=4)
    factors[0] = 100.0
    assert scaling.short_factor == (1.0,) * 8 and hash(scaling) == hash(copy.copy(scaling))


def test_an_integer_base_is_the_same_value():
    assert RotaryEmbedding(16, 10000) == RotaryEmbedding(16)
    assert hash(RotaryEmbedding(16, 10000)) == hash(RotaryEmbedding(16))


def test_changed_copies():
    rope = RotaryEmbedding(16, max_position_embeddings=64)
    assert dataclasses.replace(rope, scaling=Linear(2)).inv_freq[0] == 0.5
    assert rope.scaling is None


def test_neither_device_nor_dtype_nor_mode_of_torch_matter():
    def made(rope):
        return RotaryEmbedding(**{f.name: getattr(rope, f.name) for f in dataclasses.fields(rope)})

    torch.set_default_dtype(torch.float16)
    try:
        with torch.device("meta"), torch.inference_mode():
            odd = [made(rope) for rope in VALUES]
            lengths = [rope.inv_freq_for(1000) for rope in odd]
    finally:
        torch.set_default_dtype(torch.float32)
    for rope, plain, table in zip(odd, VALUES, lengths):
        assert torch.equal(rope.inv_freq, plain.inv_freq)
        assert torch.equal(table, plain.inv_freq_for(1000))
        weight = torch.ones(len(rope.inv_freq), dtype=torch.float64, requires_grad=True)
        (weight * rope.inv_freq).sum().backward()  # autograd may save the table
        assert torch.equal(weight.grad, plain.inv_freq)


def test_lengths_choose_the_table():
    dynamic = RotaryEmbedding(16, scaling=DynamicNTK(2.0), max_position_embeddings=64)
    assert dynamic.depends_on_length and not RotaryEmbedding(16).depends_on_length
    for length in (0, 1, 64):
        assert torch.equal(dynamic.inv_freq_for(length), RotaryEmbedding(16).inv_freq)
    assert dynamic.inv_freq_for(65)[-1] < RotaryEmbedding(16).inv_freq[-1]
    rope = RotaryEmbedding(16, scaling=LONGROPE)
    assert torch.equal(rope.inv_freq_for(33), rope.inv_freq_for(32) / 4)
    assert torch.equal(rope.inv_freq, rope.inv_freq_for(32))
    growing = RotaryEmbedding(16, scaling=DynamicYaRN(), max_position_embeddings=64)
    assert growing.attention_factor_for(64) == 1
    assert growing.attention_factor_for(640) == pytest.approx(0.1 * math.log(10) + 1, rel=1e-15)


def test_xpos_growth():
    rope = RotaryEmbedding.xpos(128)
    zeta = [(2 * i + 0.4 * 128) / (1.4 * 128) for i in range(64)]
    expected = [math.log(value) / 512 for value in zeta]
    assert rope.xpos_log_growth.tolist() == pytest.approx(expected, rel=1e-13)
    assert zeta[0] == pytest.approx(0.2857, abs=5e-5)  # the worked number
    assert (rope.xpos_log_growth < 0).all() and rope.xpos_log_growth.dtype == torch.float64
    assert rope.interleaved and rope.xpos_scale_base == 512
    assert torch.equal(rope.inv_freq, RotaryEmbedding(128).inv_freq)
    halves = RotaryEmbedding.xpos(64, scale_base=1024, interleaved=False)
    assert not halves.interleaved
    assert halves.xpos_log_growth[0].item() == pytest.approx(math.log(0.4 / 1.4) / 1024, rel=1e-13)


@pytest.mark.parametrize("make", [lambda factor: YaRN(factor), Linear, lambda _: None])
def test_compiled_functions_take_it_as_a_value(make):
    """fullgraph: nothing of it breaks the graph. Tables flow: another rotation needs no graph."""

    def scale(x, rope):
        return x * rope.inv_freq.float() * rope.attention_factor * rope.inv_freq_for(len(x)).float()

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(scale, backend="aot_eager", fullgraph=True)
    for factor in (1, 2, 3):
        for length in (3, 5):
            rope = RotaryEmbedding(16, scaling=make(factor), max_position_embeddings=64)
            x = torch.randn(length, 8)
            torch.testing.assert_close(compiled(x, rope), scale(x, rope), rtol=0, atol=0)
    assert graphs() <= 3  # lengths and attention_factor become variables on their first change


@pytest.mark.parametrize("scaling", [DynamicNTK(2.0), DynamicYaRN(), LONGROPE], ids=str)
def test_compiled_functions_follow_the_length(scaling):
    rope = RotaryEmbedding(16, scaling=scaling, max_position_embeddings=32)

    def scale(x):
        return x * rope.inv_freq_for(len(x)).float() * rope.attention_factor_for(len(x))

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(scale, backend="aot_eager", fullgraph=True)
    for length in (3, 4, 5, 32, 33, 50, 99, 100, 101):
        x = torch.randn(length, 8)
        torch.testing.assert_close(compiled(x), scale(x))
    if not isinstance(scaling, DynamicYaRN):  # torch specialises the logarithm of a length
        assert graphs() == 3  # the first length, all up to the trained one, all beyond


def graphs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def test_made_under_inference_mode_and_compiled_for_training():
    with torch.inference_mode():
        rope = RotaryEmbedding(16)
    weight = torch.ones(8, dtype=torch.float64, requires_grad=True)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: x * rope.inv_freq, backend="aot_eager", fullgraph=True)
    compiled(weight).sum().backward()
    assert torch.equal(weight.grad, rope.inv_freq)


def test_a_module_may_hold_one():
    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rope = RotaryEmbedding(16)

        def forward(self, x):
            return x * self.rope.inv_freq.float()

    layer, x = Layer(), torch.randn(3, 8)
    assert layer.state_dict() == {}  # nothing to save: it follows from the config
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x), rtol=0, atol=0)


def test_public_names():
    assert longattn.RotaryEmbedding is longattn.rope.RotaryEmbedding
    for name in longattn.rope.__all__:
        assert getattr(longattn.rope, name).__doc__


def test_longattn_does_not_import_transformers():
    code = """if True:
        import sys
        import longattn
        longattn.RotaryEmbedding.from_hf({"rope_type": "linear", "factor": 2.0}, head_dim=64)
        assert "transformers" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)
