# SPDX-License-Identifier: BSD-3-Clause
"""What a GPU would meet first and the CPU engine forgives: odd addresses, borders that nobody read,
gradients of NaN where nothing was seen, and torch.compile looking into native code."""

import math
from unittest import mock

import pytest
import torch

import longattn
from longattn import backends, checks, native
from longattn.masks import Causal, Window

BFLOAT16 = torch.bfloat16


def qkv(q_len=20, kv_len=20, dtype=BFLOAT16, heads=2, dim=16):
    torch.manual_seed(7)
    return tuple(
        torch.randn(1, n, heads, dim).to(dtype).requires_grad_() for n in (q_len, kv_len, kv_len)
    )


def test_a_contiguous_gradient_at_an_odd_address(simt):
    tensors = qkv()
    out = longattn.attention(*tensors, Causal(), backend="simt")
    expected = torch.autograd.grad(out, tensors, torch.ones_like(out), retain_graph=True)
    odd = torch.ones(out.numel() + 1, dtype=out.dtype)[1:].view(out.shape)
    assert odd.is_contiguous() and odd.data_ptr() % 16
    for ours, theirs in zip(torch.autograd.grad(out, tensors, odd), expected):
        assert torch.equal(ours, theirs)


def test_an_empty_value_has_a_width_too(simt):
    q, k, v = qkv(kv_len=0)
    with pytest.raises(ValueError, match="padded to a multiple of 8"):
        longattn.attention(q, k, v[..., :5].contiguous(), Causal(), backend="simt")


def test_strides_of_dimensions_of_length_one_do_not_matter(simt):
    q, k, v = (tensor.detach() for tensor in qkv(20, 1))
    expected = longattn.attention(q, k, v, Causal(), backend="simt")
    strange = torch.randn(400).to(BFLOAT16).as_strided(k.shape, (400, 131, 16, 1)).copy_(k)
    assert torch.equal(longattn.attention(q, strange, v, Causal(), backend="simt"), expected)


@pytest.mark.parametrize("borders", [[0], [0, 5, 9]])
def test_rows_of_no_sequence_are_zero(simt, borders):
    """As on a GPU, where cu_seqlens is not read back: a total may be padded beyond the borders."""
    q, k, v = (tensor.detach()[0].requires_grad_() for tensor in qkv(300, 300))
    borders = torch.tensor(borders, dtype=torch.int32)
    end = int(borders[-1])
    with mock.patch.object(checks, "may_read_values", lambda device: False):
        out, lse = longattn.attention(
            q, k, v, Causal(), cu_seqlens_q=borders, cu_seqlens_k=borders, return_lse=True,
            backend="simt",
        )
        gradients = torch.autograd.grad(out.float().square().sum(), (q, k, v))
    assert not out[end:].any() and (lse[:, end:] == -math.inf).all()
    assert lse[:, :end].isfinite().all()
    for gradient in gradients:
        assert gradient[:end].isfinite().all() and not gradient[end:].any()


@pytest.mark.parametrize("backend", ["cpu", "simt"])
def test_nan_gradients_of_rows_that_see_nothing_stay_there(simt, backend):
    tensors = qkv(70, 40)  # the first 30 queries see nothing
    out = longattn.attention(*tensors, Causal(), backend=backend)
    clean, dirty = torch.ones_like(out), torch.ones_like(out)
    dirty[:, :30] = math.nan
    expected = torch.autograd.grad(out, tensors, clean, retain_graph=True)
    for ours, theirs in zip(torch.autograd.grad(out, tensors, dirty), expected):
        assert torch.equal(ours, theirs)


def test_compile_does_not_look_into_native_code():
    """As choosing the CUDA engine does: whether it can be used is asked of native code."""

    def module():
        native.no_cuda_reason()
        return native.module()

    engine = native.cpu._replace(module=module)
    backends.register(backends.get("cpu")._replace(name="asks", engine=engine))
    tensors = qkv(dtype=torch.float32)

    def function(q, k, v):
        return longattn.attention(q, k, v, Window(4), backend="asks")

    try:
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(*tensors), function(*tensors))
    finally:
        backends._backends.pop("asks")


@pytest.mark.parametrize("which", ["out", "lse", "dout", "dlse"])
def test_the_backward_op_checks_what_it_is_given(which):
    q, k, v = (tensor.detach() for tensor in qkv())
    out, lse = longattn.attention(q, k, v, Causal(), return_lse=True)
    given = {"dout": out, "dlse": lse, "q": q, "k": k, "v": v, "out": out, "lse": lse}
    given[which] = given[which][..., :-1].contiguous()
    settings = (None,) * 4 + (False, False, [1, -(2**31), 0, 0], [], [], 1.0, 0.0, 0, 0, False)
    with pytest.raises(ValueError, match=f"{which} must have shape"):
        longattn.ops.attention_backward(*given.values(), *settings, "cpu")
