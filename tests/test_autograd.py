# SPDX-License-Identifier: BSD-3-Clause
"""attention as a citizen of torch: autograd, compile, checkpointing, autocast."""

import pytest
import torch
import torch._dynamo.testing
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import inputs
import longattn
from cases import Case
from longattn.masks import Band, Causal, Full, Groups, Window

SMALL = Case("autograd", Causal(), 5, 7, q_heads=4, kv_heads=2, head_dim=3, value_dim=2)
MEDIUM = Case("autograd", Window(40, sink_tokens=2), 70, 90, q_heads=4, kv_heads=2)


def dilated(q, k, v, **arguments):
    return longattn.dilated_attention(q, k, v, (16, 64), (1, 2), **arguments)


def windowed(q, k, v, **arguments):
    return longattn.attention(q, k, v, MEDIUM.mask, **arguments)


ROPE = longattn.RotaryEmbedding(MEDIUM.head_dim)


def rerope(q, k, v, **arguments):
    return longattn.rerope_attention(q, k, v, rope_for(q), window=20, leak=4, **arguments)


def lm_infinite(q, k, v, **arguments):
    return longattn.lm_infinite_attention(
        q, k, v, rope_for(q), window=20, sink_tokens=3, distance_ceiling=20, **arguments
    )


def rope_for(q):
    return ROPE if q.shape[-1] == ROPE.head_dim else longattn.RotaryEmbedding(q.shape[-1])


FUNCTIONS = [windowed, dilated, rerope, lm_infinite]
both_functions = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)


def gradients_of(function, tensors):
    out, lse = function(*tensors, return_lse=True)
    lse = lse.masked_fill(lse == -float("inf"), 0.0)
    return torch.autograd.grad(out.square().sum() + lse.square().sum(), tensors)


# Derivatives


@pytest.mark.parametrize(
    "mask, arguments",
    [
        (Causal(), {}),
        (Full(), dict(softmax_scale=0.9)),
        (Window(2, sink_tokens=1), {}),
        (Groups(3, shift=1), {}),
        (Band((1, None, 2, 0), 1), {}),
    ],
    ids=str,
)
def test_gradcheck_of_out_and_lse(mask, arguments):
    tensors = inputs.qkv(SMALL, torch.float64)
    torch.autograd.gradcheck(
        lambda *qkv: longattn.attention(*qkv, mask, return_lse=True, **arguments), tensors
    )


def test_gradcheck_with_rows_that_see_nothing():
    q, k, v = (torch.randn(1, n, 2, 3, dtype=torch.float64, requires_grad=True) for n in (6, 4, 4))
    torch.autograd.gradcheck(lambda *qkv: longattn.attention(*qkv, Causal()), (q, k, v))


def test_gradcheck_packed():
    q, k, v = (torch.randn(7, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    ends = torch.tensor([0, 3, 7])
    torch.autograd.gradcheck(
        lambda *qkv: longattn.attention(
            *qkv, Causal(), cu_seqlens_q=ends, cu_seqlens_k=ends, return_lse=True
        ),
        (q, k, v),
    )


@both_functions
def test_second_derivatives_raise(function):
    tensors = inputs.qkv(MEDIUM, torch.float64)
    out = function(*tensors)
    (dq,) = torch.autograd.grad(out.square().sum(), tensors[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="twice|once_differentiable|second"):
        dq.sum().backward()


@both_functions
def test_repeated_inputs(function):
    """q is k is v: three gradients add up in one tensor."""
    shared = inputs.random((1, 70, 4, 16), torch.float64, "shared").requires_grad_()
    function(shared, shared, shared).square().sum().backward()
    apart = [shared.detach().clone().requires_grad_() for _ in range(3)]
    function(*apart).square().sum().backward()
    expected = sum(tensor.grad for tensor in apart)
    torch.testing.assert_close(shared.grad, expected, rtol=1e-12, atol=1e-12)


def test_retained_graphs_give_the_same_gradients_twice():
    tensors = inputs.qkv(MEDIUM, torch.float32)
    loss = windowed(*tensors).square().sum()
    first = torch.autograd.grad(loss, tensors, retain_graph=True)
    second = torch.autograd.grad(loss, tensors)
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_inputs_changed_in_place_before_backward_are_noticed():
    tensors = inputs.qkv(MEDIUM, torch.float32)
    copies = [tensor * 1 for tensor in tensors]
    loss = windowed(*copies).sum()
    copies[1].add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# Modes


@both_functions
def test_inference_mode_and_no_grad(function):
    tensors = inputs.qkv(MEDIUM, torch.float32)
    expected = function(*tensors)
    assert expected.requires_grad
    with torch.no_grad():
        out = function(*tensors)
    assert torch.equal(out, expected) and not out.requires_grad
    with torch.inference_mode():
        out = function(*[tensor.clone() for tensor in tensors])
    assert torch.equal(out, expected) and out.is_inference()


@pytest.mark.parametrize("use_reentrant", [True, False])
@both_functions
def test_checkpoint(function, use_reentrant):
    tensors = inputs.qkv(MEDIUM, torch.float32)
    expected = torch.autograd.grad(function(*tensors).square().sum(), tensors)
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    checkpoint(function, *leaves, use_reentrant=use_reentrant).square().sum().backward()
    assert all(torch.equal(leaf.grad, grad) for leaf, grad in zip(leaves, expected))


@pytest.mark.parametrize("function", FUNCTIONS[:2], ids=lambda f: f.__name__)
def test_autocast_casts_like_torch_attention(function):
    tensors = inputs.qkv(MEDIUM, torch.float32)
    halves = [tensor.detach().bfloat16().requires_grad_() for tensor in tensors]
    expected, expected_lse = function(*halves, return_lse=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, lse = function(*tensors, return_lse=True)
    assert out.dtype == torch.bfloat16 and lse.dtype == torch.float32
    assert torch.equal(out, expected) and torch.equal(lse, expected_lse)
    d_out = torch.ones_like(out)
    for ours, theirs in zip(
        torch.autograd.grad(out, tensors, d_out), torch.autograd.grad(expected, halves, d_out)
    ):
        assert ours.dtype == torch.float32 and torch.equal(ours, theirs.float())


@pytest.mark.parametrize("function", [rerope, lm_infinite], ids=lambda f: f.__name__)
def test_autocast_rotates_before_it_casts(function):
    """As torch does: its products of matrices are cast, and the rotation is none."""
    q, k, v = inputs.qkv(MEDIUM, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, lse = function(q, k, v, return_lse=True)
        expected = function(q.bfloat16().float(), k.bfloat16().float(), v)
    assert out.dtype == torch.bfloat16 and lse.dtype == torch.float32
    assert (out - expected).abs().max() < 0.05 and not torch.equal(out, expected)
    gradients = torch.autograd.grad(out.sum(), (q, k, v))
    assert all(gradient.dtype == torch.float32 for gradient in gradients)


@pytest.mark.parametrize(
    "dtypes",
    [
        (torch.float32, torch.float32, torch.float32),
        (torch.float32, torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.float16, torch.float16),
        (torch.float64, torch.float64, torch.float64),
    ],
    ids=str,
)
@pytest.mark.parametrize("cast", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_gives_the_dtype_that_torch_gives(cast, dtypes):
    q, k, v = (torch.randn(1, 9, 2, 8).to(dtype) for dtype in dtypes)
    with torch.autocast("cpu", dtype=cast):
        expected = torch.nn.functional.scaled_dot_product_attention(q, k, v).dtype
        assert longattn.attention(q, k, v, Causal()).dtype == expected


def test_autocast_leaves_the_lse_exact():
    """Merging under autocast must not round the lse."""
    outs = [torch.randn(1, 9, 2, 8) for _ in range(2)]
    lses = [torch.randn(1, 2, 9) for _ in range(2)]
    _, expected = longattn.merge_partials(outs, lses)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, lse = longattn.merge_partials(outs, lses)
    assert lse.dtype == torch.float32 and torch.equal(lse, expected)


# The registered ops


class RecordOps(TorchDispatchMode):
    """Collects (op, args, kwargs) of every longattn op that runs; tensors without history."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op.namespace == "longattn":
            detached = torch.utils._pytree.tree_map_only(torch.Tensor, torch.detach, args)
            self.calls.append((op, detached, kwargs or {}))
        return op(*args, **(kwargs or {}))


def recorded(function, case, dtype=torch.float32):
    tensors = inputs.qkv(case, dtype)
    with RecordOps() as record:
        out, lse = function(*tensors, return_lse=True)
        torch.autograd.grad((out, lse), tensors, (torch.ones_like(out), torch.ones_like(lse)))
    return record.calls


def packed(q, k, v, **arguments):
    return longattn.attention(q, k, v, Causal(), **inputs.packed_by((30, 0, 40)), **arguments)


PACKED = Case("autograd packed", Causal(), q_lengths=(30, 0, 40))
OP_CALLS = [
    (windowed, MEDIUM),
    (dilated, MEDIUM),
    (packed, PACKED),
    (rerope, MEDIUM),
    (lm_infinite, MEDIUM),
]


@pytest.mark.parametrize("function, case", OP_CALLS, ids=lambda x: getattr(x, "__name__", ""))
def test_forward_and_backward_are_ops_that_pass_opcheck(function, case):
    calls = recorded(function, case)
    names = {op.name() for op, _, _ in calls}
    assert len(names) >= 2, f"expected an op for forward and one for backward, saw {names}"
    for op, args, kwargs in calls:
        torch.library.opcheck(op, args, kwargs)


def test_opcheck_of_the_op_with_gradients():
    op, args, kwargs = next(
        call for call in recorded(windowed, MEDIUM) if call[0].name() == "longattn::attention"
    )
    assert op is torch.ops.longattn.attention.default
    args = [
        (
            arg.detach().clone().requires_grad_()
            if isinstance(arg, torch.Tensor) and arg.is_floating_point()
            else arg
        )
        for arg in args
    ]
    torch.library.opcheck(op, args, kwargs)


def test_the_op_itself_refuses_mixed_dtypes():
    """Below `attention` and its checks there is still nothing that reads float32 as float64."""
    op, (q, *rest), kwargs = recorded(windowed, MEDIUM)[0]
    with pytest.raises((TypeError, ValueError, RuntimeError), match="float64|dtype"):
        op(q.double(), *rest, **kwargs)


# torch.compile


@both_functions
def test_compile_fullgraph_with_dynamic_lengths(function):
    """One graph serves every length; results and gradients are those of eager mode."""
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=counter)
    graphs = None
    for length in (70, 33, 129, 200):
        case = Case(f"compile {length}", Causal(), length, length + 11, batch=2)
        tensors = [tensor.detach().clone() for tensor in inputs.qkv(case, torch.float32)]
        tensors = [tensor.requires_grad_() for tensor in tensors]
        expected = function(*tensors)
        actual = compiled(*tensors)
        assert torch.equal(actual, expected)
        for ours, theirs in zip(
            torch.autograd.grad(actual.square().sum(), tensors),
            torch.autograd.grad(expected.square().sum(), tensors),
        ):
            assert torch.equal(ours, theirs)
        # torch begins a second time where it meets a number of a rope for the first time.
        graphs = graphs or counter.frame_count
    assert counter.frame_count == graphs <= 2, f"{counter.frame_count} graphs for 4 lengths"


def test_compile_packed():
    torch._dynamo.reset()

    def call(q, k, v, ends):
        return longattn.attention(q, k, v, Causal(), cu_seqlens_q=ends, cu_seqlens_k=ends)

    compiled = torch.compile(call, fullgraph=True, dynamic=True, backend="aot_eager")
    for lengths in ((5, 30), (60, 7), (64, 64)):
        q, k, v = (torch.randn(sum(lengths), 2, 16) for _ in range(3))
        ends = inputs.boundaries(lengths)
        assert torch.equal(compiled(q, k, v, ends), call(q, k, v, ends))


def test_compile_with_a_scale_that_the_shapes_give():
    """Where head_dim is dynamic, so is what is computed from it."""

    def call(q):
        return longattn.attention(q, q, q, Causal(), softmax_scale=2 * q.shape[-1] ** -0.5)

    compiled = torch.compile(call, fullgraph=True, dynamic=True, backend="aot_eager")
    for length, head_dim in ((9, 8), (13, 16), (5, 24)):
        q = torch.randn(1, length, 2, head_dim)
        assert torch.equal(compiled(q), call(q))


def test_compile_repeated_inputs():
    torch._dynamo.reset()
    x = torch.randn(1, 40, 2, 16, requires_grad=True)
    compiled = torch.compile(
        lambda x: windowed(x, x, x).square().sum(), fullgraph=True, backend="aot_eager"
    )
    (ours,) = torch.autograd.grad(compiled(x), x)
    (theirs,) = torch.autograd.grad(windowed(x, x, x).square().sum(), x)
    torch.testing.assert_close(ours, theirs)


def test_compile_under_autocast():
    torch._dynamo.reset()
    q, k, v = (torch.randn(1, 40, 2, 16) for _ in range(3))
    compiled = torch.compile(windowed, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual, expected = compiled(q, k, v), windowed(q, k, v)
    assert actual.dtype == torch.bfloat16 and torch.equal(actual, expected)
