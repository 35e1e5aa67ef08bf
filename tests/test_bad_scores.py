# SPDX-License-Identifier: BSD-3-Clause
"""Bad biases, softcaps and sink logits: a sentence with the value and what is accepted."""

import math

import numpy
import pytest
import torch

import longattn
from longattn.masks import Causal
from rotated import RecordedNames
from test_bad_input import PATTERNS

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize("function", PATTERNS)
@pytest.mark.parametrize(
    "arguments, exception, says",
    [
        ({"bias": torch.zeros(4)}, TypeError, "Alibi.*Tensor"),
        ({"bias": longattn.Alibi([0.5, 0.25])}, ValueError, r"4 heads of q, got shape \(2,\)"),
        ({"bias": longattn.RelativeBias(torch.zeros(3, 9))}, ValueError, "4 heads of q, got 3"),
        ({"bias": longattn.Kerple([1.0] * 4, [1.0] * 3)}, ValueError, r"r2 .*got shape \(3,\)"),
        ({"bias": longattn.Kerple([1.0] * 4, [1, 1, 1, -2])}, ValueError, "r2 of Kerple.*got -2"),
        ({"softcap": 0.0}, ValueError, r"softcap must be in \[0.0001, 100000000.0\], got 0.0"),
        ({"softcap": "50"}, TypeError, "softcap .*'50'"),
        ({"softcap": float("inf")}, ValueError, "softcap must be in .*got inf"),
        ({"sink_logits": torch.zeros(2)}, ValueError, r"\[4\].*\(2,\)"),
        ({"sink_logits": torch.zeros(4, dtype=torch.int64)}, TypeError, "floating point.*int64"),
        ({"sink_logits": 0.0}, TypeError, "torch.Tensor, got float"),
        ({"sink_logits": torch.tensor([0, 1, INF, 2.0])}, ValueError, "finite.*got inf at head 2"),
        ({"sink_logits": torch.tensor([NAN, 1, 0, 2])}, ValueError, "finite.*got nan at head 0"),
        ({"sink_logits": torch.zeros(4, device="meta")}, ValueError, "cpu, got meta"),
    ],
)
def test_wrong_score_arguments(function, arguments, exception, says):
    """They are refused before anything is rotated or attended to."""
    with RecordedNames() as names, pytest.raises(exception, match=says):
        PATTERNS[function](**arguments)
    assert set(names) <= {"attention"}  # which looks at values itself, before it begins


ONE_A_HEAD = "must be a tensor \\[q_heads\\] or a list of numbers, one a head"


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: longattn.Kerple(torch.ones(2), torch.ones(2), kind="lin"), "'log' or 'power'"),
        (lambda: longattn.Sandwich(7), "even and at least 2, got 7"),
        (lambda: longattn.RelativeBias(torch.zeros(4)), r"\[q_heads, distances\], got \(4,\)"),
        (lambda: longattn.RelativeBias(torch.zeros(4, 0)), r"at least one distance.*\(4, 0\)"),
        (lambda: longattn.RelativeBias(torch.zeros(4, 3), origin=3), r"\[0, 3\).*got 3"),
        (lambda: longattn.Alibi("abcd"), f"slopes {ONE_A_HEAD}, got 'abcd'"),
        (lambda: longattn.Alibi([1, None]), f"slopes {ONE_A_HEAD}, got None among"),
        (lambda: longattn.Alibi([1, True]), f"slopes {ONE_A_HEAD}, got True among"),
        (lambda: longattn.Alibi([1, NAN]), f"slopes {ONE_A_HEAD}, all finite, got nan"),
        (lambda: longattn.Alibi(torch.ones(2, 3)), rf"slopes {ONE_A_HEAD}.*got shape \(2, 3\)"),
        (lambda: longattn.Alibi(torch.ones(2).int()), f"slopes {ONE_A_HEAD}.*torch.int32"),
        (lambda: longattn.Kerple("x", [1.0]), f"r1 {ONE_A_HEAD}, got 'x'"),
        (lambda: longattn.Kerple([1.0], 0.5), f"r2 {ONE_A_HEAD}, got 0.5"),
        (lambda: longattn.Kerple([1.0], None), f"r2 {ONE_A_HEAD}, got None"),
        (lambda: longattn.Alibi(distance_ceiling=2.5), "distance_ceiling must be an integer.*2.5"),
        (lambda: longattn.Alibi(window=4), "window=4 needs a distance_ceiling"),
        (lambda: longattn.Alibi(distance_ceiling=-1), "at least 0, got -1"),
        (lambda: longattn.RelativeBias.from_t5(torch.zeros(4, 32), max_distance=9), "16.*got 9"),
    ],
)
def test_wrong_biases(make, says):
    with pytest.raises((TypeError, ValueError), match=says):
        make()


def test_numbers_of_numpy_are_numbers():
    q = torch.randn(1, 9, 2, 8, dtype=torch.float64)
    for plain, of_numpy in (
        (longattn.Alibi([0.5, 2.0]), longattn.Alibi([numpy.float32(0.5), numpy.float64(2)])),
        (
            longattn.Alibi(distance_ceiling=4, window=3),
            longattn.Alibi(distance_ceiling=numpy.int64(4), window=numpy.int8(3)),
        ),
        (longattn.Kerple([1, 2], [3, 4]), longattn.Kerple(tuple(numpy.float32([1, 2])), [3, 4])),
        (longattn.Sandwich(6), longattn.Sandwich(numpy.int64(6))),
        (
            longattn.RelativeBias(q[0, :5, :, 0].T, origin=2),
            longattn.RelativeBias(q[0, :5, :, 0].T, origin=numpy.int64(2)),
        ),
        (
            longattn.RelativeBias.from_t5(q[0, :8, :, 0].T, max_distance=20),
            longattn.RelativeBias.from_t5(q[0, :8, :, 0].T, max_distance=numpy.int64(20)),
        ),
    ):
        ours, expected = (longattn.attention(q, q, q, Causal(), bias=b) for b in (of_numpy, plain))
        assert torch.equal(ours, expected)
