# SPDX-License-Identifier: BSD-3-Clause
"""Whether CUDA can be used is asked of the tensors' own GPU: a machine may hold several."""

import types
from unittest import mock

import pytest
import torch

from longattn import backends, native

TOO_OLD = "its compute capability is 7.0 and this build holds code for 80-real"


def machine(reasons, reason=None):
    """A native module with CUDA on a machine with these GPUs; None: one that can be used."""
    return types.SimpleNamespace(
        cuda=object(),
        cuda_reason=mock.Mock(return_value=reason),
        cuda_devices=mock.Mock(return_value=[{"reason": each} for each in reasons]),
    )


@pytest.fixture
def on(monkeypatch):
    """on(module): the native module is this one, and has not been asked yet."""

    def replace(module):
        native._ask_for_cuda.cache_clear()
        monkeypatch.setattr(native, "_native", module)
        return module

    yield replace
    native._ask_for_cuda.cache_clear()


def test_a_gpu_that_is_too_old_is_refused_beside_one_that_is_not(on):
    on(machine([None, TOO_OLD]))
    assert backends.choose(None, torch.device("cuda", 0)).name == "cuda"
    with pytest.raises(NotImplementedError, match=r"cannot be used on cuda:1: its compute .* 7\.0"):
        backends.choose(None, torch.device("cuda", 1))


def test_a_reason_that_holds_for_all_gpus_names_none(on):
    on(machine([None], reason="the NVIDIA driver runs CUDA up to 12.0"))
    with pytest.raises(NotImplementedError, match="cannot be used: the NVIDIA driver"):
        backends.choose("cuda", torch.device("cuda", 0))


def test_the_driver_is_asked_once(on):
    module = on(machine([None, TOO_OLD]))
    for _ in range(3):
        backends.choose(None, torch.device("cuda", 0))
    assert module.cuda_reason.call_count == module.cuda_devices.call_count == 1


def test_compile_asks_of_the_device_too(on):
    on(machine([None, TOO_OLD]))

    @torch.compile(fullgraph=True, backend="eager")
    def chosen(device, x):
        return x + len(backends.choose(None, device).name)

    assert chosen(torch.device("cuda", 0), torch.zeros(1)) == 4
    with pytest.raises(Exception, match="cannot be used on cuda:1"):
        chosen(torch.device("cuda", 1), torch.zeros(1))
