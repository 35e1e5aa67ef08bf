# SPDX-License-Identifier: BSD-3-Clause
"""The CUDA engine as a citizen of torch on a GPU: streams, graphs, compile, autocast, errors."""

import contextlib

import pytest
import torch

import gpu_support
import inputs
import longattn
from gpu_support import DEVICE, captured
from longattn.masks import Causal, Window

pytestmark = gpu_support.marks

MASK = Window(200, sink_tokens=4)


def windowed(*qkv, **arguments):
    return longattn.attention(*qkv, MASK, **arguments)


def dilated(*qkv, **arguments):
    return longattn.dilated_attention(*qkv, (64, 512), (1, 4), **arguments)


both_functions = pytest.mark.parametrize("function", [windowed, dilated], ids=lambda f: f.__name__)


def small(length=700, dtype=torch.bfloat16):
    return gpu_support.random_qkv(length, 4, 2, 64, dtype)


def bits(function, tensors) -> list:
    out, lse = function(*tensors, return_lse=True)
    out_gradient, lse_gradient = torch.full_like(out, 0.5), torch.full_like(lse, 0.25)
    lse_gradient = lse_gradient.masked_fill(lse == -torch.inf, 0.0)
    return [out, lse, *torch.autograd.grad((out, lse), tensors, (out_gradient, lse_gradient))]


def assert_same(ours, expected):
    assert len(ours) == len(expected)
    for one, other in zip(ours, expected):
        assert one.dtype == other.dtype and torch.equal(one, other)


# Streams and graphs


@both_functions
def test_work_is_queued_on_the_current_stream(function):
    """The inputs appear on a side stream after a long sleep: other streams would read zeros."""
    tensors = small()
    expected = bits(function, tensors)
    late = [torch.zeros_like(tensor, requires_grad=True) for tensor in tensors]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(200_000_000)  # clock cycles: a tenth of a second
        with torch.no_grad():
            for tensor, values in zip(late, tensors):
                tensor.copy_(values)
        found = bits(function, late)
    side.synchronize()
    assert_same(found, expected)


def packed_call(ends):
    return lambda *qkv, **arguments: longattn.attention(
        *qkv, Causal(), cu_seqlens_q=ends, cu_seqlens_k=ends, **arguments
    )


def packed_inputs(lengths=(300, 0, 77, 323)):
    tensors = [tensor.detach()[0].requires_grad_() for tensor in small(sum(lengths))]
    return tensors, inputs.boundaries(lengths).to(DEVICE)


@both_functions
def test_nothing_waits_for_the_gpu(function):
    tensors = small()
    packed_tensors, ends = packed_inputs()
    bits(function, tensors)  # what happens once, happens here
    torch.cuda.set_sync_debug_mode("error")
    try:
        bits(function, tensors)
        bits(packed_call(ends), packed_tensors)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def overwrite(tensors, values):
    with torch.no_grad():
        for tensor, value in zip(tensors, values):
            tensor.copy_(value)


@both_functions
def test_graph_capture_and_replay(function):
    tensors = small()
    graph, results = captured(lambda: bits(function, tensors))
    for seed in (5, 6):
        values = [gpu_support.random(*tensor.shape, seed=seed) for tensor in tensors]
        overwrite(tensors, values)
        graph.replay()
        assert_same(results, bits(function, [value.requires_grad_() for value in values]))


def test_a_captured_graph_reads_other_boundaries():
    """cu_seqlens is data of the GPU: one graph serves every way to pack the same total."""
    tensors, ends = packed_inputs()
    graph, results = captured(lambda: bits(packed_call(ends), tensors))
    for lengths in ((300, 0, 77, 323), (1, 2, 3, 694), (0, 0, 700, 0)):
        ends.copy_(inputs.boundaries(lengths))
        graph.replay()
        fresh = inputs.boundaries(lengths).to(DEVICE)
        assert_same(results, bits(packed_call(fresh), tensors))


# Layouts


def test_strides_of_other_layouts_change_nothing():
    """[batch, heads, length, dim] seen from the side, and q, k, v fused in one tensor."""
    contiguous = [gpu_support.random(2, 300, 4, 64, seed=i).requires_grad_() for i in range(3)]
    expected = bits(windowed, contiguous)
    heads_first = [
        tensor.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
        for tensor in contiguous
    ]
    fused = torch.stack([tensor.detach() for tensor in contiguous], 2)
    assert_same(bits(windowed, heads_first), expected)
    assert_same(bits(windowed, [t.requires_grad_() for t in fused.unbind(2)]), expected)


def test_gradients_of_any_strides_are_accepted():
    tensors = small()
    out = windowed(*tensors)
    one = torch.tensor(1.0, dtype=out.dtype, device=DEVICE)
    wide = torch.ones(*out.shape[:-1], out.shape[-1] + 1, dtype=out.dtype, device=DEVICE)
    expected = torch.autograd.grad(out, tensors, torch.ones_like(out), retain_graph=True)
    for d_out in (
        one.expand(out.shape),  # what out.sum().backward() sends
        wide[..., 1:],  # no row is aligned
        torch.ones_like(out.mT).mT,  # rows are not contiguous
    ):
        assert_same(torch.autograd.grad(out, tensors, d_out, retain_graph=True), expected)


def test_nan_in_a_packed_neighbour_stays_there():
    tensors, ends = packed_inputs((130, 70, 500))
    clean = bits(packed_call(ends), tensors)
    dirty = [tensor.detach().clone() for tensor in tensors]
    for tensor in dirty:
        tensor[130:200] = float("nan")
    found = bits(packed_call(ends), [tensor.requires_grad_() for tensor in dirty])
    for ours, expected in zip(found, clean):
        ours, expected = (t.mT if t.dim() == 2 else t for t in (ours, expected))  # lse
        assert torch.equal(ours[:130], expected[:130]) and torch.equal(ours[200:], expected[200:])
        assert ours[130:200].isnan().any()


# What a GPU does not forgive


def test_a_contiguous_gradient_at_an_odd_address():
    tensors = small()
    out = windowed(*tensors)
    expected = torch.autograd.grad(out, tensors, torch.ones_like(out), retain_graph=True)
    odd = torch.ones(out.numel() + 1, dtype=out.dtype, device=DEVICE)[1:].view(out.shape)
    assert odd.is_contiguous() and odd.data_ptr() % 16
    assert_same(torch.autograd.grad(out, tensors, odd), expected)


def test_strides_of_dimensions_of_length_one_do_not_matter():
    q, k, v = (gpu_support.random(1, rows, 4, 64, seed=rows) for rows in (70, 1, 1))
    expected = longattn.attention(q, k, v, Causal())
    strange = gpu_support.random(700).as_strided(k.shape, (400, 131, 64, 1)).copy_(k)
    assert_same([longattn.attention(q, strange, v, Causal())], [expected])


def test_nan_gradients_of_rows_that_see_nothing_stay_there():
    tensors = gpu_support.random_qkv(70, 4, 2, 64, kv_len=40)  # the first 30 queries see nothing
    out = longattn.attention(*tensors, Causal())
    clean, dirty = torch.ones_like(out), torch.ones_like(out)
    dirty[:, :30] = float("nan")
    expected = torch.autograd.grad(out, tensors, clean, retain_graph=True)
    assert_same(torch.autograd.grad(out, tensors, dirty), expected)


@pytest.mark.parametrize("borders", [[0], [0, 5, 9]], ids=str)
def test_rows_of_no_sequence_are_zero(borders):
    """A total may be padded beyond the last border, which is not read back."""
    tensors, _ = packed_inputs((700,))
    found = bits(packed_call(torch.tensor(borders, device=DEVICE)), tensors)
    out, lse, *gradients = found
    end = borders[-1]
    assert not out[end:].any() and (lse[:, end:] == -torch.inf).all()
    assert lse[:, :end].isfinite().all()
    for gradient in gradients:
        assert gradient[:end].isfinite().all() and not gradient[end:].any()


@contextlib.contextmanager
def no_memory_left():
    """Of this process alone: other tests on the GPU do not notice."""
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**20) / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_out_of_memory_is_torch_s_error_and_leaves_the_process_usable():
    tensors = small()
    expected = bits(windowed, tensors)
    large = gpu_support.random_qkv(2**18, 4, 4, 64)  # 128 MiB each
    with no_memory_left(), pytest.raises(torch.OutOfMemoryError):
        windowed(*large)
    assert_same(bits(windowed, tensors), expected)
    out = windowed(*large)
    with no_memory_left(), pytest.raises(torch.OutOfMemoryError):
        torch.autograd.grad(out, large, out.detach(), retain_graph=True)
    assert_same(bits(windowed, tensors), expected)
    gradients = torch.autograd.grad(out, large, out.detach())
    assert all(gradient.isfinite().all() for gradient in gradients)


# torch.compile and autocast


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@both_functions
def test_compile(function, backend):
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=backend)
    for length in (700, 333):
        tensors = small(length)
        assert_same(bits(compiled, tensors), bits(function, tensors))


@both_functions
def test_autocast(function):
    tensors = small(dtype=torch.float32)
    halves = [tensor.detach().bfloat16().requires_grad_() for tensor in tensors]
    expected, expected_lse = function(*halves, return_lse=True)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        out, lse = function(*tensors, return_lse=True)
    assert_same([out, lse], [expected, expected_lse])
    d_out = torch.ones_like(out)
    found = torch.autograd.grad(out, tensors, d_out)
    assert_same(found, [g.float() for g in torch.autograd.grad(expected, halves, d_out)])


def test_autocast_looks_at_the_strides_after_the_cast():
    """12 numbers of float32 are three times 16 bytes; those of bfloat16 are not."""
    q = torch.zeros(1, 50, 4, 12, device=DEVICE)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        with pytest.raises(ValueError, match="padded to a multiple of 8"):
            longattn.attention(q, q, q, Causal())


def test_another_gpu_than_the_current_one():
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    tensors = small()
    expected = bits(windowed, tensors)
    others = [tensor.detach().to("cuda:1").requires_grad_() for tensor in tensors]
    found = bits(windowed, others)
    assert torch.cuda.current_device() == 0 and all(t.device.index == 1 for t in found)
    if torch.cuda.get_device_capability(0) == torch.cuda.get_device_capability(1):
        assert_same([tensor.to(DEVICE) for tensor in found], expected)


# Bad input: a sentence, and no launch


def zeros(*shape, dtype=torch.bfloat16, device=DEVICE):
    return torch.zeros(shape, dtype=dtype, device=device)


def qkv_like(**changes):
    tensors = dict.fromkeys("qkv", zeros(1, 50, 4, 64))
    return {**tensors, **changes}.values()


def misplaced():
    return zeros(1 + 50 * 4 * 64)[1:].view(1, 50, 4, 64)


BAD = {
    "float32": (
        lambda: [zeros(1, 50, 4, 64, dtype=torch.float32)] * 3,
        TypeError,
        r"torch\.float32.*torch\.float16, torch\.bfloat16.*cast.*CPU",
    ),
    "head_dim 136": (lambda: [zeros(1, 50, 4, 136)] * 3, ValueError, r"head_dim.*128.*136"),
    "value_dim 136": (lambda: qkv_like(v=zeros(1, 50, 4, 136)), ValueError, r"value_dim.*136"),
    "head_dim 12": (lambda: [zeros(1, 50, 4, 12)] * 3, ValueError, "padded to a multiple of 8"),
    "k begins anywhere": (lambda: qkv_like(k=misplaced()), ValueError, r"read k .*16 bytes"),
    "odd row strides": (
        lambda: qkv_like(v=zeros(1, 50, 4, 65)[..., :64]),
        ValueError,
        r"read v .*strides must be multiples of 16 bytes",
    ),
    "expanded heads": (
        lambda: qkv_like(k=zeros(1, 50, 1, 64).expand(1, 50, 4, 64)),
        ValueError,
        r"read k .*not 0",
    ),
    "k on the CPU": (
        lambda: qkv_like(k=zeros(1, 50, 4, 64, device="cpu")), ValueError, "one device.*cpu",
    ),
    "two dtypes": (
        lambda: qkv_like(v=zeros(1, 50, 4, 64, dtype=torch.float16)), TypeError, "one dtype",
    ),
}  # fmt: skip


@pytest.mark.parametrize("make, error, sentence", BAD.values(), ids=BAD.keys())
def test_bad_input(make, error, sentence):
    with pytest.raises(error, match=sentence):
        longattn.attention(*make(), Causal())


def test_the_cpu_engine_refuses_tensors_of_a_gpu():
    with pytest.raises(ValueError, match="'cpu'.*cuda"):
        longattn.attention(*qkv_like(), Causal(), backend="cpu")


def test_boundaries_on_the_cpu_are_refused():
    tensors, ends = packed_inputs()
    with pytest.raises(ValueError, match="cu_seqlens_q must be on q's device"):
        packed_call(ends.cpu())(*tensors)


BAD_BOUNDARIES = [(0, 500, 200, 700), (5, 100, 200, 700), (0, 100, 200, 600), (-9, 0, 900, 2**30)]


@pytest.mark.parametrize("boundaries", BAD_BOUNDARIES, ids=str)
def test_bad_boundaries(boundaries, monkeypatch):
    """Found if LONGATTN_CHECK=1 asks to look; in any case they lead nowhere outside."""
    ends = torch.tensor(boundaries, dtype=torch.int32, device=DEVICE)
    guard = torch.full((2**20,), 7.0, device=DEVICE)
    tensors, _ = packed_inputs()
    bits(packed_call(ends), tensors)
    torch.cuda.synchronize()
    assert (guard == 7.0).all()
    monkeypatch.setenv("LONGATTN_CHECK", "1")
    with pytest.raises(ValueError, match="cu_seqlens_q must"):
        packed_call(ends)(*tensors)
