# SPDX-License-Identifier: BSD-3-Clause
"""Where a ring runs on a GPU, the host waits for nothing. Told by tensors without numbers, on the
device "meta", which like those of a GPU cannot be read: nothing is read back, nothing comes from
the host, and the engine is given tensors of the device alone."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import longattn
from longattn import backends, ring
from longattn.masks import Causal, Groups, Window
from rings import LAYOUTS

DEVICE = "meta"
LENGTH, HEADS, KV_HEADS = 61, 4, 2


class Watch(TorchDispatchMode):
    """Refuses operations with tensors of another device, or with such as no operation made: lists
    that are used as indices, torch.tensor(numbers). Their way to a GPU would be waited for."""

    # Memory, and what keeps it, so that none is used again; of all tests, as biases keep tables.
    made = {}

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        for tensor in tensors_in((arguments, keywords)):
            self.check(tensor, function)
        results = function(*arguments, **(keywords or {}))
        for tensor in tensors_in(results):
            self.made[memory_of(tensor)] = tensor.untyped_storage()
            self.check(tensor, function)
        return results

    def check(self, tensor, user) -> None:
        assert tensor.device.type == DEVICE, f"{user} with a tensor on {tensor.device}"
        assert memory_of(tensor) in self.made, f"{user} with a tensor that comes from the host"


def tensors_in(values) -> list:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


def memory_of(tensor) -> int:
    return tensor.untyped_storage()._cdata


class Engine:
    """Computes nothing."""

    def __init__(self, watch: Watch):
        self.watch, self.calls = watch, 0

    def module(self):
        return self

    def run(self, *arguments, **keywords) -> None:
        for tensor in tensors_in((arguments, keywords)):
            self.watch.check(tensor, "the engine")
        self.calls += 1

    forward = backward = row_dot = run

    def backward_sizes(self, *problem) -> tuple:
        return 64, 2


@pytest.fixture
def watch(monkeypatch):
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # "meta" has none
    with Watch() as mode:
        engine = Engine(mode)
        backend = backends.get("cuda")._replace(
            name=DEVICE, device_type=DEVICE, engine=engine, alignment=1
        )
        monkeypatch.setattr(backends, "_backends", {**backends._backends, DEVICE: backend})
        yield mode
    assert engine.calls > 2


@pytest.mark.parametrize(
    "planted, told",
    [
        (lambda x: x + x.sum().item(), "item"),
        (lambda x: x[:, [0, 1]], "comes from the host"),
        (lambda x: x + torch.tensor([1.0], device=DEVICE), "comes from the host"),
        (lambda x: x + torch.ones(1, device="cpu"), "on cpu"),
    ],
)
def test_a_planted_wait_is_seen(planted, told):
    with Watch(), pytest.raises((AssertionError, RuntimeError), match=told):
        planted(torch.ones(2, 3, device=DEVICE))


def on_gpu(*shape, dtype=torch.bfloat16):
    return torch.empty(shape, dtype=dtype, device=DEVICE, requires_grad=True)


def qkv():
    return [on_gpu(2, LENGTH, heads, 16) for heads in (HEADS, KV_HEADS, KV_HEADS)]


def learned(*shape):
    return on_gpu(*shape, dtype=torch.float32)


BIASES = {
    "none": lambda: None,
    "ALiBi": longattn.Alibi,
    "learned ALiBi": lambda: longattn.Alibi(learned(HEADS)),
    "KERPLE": lambda: longattn.Kerple(learned(HEADS), learned(HEADS)),
    "table": lambda: longattn.RelativeBias(learned(HEADS, 30), origin=9),
    "Sandwich": longattn.Sandwich,
}


def go_back(outs) -> None:
    plan_outs = outs if isinstance(outs, (list, tuple)) else [outs]
    sum(out.float().sum() for out in plan_outs).backward()


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_attention(watch, layout, bias):
    plan = ring.plan(LENGTH, ring.VirtualRing(4), layout)
    plan.positions(DEVICE)
    for mask in (Causal(), Window(9, sink_tokens=3), Groups(24, shift=(0, 0, 12, 12))):
        outs, lses = plan.attention(
            *map(plan.shard, qkv()),
            mask,
            bias=BIASES[bias](),
            softcap=9.0,
            sink_logits=learned(HEADS),
            return_lse=True,
        )
        go_back([plan.unshard(outs), plan.unshard(lses, 2)])


def test_packed_documents(watch):
    plan = ring.plan(LENGTH, ring.VirtualRing(3), "zigzag", cu_seqlens=[0, 7, 7, 40, LENGTH])
    go_back(plan.attention(*map(plan.shard, qkv()), Causal(), bias=longattn.Alibi()))


def test_mesh(watch):
    plan = ring.plan(LENGTH, ring.VirtualMesh(2, 2), "zigzag")
    outs, lses = plan.attention(*map(plan.shard, qkv()), Causal(), return_lse=True)
    go_back(outs + lses)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_decode(watch, layout):
    plan = ring.plan(LENGTH, ring.VirtualRing(3), layout)
    with torch.no_grad():
        q, k, v = qkv()
        keys = [plan.shard(x) for x in (k, v)]
        for mask in (Causal(), Window(20, sink_tokens=4)):
            plan.decode(
                *(q[:, -2:], *keys, mask),
                q_start=LENGTH - 2,
                bias=BIASES["table"](),
                sink_logits=learned(HEADS),
            )


@pytest.mark.parametrize("detach_weights", (False, True))
@pytest.mark.parametrize("bias", ("none", "learned ALiBi", "KERPLE"))
def test_dilated_attention(watch, bias, detach_weights):
    plan = ring.plan(LENGTH, ring.VirtualRing(3), "contiguous")
    outs = longattn.dilated_attention(
        *map(plan.shard, qkv()),
        (16, 32, 61),
        (1, 2, 3),
        plan=plan,
        bias=BIASES[bias](),
        detach_weights=detach_weights,
        sink_logits=None if detach_weights else learned(HEADS),
    )
    go_back(outs)
