# SPDX-License-Identifier: BSD-3-Clause
"""Under a FakeTensorMode, as tools use it to plan memory: shapes without numbers, and nothing of it
stays in what is kept between calls."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

import longattn
from longattn import Causal, LogN, RotaryEmbedding, rope

YARN = rope.YaRN(4.0, original_max_position_embeddings=4)
NTK = rope.DynamicNTK(2.0)


def calls(base) -> dict:
    """Of x [batch, length, 2, 16]. `base` makes ropes and widths that no other test has kept."""
    plain = RotaryEmbedding(16, base)
    yarn = RotaryEmbedding(16, base, scaling=YARN)
    by_length = RotaryEmbedding(16, base, scaling=NTK, max_position_embeddings=4)
    sandwich = longattn.Sandwich(2 * (int(base) % 1000))
    return {
        "sandwich": lambda x: longattn.attention(x, x, x, Causal(), bias=sandwich),
        "slopes": lambda x: longattn.attention(x, x, x, Causal(), bias=longattn.Alibi([1.0, 2.0])),
        "apply_rotary": lambda x: longattn.apply_rotary(x, x, yarn, q_scale=LogN(4))[0],
        "rerope": lambda x: longattn.rerope_attention(x, x, x, by_length, window=2),
        "lm_infinite": lambda x: longattn.lm_infinite_attention(
            x, x, x, plain, window=2, sink_tokens=1, distance_ceiling=2, sink_logits=torch.zeros(2)
        ),
        "xpos": lambda x: longattn.xpos_attention(x, x, x, RotaryEmbedding.xpos(16, base)),
    }


@pytest.mark.parametrize("name", calls(10.0))
def test_fake_calls_have_the_shapes_of_real_ones_and_leave_nothing(name):
    real = torch.randn(1, 7, 2, 16)
    base = 7000.0 + 11 * list(calls(10.0)).index(name) + 1
    call = calls(base)[name]
    with FakeTensorMode() as mode:
        fake = call(mode.from_tensor(real))
    out = call(real)
    assert isinstance(fake, FakeTensor) and not isinstance(out, FakeTensor)
    assert fake.shape == out.shape and fake.dtype == out.dtype
    assert out.isfinite().all()


@pytest.mark.parametrize("scaling", [None, YARN, NTK], ids=str)
def test_a_rope_that_is_made_there_is_a_rope(scaling):
    def make():
        return RotaryEmbedding(16, 4242.0, scaling=scaling, max_position_embeddings=8)

    with FakeTensorMode():
        made = make()
    assert made == make() and torch.equal(made.inv_freq, make().inv_freq)
