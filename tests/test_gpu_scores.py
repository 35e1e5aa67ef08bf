# SPDX-License-Identifier: BSD-3-Clause
"""Biases, softcap and sink logits on a GPU: the cases of the emulator, real lengths, patterns."""

import pytest
import torch

import gpu_support
import inputs
import longattn
import test_scores
from cases import Case
from gpu_support import on_gpu
from longattn import reference
from longattn.masks import Causal, Window
from test_scores import EMULATED, HEADS, PATTERNS

pytestmark = gpu_support.marks

DTYPES = (torch.bfloat16, torch.float16)


@pytest.fixture
def attention_on_gpu(monkeypatch):
    """What test_scores.check calls as ours; the reference stays where it is."""
    monkeypatch.setattr(longattn, "attention", on_gpu(longattn.attention))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", EMULATED, ids=str)
@pytest.mark.parametrize(
    "bias, softcap, sinks",
    [
        *((name, None, False) for name in test_scores.BIASES),
        (None, 2.5, False),
        (None, None, True),
        ("kerple log", 5.0, True),
    ],
)
def test_case(attention_on_gpu, case, bias, softcap, sinks, dtype):
    test_scores.check(case, bias, softcap, sinks, dtype, grain=8)


REAL = [
    Case("causal", Causal(), 1100, q_heads=HEADS, kv_heads=2, head_dim=128),
    Case("window", Window(300, sink_tokens=70), 1300, q_heads=HEADS, kv_heads=1, head_dim=64),
    Case("packed", Causal(), q_lengths=(700, 0, 1, 900), q_heads=HEADS, head_dim=64),
    # A share has more sequences than a block looks at together.
    Case("many packed", Causal(), q_lengths=(70, 0) + (1, 5) * 600, q_heads=HEADS, head_dim=64),
]


@pytest.mark.parametrize("case", REAL, ids=str)
@pytest.mark.parametrize("bias", ["alibi learned", "table, two sides"])
def test_real_length(attention_on_gpu, case, bias):
    test_scores.check(case, bias, 9.0, True, torch.bfloat16, grain=8)


@pytest.mark.parametrize("scale", [-0.3, 0.0])
def test_other_scales(attention_on_gpu, scale):
    case = EMULATED[0]
    test_scores.check(case, "alibi", 2.0, True, torch.float16, grain=8, softmax_scale=scale)


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns(name):
    case = Case("pattern", Causal(), 133, 140, q_heads=4, kv_heads=2)
    tensors = inputs.qkv(case, torch.bfloat16, grain=8)
    ours = test_scores.two_calls(on_gpu(PATTERNS[name](longattn)), tensors)
    exact = test_scores.two_calls(PATTERNS[name](reference), [x.double() for x in tensors])
    for actual, expected in zip(ours, exact, strict=True):
        largest = max(1.0, expected[expected.isfinite()].abs().amax().item())
        torch.testing.assert_close(actual.double(), expected.double(), rtol=0, atol=0.02 * largest)
