# SPDX-License-Identifier: BSD-3-Clause
"""Gates on the compiled CUDA kernels: no spills, registers, code and shared memory under caps,
tensor core instructions in the machine code. Needs nvcc; no GPU."""

from typing import NamedTuple

import pytest

from bench import cuda_static

pytestmark = pytest.mark.skipif(
    cuda_static.nvcc() is None,
    reason="nvcc was not found on the PATH, in CUDA_HOME or in /usr/local/cuda",
)


class Caps(NamedTuple):
    """Of a kernel, for every type and architecture; what is granted comes in steps of 8."""

    registers: int
    code_kib: int
    blocks: int  # of a multiprocessor, at least


PLAIN, GENERAL = "Plain", "General"  # rules of scores
CAPS = {
    ("forward", 0, PLAIN): Caps(128, 80, 2),
    ("forward", 0, GENERAL): Caps(128, 94, 2),
    ("forward", 1, PLAIN): Caps(184, 90, 1),
    ("forward", 1, GENERAL): Caps(192, 104, 1),
    ("query_gradient", 0, PLAIN): Caps(168, 70, 3),
    ("query_gradient", 0, GENERAL): Caps(168, 90, 3),
    ("query_gradient", 1, PLAIN): Caps(248, 82, 1),
    ("query_gradient", 1, GENERAL): Caps(248, 100, 1),
    ("key_gradient", 0, PLAIN): Caps(216, 104, 2),
    ("key_gradient", 0, GENERAL): Caps(255, 124, 2),
    ("key_gradient", 1, PLAIN): Caps(255, 120, 2),
    ("key_gradient", 1, GENERAL): Caps(255, 132, 2),
    ("bias_gradient", 0, None): Caps(255, 108, 2),
    ("bias_gradient", 1, None): Caps(255, 112, 2),
    ("row_dot", None, None): Caps(32, 6, 16),
    ("add_slices", None, None): Caps(56, 40, 8),
    ("longest_sequence", None, None): Caps(32, 8, 2),
    ("rotate", None, None): Caps(96, 36, 2),
    ("rotate_backward", None, None): Caps(120, 38, 2),
    ("add_biases", None, None): Caps(32, 4, 8),
}
KERNELS = {(name, config) for name, config, _ in CAPS}
MOST_SHARED_BYTES = 99 * 1024  # a block's limit on sm_86, sm_89 and sm_120

# Types that each kernel is compiled for. Every further one costs build time and size.
ELEMENTS = {"bfloat16", "half"}
SCORES = (PLAIN, GENERAL)  # biases, caps and odd scales share one variant
TYPES = {
    "forward": {
        f"{element}, {way}, {scores}"
        for element in ELEMENTS
        for way in ("Store", "Merge")
        for scores in SCORES
    },
    "query_gradient": {f"{element}, {scores}" for element in ELEMENTS for scores in SCORES},
    "key_gradient": {f"{element}, {scores}" for element in ELEMENTS for scores in SCORES},
    "bias_gradient": ELEMENTS,
    "row_dot": {f"{element}, {out}" for element in ELEMENTS for out in (element, "float")},
    "add_slices": {""},
    "longest_sequence": {""},
    "rotate": ELEMENTS | {"float"},
    "rotate_backward": ELEMENTS | {"float"},
    "add_biases": {""},
}
ARCHITECTURES = ("80", "90a")  # what wheels hold, and the GPU that is measured
MULTIPLIES = ("forward", "query_gradient", "key_gradient")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cuda_static")


@pytest.fixture(scope="module")
def kernels(folder):
    return cuda_static.compile_kernels(folder, *ARCHITECTURES)


@pytest.fixture(scope="module")
def launches(folder):
    return cuda_static.read_launches(folder)


def test_variants_are_the_listed_ones(kernels):
    expected = {(name, config, types) for name, config in KERNELS for types in TYPES[name]}
    for architecture in ARCHITECTURES:
        found = [
            (kernel.name, kernel.config, kernel.types)
            for kernel in kernels
            if kernel.architecture == architecture
        ]
        assert len(found) == len(set(found)) == 49
        assert set(found) == expected


def test_nothing_spills_and_nothing_lies_on_a_stack(kernels):
    assert kernels
    spilled = [str(kernel) for kernel in kernels if kernel.spilled_bytes or kernel.stack_bytes]
    assert spilled == []


def caps_of(kernel) -> Caps:
    rule = next((rule for rule in SCORES if kernel.types.endswith(rule)), None)
    return CAPS[kernel.name, kernel.config, rule]


def test_registers_and_code_stay_under_their_caps(kernels):
    assert kernels
    above = []
    for kernel in kernels:
        caps, code_kib = caps_of(kernel), kernel.code_bytes / 1024
        if kernel.registers > caps.registers or not 0 < code_kib <= caps.code_kib:
            above.append(
                f"{kernel} for sm_{kernel.architecture} takes {kernel.registers} registers and "
                f"{code_kib:.1f} KiB of code; its caps are {caps.registers} and {caps.code_kib}"
            )
    assert above == []


def test_shared_memory_fits_every_gpu(kernels, launches):
    assert set(launches) == KERNELS
    for kernel in kernels:
        launch = launches[kernel.name, kernel.config]
        total = launch.shared_bytes + kernel.static_shared_bytes
        assert total <= MOST_SHARED_BYTES, f"{kernel} needs {total} bytes"
        if kernel.name in MULTIPLIES:  # keys and values, two stages of 16 bits: no less will do
            assert launch.shared_bytes >= 4 * 32 * launch.head_dim * 2


def test_as_many_blocks_fit_as_there_should(kernels, launches, capsys):
    for kernel in kernels:
        launch = launches[kernel.name, kernel.config]
        blocks = cuda_static.blocks_per_multiprocessor(kernel, launch)
        assert blocks >= caps_of(kernel).blocks, f"{kernel}: {blocks} blocks"
    with capsys.disabled():
        print("\n" + cuda_static.table(kernels, launches))


def test_occupancy_is_that_of_the_scarcest_resource():
    """On compute capability 8.0, worked out by hand."""
    for registers, threads, shared_bytes, blocks in (
        (32, 128, 0, 16),  # as many threads as there can be
        (255, 128, 0, 2),  # registers: 8 warps fit
        (168, 128, 48 * 1024, 3),  # both
        (232, 128, 96 * 1024, 1),  # shared memory
        (64, 32, 0, 32),  # blocks
    ):
        kernel = cuda_static.Kernel("80", "", "", None, "", registers, 0, 0, 0, 0)
        launch = cuda_static.Launch(64, threads, shared_bytes)
        assert cuda_static.blocks_per_multiprocessor(kernel, launch) == blocks


def test_machine_code_multiplies_on_tensor_cores(kernels, folder):
    if cuda_static.disassembler()[0] is None:
        pytest.skip(
            "cuobjdump and nvdisasm were found neither beside nvcc nor in the packages "
            "nvidia-cuda-cuobjdump, nvidia-cuda-nvdisasm and triton"
        )
    code = cuda_static.instructions(folder)
    assert set(code) == {(kernel.architecture, kernel.symbol) for kernel in kernels}
    for kernel in kernels:
        found = code[kernel.architecture, kernel.symbol]
        # Local memory: what ptxas does not count as spills would show here.
        assert not [name for name in found if name.startswith(("LDL", "STL"))], str(kernel)
        if kernel.name not in MULTIPLIES:
            continue
        product = "HMMA.16816.F32" + (".BF16" if "bfloat16" in kernel.types else "")
        missing = {product, "LDSM.16.M88.4", "LDSM.16.MT88.4", "LDGSTS.E.BYPASS.128"} - found
        assert not missing, f"{kernel} has no {', '.join(sorted(missing))}"
