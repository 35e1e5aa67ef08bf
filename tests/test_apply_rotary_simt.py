# SPDX-License-Identifier: BSD-3-Clause
"""The CUDA kernels of the rotary pre-pass, run by the emulator of tests/simt."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rotary_cases
from rotary_cases import CASES, COMPACT, FARTHEST, Rotation
from test_apply_rotary_fuzz import rotations, slack_of
from test_simt import SCHEDULES

DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def runs(case) -> bool:
    """Rows of 16 bytes are what the CUDA engine takes."""
    return case.head_dim % 8 == 0


# Each in one of the three types, those that fall to a type moving with the list.
@pytest.mark.parametrize("case", [case for case in CASES if runs(case)], ids=str)
def test_case(simt, case):
    rotary_cases.compare(case, DTYPES[CASES.index(case) % 3], grain=8, backend="simt")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", [case for case in COMPACT if runs(case)], ids=str)
def test_every_type(simt, case, dtype):
    rotary_cases.compare(case, dtype, grain=8, backend="simt")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_farthest_positions(simt, dtype):
    rotary_cases.compare(FARTHEST, dtype, grain=8, backend="simt")


def test_rows_of_16_bytes_and_no_more(simt):
    """In float32 these are 4 numbers, half of what a thread takes at a time."""
    for head_dim in (4, 12, 20):
        case = Rotation("narrow", head_dim=head_dim, q_heads=3, biases="qk", key_norm="both")
        rotary_cases.compare(case, torch.float32, grain=4, backend="simt")


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_any_schedule(simt, schedule):
    """No order of threads may change a bit."""
    case = Rotation("schedule", q_len=45, kv_len=70, q_heads=3, kv_heads=2, head_dim=48, batch=2,
                    rotary_dim=32, biases="qk", key_norm="both",
                    maps=rotary_cases.CASES[-3].maps)  # fmt: skip
    tensors = rotary_cases.tensors_of(case, torch.bfloat16, grain=8)
    given = rotary_cases.output_gradients(case, torch.bfloat16, grain=8)

    def bits(*settings):
        simt.configure(*settings)
        found = rotary_cases.results_of(case, tensors, torch.bfloat16, False, given, backend="simt")
        return found.outputs + found.gradients

    for ours, plain in zip(bits(*schedule), bits("round_robin", "lazy", 1)):
        assert torch.equal(ours, plain)


@pytest.mark.parametrize("name", ["halves", "partial, neighbours", "everything", "xpos"])
def test_in_place(simt, name):
    (case,) = [case for case in CASES if case.name == name]
    tensors = rotary_cases.tensors_of(case, torch.float16, grain=8)
    tensors = {name: tensor.detach() for name, tensor in tensors.items()}
    expected = rotary_cases.call(case, tensors, torch.float16, False, backend="simt")
    results = rotary_cases.call(case, tensors, torch.float16, False, backend="simt", inplace=True)
    for result, given_tensor, right in zip(results, tensors.values(), expected):
        assert result is given_tensor and torch.equal(result, right)


def test_many_slices_of_bias_gradients(simt):
    """More chunks of rows than slices, so that blocks walk over several."""
    case = Rotation("slices", q_len=9000, q_heads=1, head_dim=8, biases="qk", key_norm=True)
    rotary_cases.compare(case, torch.float32, grain=8, slack=2**-20, backend="simt")


def test_rows_that_are_not_aligned_are_refused(simt):
    case = Rotation("unaligned", head_dim=10)
    tensors = rotary_cases.tensors_of(case, torch.float16)
    with pytest.raises(ValueError, match="simt backend cannot read q .* multiple of 16 bytes"):
        rotary_cases.call(case, tensors, torch.float16, False, backend="simt")


@given(case=rotations(dims=st.integers(1, 18).map(lambda n: 8 * n)), dtype=st.sampled_from(DTYPES))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_rotation(simt, case, dtype):
    rotary_cases.compare(case, dtype, grain=8, slack=slack_of(case, dtype), backend="simt")
