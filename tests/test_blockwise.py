# SPDX-License-Identifier: BSD-3-Clause
"""blockwise_feedforward: the module's own values and gradients, in the memory of one chunk."""

import copy

import numpy
import pytest
import torch
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import checkpoint

import inputs
import processes
from allocations import peak_bytes, saved_bytes
from closeness import assert_close
from longattn import blockwise_feedforward

WIDTH, HIDDEN = 16, 64
MIB = 2**20


def feedforward(dtype=torch.float32, hidden=HIDDEN, dropout=0.0):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, hidden), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(hidden, WIDTH + 3),
        ).to(dtype)  # fmt: skip


def results(function, x, module) -> list:
    """Output, gradient of x, gradients of all parameters."""
    out = function(x)
    weight = inputs.random(out.shape, torch.float64, "weight").to(out.dtype)
    return [out, *torch.autograd.grad(out, [x, *module.parameters()], weight)]


def assert_follows_the_rule(module, x, chunk_size):
    ours = results(lambda x: blockwise_feedforward(module, x, chunk_size), x, module)
    eager = results(module, x, module)
    wide = copy.deepcopy(module).double()
    exact = results(wide, x.detach().double().requires_grad_(), wide)
    for number, (a, b, c) in enumerate(zip(ours, eager, exact, strict=True)):
        assert_close(a, [b], c, f"result {number}")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("length, chunk_size", [(97, 10), (97, 97), (97, 1000), (64, 16), (1, 1)])
def test_values_and_gradients_are_the_modules(length, chunk_size, dtype):
    x = inputs.random((2, length, WIDTH), dtype, "x").requires_grad_()
    assert_follows_the_rule(feedforward(dtype), x, chunk_size)


def test_any_leading_dimensions():
    module = feedforward(torch.float64)
    for leading in ((), (3,), (2, 3)):
        x = inputs.random((*leading, 11, WIDTH), torch.float64, "x").requires_grad_()
        assert_follows_the_rule(module, x, 4)


def test_a_sequence_of_length_0():
    module = feedforward()
    x = torch.zeros(2, 0, WIDTH, requires_grad=True)
    out, dx, *of_parameters = results(lambda x: blockwise_feedforward(module, x, 8), x, module)
    assert out.shape == (2, 0, WIDTH + 3) and dx.shape == x.shape
    assert all((gradient == 0).all() for gradient in of_parameters)


@pytest.mark.parametrize("autocast", [False, True])
def test_errors_of_16_bit_gradients_do_not_grow_with_the_number_of_chunks(autocast):
    """Summed in 16 bits, a thousand chunks lose two digits: a plain callable shows it."""
    module = feedforward(torch.float32 if autocast else torch.bfloat16)
    x = inputs.random((1, 1000, WIDTH), torch.bfloat16, "x").requires_grad_()
    wide = copy.deepcopy(module).double()
    exact = results(wide, x.detach().double().requires_grad_(), wide)[2:]

    def errors(module_or_callable, chunk_size):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = blockwise_feedforward(module_or_callable, x, chunk_size)
        weight = inputs.random(out.shape, torch.float64, "weight").to(out.dtype)
        ours = torch.autograd.grad(out, list(module.parameters()), weight)
        return [((a - b).abs().max() / b.abs().max()).item() for a, b in zip(ours, exact)]

    one, thousand = errors(module, 1000), errors(module, 1)
    assert max(thousand) <= max(1.5 * max(one), 0.01)
    if not autocast:
        assert max(errors(lambda chunk: module(chunk), 1)) > 4 * max(thousand)


def test_only_what_requires_a_gradient_gets_one():
    module = feedforward(torch.bfloat16)
    module[1].requires_grad_(False)
    x = inputs.random((50, WIDTH), torch.bfloat16, "x")
    blockwise_feedforward(module, x, 8).float().sum().backward()
    given = {name for name, parameter in module.named_parameters() if parameter.grad is not None}
    assert given == {"0.weight", "0.bias", "4.weight", "4.bias"} and x.grad is None


def test_a_parameter_used_twice_gets_both_gradients():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(WIDTH, WIDTH, dtype=torch.bfloat16)
            self.second = nn.Linear(WIDTH, WIDTH, dtype=torch.bfloat16)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.first(x))

    x = inputs.random((50, WIDTH), torch.bfloat16, "x").requires_grad_()
    assert_follows_the_rule(Tied(), x, 8)


def test_each_parameters_hook_runs_once():
    """What DistributedDataParallel counts on."""
    for dtype in (torch.float32, torch.bfloat16):
        module, calls = feedforward(dtype), []
        for parameter in module.parameters():
            parameter.register_post_accumulate_grad_hook(calls.append)
        blockwise_feedforward(module, torch.ones(40, WIDTH, dtype=dtype), 8).sum().backward()
        assert sorted(map(id, calls)) == sorted(map(id, module.parameters()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_is_drawn_once(dtype):
    """The gradient belongs to the values of the forward pass, and the caller's stream goes on."""
    module = feedforward(dtype, dropout=0.5)
    x = inputs.random((37, WIDTH), dtype, "x").requires_grad_()
    torch.manual_seed(3)
    out = blockwise_feedforward(module, x, 8)
    after = torch.rand(())
    (dx,) = torch.autograd.grad(out, x, torch.ones_like(out))
    torch.manual_seed(3)
    plain = torch.cat([module(chunk) for chunk in x.split(8)])
    assert torch.equal(after, torch.rand(()))
    assert torch.equal(out, plain)
    torch.testing.assert_close(dx, torch.autograd.grad(plain, x, torch.ones_like(plain))[0])


def test_autocast_holds_in_the_backward_pass():
    module, seen = feedforward(), []
    module[1].register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    x = inputs.random((20, WIDTH), torch.float32, "x").requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = blockwise_feedforward(module, x, 8)
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16 and x.grad.dtype == torch.float32
    assert seen == [torch.bfloat16] * 6  # three chunks, each twice


def test_without_gradients_nothing_is_computed_twice():
    module, calls = feedforward(), []
    module.register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(20, WIDTH)
    for guard in (torch.no_grad, torch.inference_mode):
        with guard():
            out = blockwise_feedforward(module, x, 8)
        torch.testing.assert_close(out, module(x))
    assert len(calls) == 3 + 1 + 3 + 1


def test_inside_of_a_checkpoint():
    module = feedforward(torch.float64)
    x = inputs.random((30, WIDTH), torch.float64, "x").requires_grad_()

    def nested(x):
        return checkpoint(blockwise_feedforward, module, x, 8, use_reentrant=False)

    for ours, plain in zip(results(nested, x, module), results(module, x, module)):
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiles_as_one_graph(dtype):
    module = feedforward(dtype)
    compiled = torch.compile(
        lambda x: blockwise_feedforward(module, x, 8), backend="aot_eager", fullgraph=True
    )
    x = inputs.random((20, WIDTH), dtype, "x").requires_grad_()
    plain = results(lambda x: blockwise_feedforward(module, x, 8), x, module)
    close = {} if dtype == torch.float32 else dict(rtol=0.05, atol=0.05)
    for ours, expected in zip(results(compiled, x, module), plain):
        torch.testing.assert_close(ours, expected, **close)


class Layer(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.feedforward = feedforward(dtype)

    def forward(self, x):
        return blockwise_feedforward(self.feedforward, x, 8)


def loss_of(out):
    return out.float().square().sum()


SHARDED = [  # dtype of the parameters, dtype they are gathered in, whether the module is a unit too
    (torch.float32, None, False),
    (torch.bfloat16, None, False),
    (torch.float32, torch.bfloat16, False),
    (torch.float32, None, True),
    (torch.bfloat16, None, True),
]


def sharded_gradients(rank):
    """Of FSDP, for each of SHARDED; each rank has one sequence."""
    gradients = []
    for dtype, gathered, module_is_unit in SHARDED:
        layer, policy = Layer(dtype), MixedPrecisionPolicy(param_dtype=gathered)
        if module_is_unit:
            fully_shard(layer.feedforward, mp_policy=policy)
        fully_shard(layer, mp_policy=policy)
        loss_of(layer(sequences(dtype)[rank : rank + 1])).backward()
        gradients.append([p.grad.full_tensor() for p in layer.parameters()])
    return gradients


def sequences(dtype):
    return inputs.random((2, 100, WIDTH), torch.bfloat16, "x").to(dtype)


def test_sharded_parameters(tmp_path):
    gradients, _ = processes.run(2, sharded_gradients, tmp_path)
    for (dtype, gathered, module_is_unit), ours in zip(SHARDED, gradients, strict=True):
        whole = Layer(dtype).double()
        loss_of(whole(sequences(torch.float64))).backward()
        # Where the module is gathered for each chunk, its gradients are scattered for each chunk.
        narrow = torch.bfloat16 in (dtype, gathered)
        bound = (0.05 if module_is_unit else 0.01) if narrow else 1e-6
        for mine, parameter in zip(ours, whole.parameters(), strict=True):
            error = (2 * mine.double() - parameter.grad).abs().max() / parameter.grad.abs().max()
            assert error < bound, f"{dtype} {gathered} {module_is_unit}: {error}"


def test_lengths_and_chunk_sizes_may_change_under_compile():
    module = feedforward()
    compiled = torch.compile(blockwise_feedforward, backend="aot_eager")
    for length, chunk_size in ((10, 3), (11, 4), (30, 5), (3, 5)):
        x = torch.randn(1, length, WIDTH, requires_grad=True)
        torch.testing.assert_close(compiled(module, x, chunk_size), module(x))


def test_chunk_sizes_of_numpy():
    module, x = feedforward(), torch.randn(1, 10, WIDTH)
    torch.testing.assert_close(blockwise_feedforward(module, x, numpy.int64(3)), module(x))


def forward_and_backward(function, x):
    out = function(x)
    out.backward(torch.ones_like(out))


def test_nothing_is_kept_but_the_input():
    module = feedforward(hidden=512)
    x = torch.randn(1, 4096, WIDTH, requires_grad=True)
    assert saved_bytes(lambda: blockwise_feedforward(module, x, 64)) == x.nbytes
    assert saved_bytes(lambda: module(x)) > 64 * x.nbytes


def test_peak_memory_is_that_of_a_chunk():
    """Beyond results as long as x: the module's inside grows with the chunk, not the length."""
    module = feedforward(hidden=2048)

    def inside(length, chunk_size):
        x = torch.randn(1, length, WIDTH, requires_grad=True)
        peak = peak_bytes(
            lambda: forward_and_backward(lambda x: blockwise_feedforward(module, x, chunk_size), x)
        )
        return peak - 5 * x.nbytes  # out and dx, in chunks and joined, and dout

    assert inside(1024, 128) < 8 * MIB  # of which 4 chunk * hidden
    assert inside(4096, 128) < 1.1 * inside(1024, 128)
    assert inside(4096, 1024) > 3 * inside(4096, 128)
    assert inside(4096, 4096) > 12 * inside(4096, 128)


@pytest.mark.parametrize(
    "chunk_size, error, words",
    [
        (0, ValueError, "at least 1, got 0"),
        (-4, ValueError, "at least 1, got -4"),
        (2.0, TypeError, "an integer, got 2.0"),
        (True, TypeError, "an integer, got True"),
        (None, TypeError, "an integer, got None"),
    ],
)
def test_chunk_sizes_that_are_none(chunk_size, error, words):
    with pytest.raises(error, match=words):
        blockwise_feedforward(feedforward(), torch.ones(4, WIDTH), chunk_size)


def test_what_is_refused():
    x = torch.ones(4, WIDTH)
    with pytest.raises(TypeError, match="module must be callable, got int"):
        blockwise_feedforward(3, x, 2)
    with pytest.raises(TypeError, match="x must be a torch.Tensor, got list"):
        blockwise_feedforward(feedforward(), [1.0], 2)
    with pytest.raises(ValueError, match=r"\[..., length, width\], got \(16,\)"):
        blockwise_feedforward(feedforward(), x[0], 2)
    with pytest.raises(ValueError, match=r"mapped \(2, 16\) to \(16,\)"):
        blockwise_feedforward(lambda chunk: chunk.sum(0), x, 2)
    with pytest.raises(ValueError, match=r"mapped \(2, 16\) to tuple"):
        blockwise_feedforward(lambda chunk: (chunk, chunk), x, 2)
    mixing = nn.Sequential(nn.BatchNorm1d(WIDTH))
    with pytest.raises(NotImplementedError, match="BatchNorm1d in training mode"):
        blockwise_feedforward(mixing, x, 2)
    torch.testing.assert_close(blockwise_feedforward(mixing.eval(), x, 2), mixing(x))
