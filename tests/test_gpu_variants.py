# SPDX-License-Identifier: BSD-3-Clause
"""On a GPU: the small calls that compute-sanitizer is shown launch every kernel of the module."""

import re

import pytest
import torch

import bench_modules
import gpu_support
from bench import cuda_static
from longattn import native

pytestmark = gpu_support.marks


def short(name: str) -> str:
    """`forward_kernel<0,__half,...>` of a demangled name, which tools space each in its own way."""
    found = re.search(r"longattn::cuda::(\w+_kernel(?:<.*>)?)\(", name)
    return re.sub(r"\s|longattn::cuda::", "", found[1]) if found else ""


def compiled_kernels() -> set:
    """Of the native module, whatever it was compiled for."""
    cuobjdump, path = cuda_static.disassembler()
    if cuobjdump is None:
        pytest.skip("cuobjdump and nvdisasm were not found")
    listing = cuda_static.run(
        cuobjdump, "--dump-resource-usage", native.module().__file__, env={"PATH": path}
    )
    symbols = re.findall(r"Function (\w+):", listing)
    return {short(name) for name in cuda_static.run("c++filt", *symbols).splitlines()}


def launched_kernels(call) -> set:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
        torch.cuda.synchronize()
    return {short(event.key) for event in profile.key_averages()} - {""}


def test_small_calls_launch_every_kernel():
    small = bench_modules.load("gpu_small")
    compiled = compiled_kernels()
    assert len(compiled) > 20
    launched = launched_kernels(small.every_variant)
    if not launched:
        small.every_variant()
        pytest.skip("torch's profiler sees no kernels on this machine")
    assert sorted(compiled - launched) == []
