# SPDX-License-Identifier: BSD-3-Clause
"""apply_rotary and rotate against the reference and the formulas."""

from fractions import Fraction

import pytest
import torch

import inputs
import longattn
import rotary_cases
from longattn import LogN, RotaryEmbedding, reference
from longattn.rope import YaRN
from longattn.rotary import PositionMap, rotate, turns
from rotary_cases import CASES, FAR, FARTHEST, Rotation

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
HALVES = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case_in_float64(case):
    rotary_cases.compare(case, torch.float64)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case_in_float32(case):
    rotary_cases.compare(case, torch.float32)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case_in_16_bits(case):
    rotary_cases.compare(case, HALVES[CASES.index(case) % 2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_farthest_positions(dtype):
    rotary_cases.compare(FARTHEST, dtype)


def test_the_farthest_positions_in_float64():
    case = FARTHEST
    tensors = rotary_cases.tensors_of(case, torch.float64)
    ours = rotary_cases.call(case, tensors, torch.float64, False)
    theirs = rotary_cases.call(case, tensors, torch.float64, True)
    for our, their in zip(ours, theirs):
        torch.testing.assert_close(our, their, rtol=0, atol=1e-11)


# Angles


def test_turns_are_right_to_100_bits():
    """pi to 60 digits, from a book."""
    pi = Fraction(314159265358979323846264338327950288419716939937510582097494459, 10**62)
    for frequency in (
        1.0,
        1e-4,
        0.3713,
        5e-324,
        2.5,
        1e-300,
        *RotaryEmbedding(64).inv_freq.tolist(),
    ):
        high, low = turns.turns_of(frequency)
        truth = Fraction(frequency) / (2 * pi)
        assert high == float(truth)
        if frequency > 1e-200:  # else the lower half is not a normal number
            error = Fraction(high) + Fraction(low) - truth
            assert abs(error) <= truth / 2**100, frequency
    assert turns.turns_of(0.0) == (0.0, 0.0)


def largest_angle_error(dtype, positions) -> float:
    """Of cos and sin, read off the vector (1, 0) of every pair."""
    rope = RotaryEmbedding(128)
    q = torch.zeros(1, len(positions), 1, 128, dtype=dtype)
    q[..., :64] = 1
    positions = torch.tensor(positions)
    ours, _ = longattn.apply_rotary(q, q, rope, positions)
    theirs, _ = reference.apply_rotary(q.double(), q.double(), rope, positions)
    return (ours.double() - theirs).abs().max().item()


@pytest.mark.parametrize(
    "positions",
    [
        list(range(300)),
        [2**power + offset for power in range(10, 51, 4) for offset in (-1, 0, 1)],
        [FAR + i for i in range(50)],
        [-(2**power) - 3 for power in range(0, 51, 5)],
    ],
    ids=("small", "powers", "far", "negative"),
)
def test_cosines_and_sines_are_right_to_the_dtype(positions):
    assert largest_angle_error(torch.float64, positions) <= 9e-16
    assert largest_angle_error(torch.float32, positions) <= 1e-7
    assert largest_angle_error(torch.bfloat16, positions) <= 2**-9 + 1e-7
    assert largest_angle_error(torch.float16, positions) <= 2**-12 + 1e-7


def test_scores_depend_on_the_distance_alone():
    rope = RotaryEmbedding(32)
    q, k = (inputs.random((1, 20, 2, 32), torch.float64, name) for name in "qk")

    def scores(start):
        new_q, new_k = longattn.apply_rotary(q, k, rope, torch.arange(20) + start)
        return torch.einsum("bihd,bjhd->bhij", new_q, new_k)

    near = scores(0)
    for start in (1, 1000, 2**31, 2**40, 2**50, -(2**45)):
        torch.testing.assert_close(scores(start), near, rtol=0, atol=1e-12)


def test_xpos_scores_decay_and_do_not_depend_on_the_centre():
    rope = RotaryEmbedding.xpos(16)
    q, k = (inputs.random((1, 40, 1, 16), torch.float64, "xpos", name) for name in "qk")
    positions = torch.arange(40) * 100
    results = [
        rotate(q, k, rope, positions, [(PositionMap(), PositionMap())], xpos_centre=centre)[0]
        for centre in (None, 0, 777.5)
    ]
    results.append(longattn.apply_rotary(q, k, rope, positions + 10**6))
    scores = [torch.einsum("bihd,bjhd->bhij", *pair) for pair in results]
    for other in scores[1:]:
        torch.testing.assert_close(other, scores[0], rtol=1e-9, atol=1e-12)
    # From the definition: sum_i Re[q_i conj(k_i) e^(i d theta_i)] zeta_i^(d / scale_base)
    d = 100.0 * (30 - 7)
    q_row, k_row = (torch.view_as_complex(x[0, n, 0].clone().reshape(8, 2))
                    for x, n in ((q, 30), (k, 7)))  # fmt: skip
    zeta = (2 * torch.arange(8, dtype=torch.float64) + 0.4 * 16) / (1.4 * 16)
    turned = q_row * k_row.conj() * torch.polar(zeta ** (d / 512), d * rope.inv_freq)
    assert abs(turned.real.sum().item() - scores[0][0, 0, 30, 7].item()) < 1e-12


def test_the_key_bias_does_not_cancel():
    """Under RoPE it shifts the scores of a row by different amounts; without, by one."""
    q, k = (inputs.random((1, 9, 1, 8), torch.float64, "bias", name) for name in "qk")
    bias = inputs.random((1, 8), torch.float64, "bias")

    def shift(inv_freq_is_zero):
        rope = RotaryEmbedding(8, base=1e18 if inv_freq_is_zero else 10.0)
        positions = torch.zeros(9, dtype=torch.int64) if inv_freq_is_zero else None
        scores = [
            torch.einsum("bihd,bjhd->bhij", *longattn.apply_rotary(q, k, rope, positions, **more))
            for more in (dict(k_bias=bias), {})
        ]
        return scores[0] - scores[1]

    assert (shift(True) - shift(True)[..., :1]).abs().max() < 1e-12
    assert (shift(False) - shift(False)[..., :1]).abs().max() > 0.1


def test_norms_are_taken_before_the_attention_factor():
    rope = RotaryEmbedding(16, scaling=YaRN(16.0, original_max_position_embeddings=64))
    q, k = (inputs.random((1, 9, 2, 16), torch.float64, "norms", name) for name in "qk")
    new_q, new_k = longattn.apply_rotary(q, k, rope, key_norm="both", q_scale=3.0)
    factor = rope.attention_factor
    assert factor > 1.2
    torch.testing.assert_close(new_q.norm(dim=-1), torch.full((1, 9, 2), 3 * factor).double())
    torch.testing.assert_close(new_k.norm(dim=-1), torch.full((1, 9, 2), factor).double())


def test_vectors_of_zeros_stay_zero_and_have_finite_gradients():
    q = torch.zeros(1, 3, 2, 8, requires_grad=True)
    new_q, new_k = longattn.apply_rotary(q, q, RotaryEmbedding(8), key_norm="both")
    assert torch.equal(new_q, torch.zeros_like(new_q))
    (gradient,) = torch.autograd.grad((new_q.sum() + new_k.sum()) * 1e-12, q)
    assert gradient.isfinite().all()


def test_logn_is_that_of_the_definition():
    """i + 1 = 16384, N = 4096 gives 1.1666667."""
    q = torch.ones(1, 3, 1, 2, dtype=torch.float64)
    positions = torch.tensor([0, 4095, 16383])
    arguments = (q, q, RotaryEmbedding(2), (positions, positions))
    plain, _ = longattn.apply_rotary(*arguments)
    for scale, expected in (
        (LogN(4096), [1.0, 1.0, 7 / 6]),
        (LogN(4096, post_hoc=False), [0.0, 1.0, 7 / 6]),
    ):
        scaled, keys = longattn.apply_rotary(*arguments, q_scale=scale)
        expected = torch.tensor(expected, dtype=torch.float64)[:, None, None]
        torch.testing.assert_close(scaled, plain * expected)
        assert torch.equal(keys, plain)


def test_logn_goes_by_position_and_not_by_map():
    q = torch.ones(1, 1, 1, 2, dtype=torch.float64)
    positions = torch.tensor([16383])
    maps = [(PositionMap(0.0), PositionMap(0.0))]
    ((new_q, _),) = rotate(q, q, RotaryEmbedding(2), positions, maps, q_scale=LogN(4096))
    torch.testing.assert_close(new_q, q * 7 / 6)


# Maps


def test_a_reciprocal_scale_means_division():
    """49 * (1 / 49) is less than 1 in floating point; 49 // 49 is not."""
    rope = RotaryEmbedding(2)
    n, positions = 49, torch.tensor([0, 48, 49, 97, 98, 49 * 10**9])
    q = torch.ones(1, 6, 1, 2, dtype=torch.float64)
    floor = PositionMap(1 / n, floor=True)
    ((divided, _),) = rotate(q, q, rope, positions, [(floor, floor)])
    expected, _ = longattn.apply_rotary(q, q, rope, positions // n)
    torch.testing.assert_close(divided, expected, rtol=0, atol=1e-15)


def test_maps_are_rotations_of_their_own():
    case = Rotation("maps", maps=rotary_cases.CASES[-3].maps, batch=2, biases="qk", key_norm=True)
    tensors = rotary_cases.tensors_of(case, torch.float32)
    q, k, q_bias, k_bias = tensors.values()
    more = dict(q_bias=q_bias, k_bias=k_bias, key_norm=True)
    together = rotate(q, k, case.rope, None, case.maps, **more)
    for pair, position_maps in zip(together, case.maps):
        (alone,) = rotate(q, k, case.rope, None, [position_maps], **more)
        assert torch.equal(pair[0], alone[0]) and torch.equal(pair[1], alone[1])


@pytest.mark.parametrize("used", [(0,), (1,), (3,), (0, 3), (1, 2)], ids=str)
def test_some_results_may_be_unused(used):
    """Gradients come from what is used; a side that is not used has none."""
    q, k = (inputs.random((2, 9, 2, 16), torch.float64, name).requires_grad_() for name in "qk")
    maps = ((PositionMap(), PositionMap()), (PositionMap(0.5, 3.0), PositionMap(0.0)))
    for function in (rotate, rotary_cases.reference_rotary.rotate):
        pairs = function(q, k, RotaryEmbedding(16), None, maps)
        results = [result for pair in pairs for result in pair]
        loss = sum(results[i].square().sum() * (i + 1) for i in used)
        gradients = torch.autograd.grad(loss, (q, k), allow_unused=True)
        if function is rotate:
            ours = gradients
    for our, their in zip(ours, gradients):
        assert (our is None) == (their is None)
        if our is not None:
            torch.testing.assert_close(our, their, rtol=1e-12, atol=1e-12)


# In place


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "name", ["halves", "neighbours", "partial", "everything", "heads first", "xpos", "one query"]
)
def test_in_place_is_the_same_bit_by_bit(name, dtype):
    (case,) = [case for case in CASES if case.name == name]
    tensors = {n: t.detach() for n, t in rotary_cases.tensors_of(case, dtype).items()}
    expected = rotary_cases.call(case, tensors, dtype, False)
    results = rotary_cases.call(case, tensors, dtype, False, inplace=True)
    for result, given, right in zip(results, tensors.values(), expected):
        assert result is given and torch.equal(result, right)


def test_in_place_touches_nothing_but_the_tensors():
    storage = torch.full((1, 11, 4, 24), 7.0)
    q, k = storage[:, 1:10, 1:3, 4:20], storage[:, 1:10, 3:4, 4:20]
    longattn.apply_rotary(q, k, RotaryEmbedding(16), inplace=True)
    q.fill_(7.0)
    k.fill_(7.0)
    assert torch.equal(storage, torch.full_like(storage, 7.0))


# Determinism


@pytest.mark.parametrize("transposed", [False, True])
def test_any_number_of_threads_gives_the_same_bits(transposed):
    case = Rotation("threads", q_len=1500, q_heads=4, kv_heads=2, head_dim=32, batch=2,
                    biases="qk", key_norm=True, transposed=transposed)  # fmt: skip
    tensors = rotary_cases.tensors_of(case, torch.float32)
    given = rotary_cases.output_gradients(case, torch.float32)
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results = rotary_cases.results_of(case, tensors, torch.float32, False, given)
            found.append(results.outputs + results.gradients)
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other))


def test_large_results_are_those_of_small_calls():
    """More than caches hold: written past them."""
    rope = RotaryEmbedding(128)
    for dtype, transposed in ((torch.float32, False), (torch.bfloat16, True)):
        shape = (1, 2, 8500, 128) if transposed else (1, 8500, 2, 128)
        q = torch.randn(shape, generator=inputs.generator("large")).to(dtype)
        q = q.transpose(1, 2) if transposed else q
        k = q.flip(1)
        assert 2 * q.nbytes >= (2**24 if dtype == torch.float32 else 2**23)
        q, k = (torch.cat([x, x], 2) for x in (q, k)) if dtype != torch.float32 else (q, k)
        whole = longattn.apply_rotary(q, k, rope)
        for start in (0, 4000, 8499):
            rows = slice(start, start + 40)
            part = longattn.apply_rotary(q[:, rows], k[:, rows], rope, torch.arange(8500)[rows])
            assert all(torch.equal(a[:, rows], b) for a, b in zip(whole, part))
