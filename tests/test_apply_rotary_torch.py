# SPDX-License-Identifier: BSD-3-Clause
"""apply_rotary as a citizen of torch: autograd, in place, checkpointing, autocast, ops."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import inputs
import longattn
import rotary_cases
from longattn import LogN, RotaryEmbedding
from longattn.rotary import PositionMap, rotate
from rotary_cases import CASES, Rotation
from test_autograd import RecordOps

ROPE = RotaryEmbedding(16)
MAPS = ((PositionMap(), PositionMap()), (PositionMap(1 / 3, 2.0), PositionMap(0.0)))


def leaves(*shapes, dtype=torch.float32, key="leaves"):
    return [inputs.random(shape, dtype, key, i).requires_grad_() for i, shape in enumerate(shapes)]


def q_and_k(dtype=torch.float32, length=21, heads=(4, 2)):
    return leaves(*((2, length, count, 16) for count in heads), dtype=dtype)


def plain(q, k, **arguments):
    return longattn.apply_rotary(q, k, ROPE, **arguments)


def full(q, k, **arguments):
    return longattn.apply_rotary(q, k, ROPE, key_norm="both", q_scale=LogN(8), **arguments)


functions = pytest.mark.parametrize("function", [plain, full], ids=lambda f: f.__name__)


def loss_of(results):
    new_q, new_k = results
    return (new_q * torch.arange(16)).square().sum() + new_k.pow(3).sum()


def gradients_of(function, tensors):
    return torch.autograd.grad(loss_of(function(*tensors)), tensors)


# Derivatives


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("key_norm", [False, True, "query", "both"], ids=str)
def test_gradcheck(key_norm, interleaved):
    rope = RotaryEmbedding(6, rotary_dim=4, interleaved=interleaved)
    tensors = leaves((2, 3, 2, 6), (2, 3, 1, 6), (2, 6), (1, 6), dtype=torch.float64)
    positions = torch.tensor([[2**40, 5, 6], [0, 1, 2]])

    def function(q, k, q_bias, k_bias):
        pairs = rotate(q, k, rope, positions, MAPS, q_bias=q_bias, k_bias=k_bias,
                       key_norm=key_norm, q_scale=LogN(4))  # fmt: skip
        return [result for pair in pairs for result in pair]

    torch.autograd.gradcheck(function, tensors)


def test_gradcheck_of_xpos():
    tensors = leaves((1, 3, 1, 4), (1, 5, 2, 4), dtype=torch.float64)
    rope = RotaryEmbedding.xpos(4)
    torch.autograd.gradcheck(lambda q, k: longattn.apply_rotary(q, k, rope), tensors)


@functions
def test_second_derivatives_raise(function):
    q, k = q_and_k(torch.float64)
    new_q, _ = function(q, k)
    (gradient,) = torch.autograd.grad(new_q.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="twice|second"):
        gradient.sum().backward()


def test_repeated_inputs():
    shared = leaves((1, 9, 2, 16))[0]
    a, b = plain(shared, shared)
    (gradient,) = torch.autograd.grad(a.square().sum() + 2 * b.square().sum(), shared)
    torch.testing.assert_close(gradient, 6 * shared.detach(), rtol=1e-5, atol=1e-5)


def test_only_what_the_norm_needs_is_kept():
    """Without a norm, nothing of q and k: they may change before the backward pass."""
    q, k = (tensor * 1 for tensor in q_and_k())
    new_q, _ = plain(q, k)
    q.add_(1.0)
    torch.autograd.grad(new_q.sum(), q, allow_unused=True)
    new_q, _ = full(q, k)
    q.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        new_q.sum().backward()


def test_biases_of_another_dtype_get_gradients_of_their_own():
    q, k = q_and_k(torch.bfloat16)
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        (bias,) = leaves((4, 16), dtype=dtype)
        new_q, _ = plain(q, k, q_bias=bias)
        (gradient,) = torch.autograd.grad(new_q.sum(), bias)
        assert gradient.dtype == dtype and gradient.isfinite().all()


# In place


@pytest.mark.parametrize("as_views", [False, True])
@pytest.mark.parametrize("biases", [False, True])
def test_in_place_has_the_gradients_of_out_of_place(as_views, biases):
    source = leaves((2, 21, 6, 16), dtype=torch.float64)[0]
    bias = leaves((4, 16), dtype=torch.float64, key="bias")[0]
    more = dict(q_bias=bias) if biases else {}
    wanted = (source, bias) if biases else (source,)
    found = []
    for inplace in (False, True):
        fresh = source * 2
        q, k = fresh[:, :, :4], fresh[:, :, 4:]
        q, k = (q, k) if as_views else (q.clone(), k.clone())
        new_q, new_k = plain(q, k, inplace=inplace, **more)
        assert (new_q is q) == inplace and (new_k is k) == inplace
        loss = loss_of((new_q, new_k))
        found.append((loss, *torch.autograd.grad(loss, wanted)))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_in_place_counts_versions():
    q, k = (tensor.detach() for tensor in q_and_k())
    versions = q._version, k._version
    plain(q, k, inplace=True)
    assert q._version > versions[0] and k._version > versions[1]


def test_in_place_after_use_is_noticed():
    q, k = (tensor * 1 for tensor in q_and_k())
    loss = q.square().sum()
    plain(q, k, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_in_place_of_leaves_without_gradients():
    q, k = q_and_k()
    expected = plain(q, k)
    with torch.no_grad():
        q_copy, k_copy = q.clone(), k.clone()
        results = plain(q_copy.requires_grad_(), k_copy, inplace=True)
    assert all(torch.equal(one, other) for one, other in zip(results, expected))


# Modes


@functions
def test_inference_mode_and_no_grad(function):
    q, k = q_and_k()
    expected = function(q, k)
    assert all(result.requires_grad for result in expected)
    with torch.no_grad():
        results = function(q, k)
    assert not any(result.requires_grad for result in results)
    with torch.inference_mode():
        others = function(q.clone(), k.clone())
        in_place = plain(q.clone(), k.clone(), inplace=True)
    assert all(result.is_inference() for result in others)
    for group in (results, others):
        assert all(torch.equal(one, other) for one, other in zip(group, expected))
    assert all(torch.equal(one, other) for one, other in zip(in_place, plain(q, k)))


def test_tables_made_in_inference_mode_serve_training():
    rope = RotaryEmbedding(16, base=4321.0)
    q, k = q_and_k()
    with torch.inference_mode():
        longattn.apply_rotary(q.clone(), k.clone(), rope)
    new_q, _ = longattn.apply_rotary(q, k, rope)
    new_q.sum().backward()
    assert q.grad.isfinite().all()


@pytest.mark.parametrize("use_reentrant", [True, False])
@functions
def test_checkpoint(function, use_reentrant):
    tensors = q_and_k()
    expected = gradients_of(function, tensors)
    loss_of(checkpoint(function, *tensors, use_reentrant=use_reentrant)).backward()
    assert all(torch.equal(tensor.grad, other) for tensor, other in zip(tensors, expected))


def test_autocast_leaves_one_dtype_alone_and_joins_two():
    q, k = (tensor.detach() for tensor in q_and_k())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results = plain(q, k)
        mixed = plain(q.bfloat16(), k)
    assert all(torch.equal(one, other) for one, other in zip(results, plain(q, k)))
    assert [result.dtype for result in mixed] == [torch.bfloat16] * 2
    with pytest.raises(TypeError, match="float32 and torch.bfloat16"):
        plain(q, k.bfloat16())


# The registered ops


@pytest.mark.parametrize("name", ["halves", "everything", "xpos", "two bands", "pair of rows"])
def test_forward_and_backward_are_ops_that_pass_opcheck(name):
    (case,) = [case for case in CASES if case.name == name]
    tensors = rotary_cases.tensors_of(case, torch.float32)
    given = rotary_cases.output_gradients(case, torch.float32)
    with RecordOps() as record:
        rotary_cases.results_of(case, tensors, torch.float32, False, given)
    names = [op.name() for op, _, _ in record.calls]
    assert names == ["longattn::rotate", "longattn::rotate_backward"], "one launch each"
    for op, args, kwargs in record.calls:
        torch.library.opcheck(op, args, kwargs)


def test_opcheck_in_place():
    with RecordOps() as record, torch.no_grad():
        plain(*[tensor.detach() for tensor in q_and_k()], inplace=True)
    ((op, args, kwargs),) = record.calls
    assert op.name() == "longattn::rotate_"
    torch.library.opcheck(op, args, kwargs)


def test_the_ops_themselves_stay_inside_the_tensors():
    """Below `apply_rotary` and its checks there is still nothing that reads beside a tensor."""
    q, k = (tensor.detach() for tensor in q_and_k())
    with RecordOps() as record:
        plain(q, k, positions=torch.arange(21), q_bias=torch.zeros(4, 16))
    op, args, kwargs = record.calls[0]
    for place, wrong in (
        (0, q.double()),  # a dtype of its own
        (2, torch.ones(9, dtype=torch.float64)),  # more pairs than head_dim has
        (4, torch.arange(20)),  # positions too few
        (4, torch.arange(21, dtype=torch.int32)),
        (6, torch.zeros(3, 16)),  # a bias of too few heads
        (8, [1.0] * 7),  # a part of a map
        (8, []),
    ):
        changed = [*args[:place], wrong, *args[place + 1 :]]
        with pytest.raises((TypeError, ValueError)):
            op(*changed, **kwargs)


def test_a_rotation_of_a_case_is_a_leaf_of_no_graph():
    """Positions and tables take no part in the graph."""
    case = Rotation("graph", positions="shared")
    tensors = rotary_cases.tensors_of(case, torch.float32)
    new_q, _ = rotary_cases.call(case, tensors, torch.float32, False)
    parents = [node for node, _ in new_q.grad_fn.next_functions if node is not None]
    assert len(parents) == 2  # q and k


def parts(x):
    """Pairs of q and k that lie in one tensor [2, 5, 9, 8]; whether they share elements."""
    return {
        "heads apart": (x[:, :, :4], x[:, :, 4:6], False),
        "heads in common": (x[:, :, :4], x[:, :, 3:6], True),
        "rows apart": (x[:, :2], x[:, 2:], False),
        "rows in common": (x[:, :3], x[:, 2:], True),
        "dimensions apart": (x[..., :4], x[..., 4:], False),
        "dimensions in common": (x[..., 1:5], x[..., 4:], True),
        "sequences apart": (x[:1], x[1:], False),
        "itself": (x, x, True),
    }


@pytest.mark.parametrize("name", parts(torch.zeros(2, 5, 9, 8)))
def test_memory_that_would_be_rotated_twice_is_refused(name):
    rope = RotaryEmbedding(4 if "dimensions" in name else 8)
    x = inputs.random((2, 5, 9, 8), torch.float32, "parts")
    q, k, in_common = parts(x)[name]
    if in_common:
        before = x.clone()
        with pytest.raises(ValueError, match="share elements.*rotated twice"):
            longattn.apply_rotary(q, k, rope, inplace=True)
        assert torch.equal(x, before)
    else:
        expected = longattn.apply_rotary(q, k, rope)
        longattn.apply_rotary(q, k, rope, inplace=True)
        assert torch.equal(q, expected[0]) and torch.equal(k, expected[1])


def test_elements_that_share_memory_are_refused_in_place():
    x = torch.randn(1, 5, 2, 8)
    with pytest.raises(ValueError, match="share memory"):
        longattn.apply_rotary(x[:, :1].expand(1, 5, 2, 8), x, RotaryEmbedding(8), inplace=True)
