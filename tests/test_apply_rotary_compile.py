# SPDX-License-Identifier: BSD-3-Clause
"""apply_rotary under torch.compile: whole graphs, for every length."""

import torch
import torch._dynamo.testing

import longattn
from longattn import RotaryEmbedding, reference
from longattn.rope import DynamicNTK
from longattn.rotary import rotate
from test_apply_rotary_torch import (
    MAPS,
    ROPE,
    functions,
    gradients_of,
    leaves,
    q_and_k,
)


@functions
def test_compile_fullgraph_with_dynamic_lengths(function):
    """The graphs of the first length serve every other; results and gradients are those of eager
    mode. (They are two where torch first takes rope's numbers for variables and starts again.)"""
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=counter)
    compiled(*q_and_k(length=50))
    at_first = counter.frame_count
    for length in (70, 33, 129, 200):
        tensors = q_and_k(length=length)
        assert all(torch.equal(a, b) for a, b in zip(compiled(*tensors), function(*tensors)))
        found, expected = (gradients_of(f, tensors) for f in (compiled, function))
        assert all(torch.equal(a, b) for a, b in zip(found, expected))
    assert counter.frame_count == at_first <= 2, f"{counter.frame_count} graphs for 5 lengths"


def test_compile_with_positions_biases_and_maps():
    torch._dynamo.reset()

    def call(q, k, bias, positions):
        (a, b), (c, d) = rotate(q, k, ROPE, positions, MAPS, q_bias=bias, key_norm=True)
        return a + c, b + d

    compiled = torch.compile(call, fullgraph=True, dynamic=True, backend="aot_eager")
    for length in (5, 60):
        tensors = [*q_and_k(length=length), *leaves((4, 16))]
        positions = torch.arange(length) + 2**40
        found, expected = (f(*tensors, positions) for f in (compiled, call))
        assert all(torch.equal(a, b) for a, b in zip(found, expected))
        grads = [torch.autograd.grad(sum(r.square().sum() for r in rs), tensors)
                 for rs in (found, expected)]  # fmt: skip
        assert all(torch.equal(a, b) for a, b in zip(*grads))


def test_compile_in_place():
    torch._dynamo.reset()

    def call(q, k):
        q, k = q * 2, k * 2
        return longattn.apply_rotary(q, k, ROPE, inplace=True)

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    q, k = (tensor.detach() for tensor in q_and_k())
    assert all(torch.equal(a, b) for a, b in zip(compiled(q, k), call(q, k)))


def test_compile_where_the_table_depends_on_the_length():
    torch._dynamo.reset()
    rope = RotaryEmbedding(16, scaling=DynamicNTK(2.0), max_position_embeddings=16)

    def call(q, k):
        return longattn.apply_rotary(q, k, rope)

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for length in (9, 40):
        q, k = (tensor.detach() for tensor in q_and_k(length=length))
        for our, their in zip(compiled(q, k), call(q, k)):
            torch.testing.assert_close(our, their, rtol=1e-6, atol=1e-6)


def test_compile_xpos():
    torch._dynamo.reset()
    rope = RotaryEmbedding.xpos(16)
    compiled = torch.compile(
        lambda q, k: longattn.apply_rotary(q, k, rope), fullgraph=True, backend="aot_eager"
    )
    q, k = (tensor.detach() for tensor in q_and_k())
    expected = longattn.apply_rotary(q, k, rope)
    assert all(torch.equal(a, b) for a, b in zip(compiled(q, k), expected))
    theirs = reference.apply_rotary(q, k, rope)
    for our, their in zip(expected, theirs):
        torch.testing.assert_close(our, their, rtol=1e-5, atol=1e-5)
