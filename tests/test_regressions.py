# SPDX-License-Identifier: BSD-3-Clause
"""Faults that once were there, each in its smallest form."""

import math

import pytest
import torch

import longattn
from longattn import Causal, Window, backends, native


def qkv(rows=6, dtype=torch.float64, heads=2):
    generator = torch.Generator().manual_seed(3)
    shape = (1, rows, heads, 8)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for _ in range(3)
    ]


def test_second_derivative_of_a_linear_loss_raises():
    """Nothing that arrives requires a gradient here, so that torch's own check stays silent."""
    q, k, v = qkv()
    (dq,) = torch.autograd.grad(longattn.attention(q, k, v, Causal()).sum(), q, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives"):
        dq.square().sum().backward()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_nan_in_a_dilated_query_is_nan_in_its_lse(dtype):
    q, k, v = (tensor.detach() for tensor in qkv(12, dtype))
    q[0, 3] = math.nan
    out, lse = longattn.dilated_attention(q, k, v, [4, 8], [1, 2], return_lse=True)
    assert out[0, 3].isnan().all() and lse[0, :, 3].isnan().all()


@pytest.mark.parametrize("arriving", [math.nan, math.inf, -math.inf], ids=str)
def test_rows_that_see_nothing_swallow_what_arrives_at_their_lse(arriving):
    q, k, v = qkv()
    out, lse = longattn.attention(q, k[:, :3], v[:, :3], Causal(), return_lse=True)
    dlse = torch.where(lse == -math.inf, arriving, 1.0)
    for gradient in torch.autograd.grad((out, lse), (q, k, v), (torch.ones_like(out), dlse)):
        assert gradient.isfinite().all()


def test_autocast_reaches_a_backend_for_halves_alone():
    """The dtype that counts is the one that autocast will bring."""
    halves = backends.Backend("halves", "cpu", native.cpu, (torch.bfloat16,), 256)
    backends.register(halves)
    q, k, v = qkv(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = longattn.attention(q, k, v, Window(3), backend="halves")
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize(
    "change",
    [
        lambda q, k, v: (q, k, v[:, :4]),
        lambda q, k, v: (q, k[:, :, :1].expand(-1, -1, 3, -1), v[:, :, :1].expand(-1, -1, 3, -1)),
        lambda q, k, v: (q.transpose(1, 3).contiguous().transpose(1, 3), k, v),
        lambda q, k, v: tuple(torch.zeros(1, 6, 2, 300, dtype=q.dtype) for _ in range(3)),
    ],
    ids=["values too short", "odd heads", "columns apart", "rows too long"],
)
def test_the_op_itself_keeps_native_code_inside_its_tensors(change):
    tensors = change(*(tensor.detach() for tensor in qkv()))
    with pytest.raises(ValueError):
        torch.ops.longattn.attention(
            *tensors, *(None,) * 4, [1, -1, 0, 0], [], [], 1.0, 0.0, 0, 0, False, "cpu"
        )


def test_branches_of_the_op_are_looked_at():
    q, k, v = (tensor.detach() for tensor in qkv())
    with pytest.raises(ValueError, match="branches"):
        torch.ops.longattn.attention(
            q, k, v, *(None,) * 4, [1, -1, 0, 0], [0, 4, 0], [], 1.0, 0.0, 0, 0, False, "cpu"
        )
