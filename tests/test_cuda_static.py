# SPDX-License-Identifier: BSD-3-Clause
"""Gates on the compiled CUDA kernels: no spills, registers and shared memory under caps, tensor
core instructions in the machine code. Needs nvcc; no GPU."""

import pytest

from bench import cuda_static

pytestmark = pytest.mark.skipif(
    cuda_static.nvcc() is None,
    reason="nvcc was not found on the PATH, in CUDA_HOME or in /usr/local/cuda",
)

# Most registers of a kernel, by its configuration, in steps of 8 as they are granted.
# Of forward 0 two blocks fit a multiprocessor up to 128, of query_gradient 0 three up to 168.
MOST_REGISTERS = {
    ("forward", 0): 144,
    ("forward", 1): 216,
    ("query_gradient", 0): 184,
    ("query_gradient", 1): 255,
    ("key_gradient", 0): 255,
    ("key_gradient", 1): 255,
    ("bias_gradient", 0): 255,
    ("bias_gradient", 1): 255,
    ("row_dot", None): 32,
    ("add_slices", None): 32,
    ("rotate", None): 96,
    ("rotate_backward", None): 120,
    ("add_biases", None): 32,
}
MOST_SHARED_BYTES = 99 * 1024  # a block's limit on sm_86, sm_89 and sm_120

# Types that each kernel is compiled for. Every further one costs build time and size.
ELEMENTS = {"bfloat16", "half"}
SCORES = ("Plain", "General")  # biases, caps and odd scales share one variant
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
    "rotate": ELEMENTS | {"float"},
    "rotate_backward": ELEMENTS | {"float"},
    "add_biases": {""},
}
MULTIPLIES = ("forward", "query_gradient", "key_gradient")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cuda_static")


@pytest.fixture(scope="module")
def kernels(folder):
    return cuda_static.compile_kernels(folder)


@pytest.fixture(scope="module")
def launches(folder):
    return cuda_static.read_launches(folder)


def test_variants_are_the_listed_ones(kernels):
    expected = {(name, config, types) for name, config in MOST_REGISTERS for types in TYPES[name]}
    found = [(kernel.name, kernel.config, kernel.types) for kernel in kernels]
    assert len(found) == len(set(found)) == 48
    assert set(found) == expected


def test_nothing_spills_and_nothing_lies_on_a_stack(kernels):
    assert kernels
    spilled = [str(kernel) for kernel in kernels if kernel.spilled_bytes or kernel.stack_bytes]
    assert spilled == []


def test_registers_stay_under_their_caps(kernels):
    above = [
        f"{kernel} uses {kernel.registers} registers, its cap is {cap}"
        for kernel in kernels
        if kernel.registers > (cap := MOST_REGISTERS[kernel.name, kernel.config])
    ]
    assert kernels and above == []


def test_shared_memory_fits_every_gpu(kernels, launches):
    assert set(launches) == set(MOST_REGISTERS)
    for kernel in kernels:
        launch = launches[kernel.name, kernel.config]
        total = launch.shared_bytes + kernel.static_shared_bytes
        assert total <= MOST_SHARED_BYTES, f"{kernel} needs {total} bytes"
        if kernel.name in MULTIPLIES:  # keys and values, two stages of 16 bits: no less will do
            assert launch.shared_bytes >= 4 * 32 * launch.head_dim * 2


def test_every_kernel_fits_and_the_table_shows_it(kernels, launches, capsys):
    for kernel in kernels:
        launch = launches[kernel.name, kernel.config]
        assert cuda_static.blocks_per_multiprocessor(kernel, launch) >= 1, str(kernel)
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
        kernel = cuda_static.Kernel("", "", None, "", registers, 0, 0, 0)
        launch = cuda_static.Launch(64, threads, shared_bytes)
        assert cuda_static.blocks_per_multiprocessor(kernel, launch) == blocks


def test_machine_code_multiplies_on_tensor_cores(kernels, folder):
    if cuda_static.disassembler()[0] is None:
        pytest.skip(
            "cuobjdump and nvdisasm were found neither beside nvcc nor in the packages "
            "nvidia-cuda-cuobjdump, nvidia-cuda-nvdisasm and triton"
        )
    code = cuda_static.instructions(folder)
    assert set(code) == {kernel.symbol for kernel in kernels}
    for kernel in kernels:
        found = code[kernel.symbol]
        # Local memory: what ptxas does not count as spills would show here.
        assert not [name for name in found if name.startswith(("LDL", "STL"))], str(kernel)
        if kernel.name not in MULTIPLIES:
            continue
        product = "HMMA.16816.F32" + (".BF16" if "bfloat16" in kernel.types else "")
        missing = {product, "LDSM.16.M88.4", "LDSM.16.MT88.4", "LDGSTS.E.BYPASS.128"} - found
        assert not missing, f"{kernel} has no {', '.join(sorted(missing))}"
