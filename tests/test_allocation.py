# SPDX-License-Identifier: BSD-3-Clause
"""Memory that was not cleared may hold anything: no result may depend on it."""

import pytest
import torch

import longattn
from longattn import allocation

ROPE = longattn.RotaryEmbedding(16)
CALLS = {
    "near and far": lambda q, k, v, **rest: longattn.lm_infinite_attention(
        q, k, v, ROPE, window=9, sink_tokens=3, distance_ceiling=9, **rest
    ),
    "two bands": lambda q, k, v, **rest: longattn.rerope_attention(
        q, k, v, ROPE, window=9, **rest
    ),
    "keys that some rows do not see": lambda q, k, v, **rest: longattn.rerope_attention(
        q, k[:, :30], v[:, :30], ROPE, window=9, **rest
    ),
    "sink logits": lambda q, k, v, **rest: longattn.rerope_attention(
        q, k, v, ROPE, window=9, sink_logits=torch.ones(4), **rest
    ),
    "dilated": lambda q, k, v, **rest: longattn.dilated_attention(
        q, k, v, (16, 32), (1, 2), **rest
    ),
    "rows of no branch": lambda q, k, v, **rest: longattn.dilated_attention(
        q, k, v, (16, 32), (2, 4), **rest
    ),
    "one mask": lambda q, k, v, **rest: longattn.attention(
        q, k, v, longattn.Window(9, sink_tokens=3), **rest
    ),
}


def results(function, **engine) -> list:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 70, heads, 16) for heads in (4, 2, 2)]
    tensors = [torch.randn(shape, generator=generator).bfloat16() for shape in shapes]
    tensors = [tensor.requires_grad_() for tensor in tensors]
    out, lse = function(*tensors, return_lse=True, **engine)
    finite = lse.masked_fill(lse == float("-inf"), 0)
    gradients = torch.autograd.grad(out.float().square().sum() + finite.sum(), tensors)
    return [out, lse, *gradients]


def full_of_nan(like, shape, dtype=None):
    return like.new_full((shape,) if isinstance(shape, int) else shape, float("nan"), dtype=dtype)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("backend", ("cpu", "simt"))
def test_what_memory_held_does_not_matter(request, monkeypatch, backend, name):
    engine = {}
    if backend == "simt":
        request.getfixturevalue("simt")
        engine["backend"] = "simt"
    expected = results(CALLS[name], **engine)
    monkeypatch.setattr(allocation, "empty", full_of_nan)
    for actual, wanted in zip(results(CALLS[name], **engine), expected, strict=True):
        assert torch.equal(actual, wanted)
