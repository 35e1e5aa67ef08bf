# SPDX-License-Identifier: BSD-3-Clause
"""What the compiler makes of the CUDA kernels: registers, spills, shared memory, occupancy and
machine code. Needs nvcc and no GPU. `python -m bench sass` prints the table."""

import dataclasses
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = "longattn_cuda_sm80"  # the kernels, without what they are linked with

# Limits of a multiprocessor (CUDA C++ programming guide, "technical specifications per compute
# capability"): threads, blocks, KiB of shared memory. All of them have 65536 registers.
MULTIPROCESSORS = {
    "80": (2048, 32, 164),
    "86": (1536, 16, 100),
    "87": (1536, 16, 164),
    "89": (1536, 24, 100),
    "90": (2048, 32, 228),
    "100": (2048, 32, 228),
    "120": (1536, 24, 100),
}
REGISTERS = 65536
RESERVED_SHARED_BYTES = 1024  # of every block, by the system


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A compiled kernel; `config` is its index in the list of configurations, or None."""

    architecture: str  # such as "90a"
    symbol: str
    name: str
    config: int | None
    types: str
    registers: int
    stack_bytes: int
    spilled_bytes: int
    static_shared_bytes: int
    code_bytes: int

    def __str__(self):
        return _joined(self.name, self.config, self.types)


@dataclasses.dataclass(frozen=True)
class Launch:
    """What the host launches a kernel with."""

    head_dim: int
    threads: int
    shared_bytes: int


def nvcc() -> str | None:
    """nvcc, where cmake/cuda.cmake looks for it."""
    places = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    found = [os.environ.get("CUDACXX"), shutil.which("nvcc")]
    found += [shutil.which("nvcc", path=f"{place}/bin") for place in (*places, "/usr/local/cuda")]
    return next((path for path in found if path), None)


def run(*command, **keywords) -> str:
    """Its output; AssertionError with everything it said where it fails."""
    result = subprocess.run(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **keywords
    )
    assert result.returncode == 0, f"{' '.join(map(str, command))}\n{result.stdout}"
    return result.stdout


def compile_kernels(folder: pathlib.Path, *architectures: str) -> list:
    """Every kernel, compiled in `folder` by the build's own rules; each file once for all
    architectures."""
    ninja = ["-G", "Ninja"] if shutil.which("ninja") else []
    kept = folder / "kept"
    kept.mkdir(parents=True, exist_ok=True)
    wanted = ",".join(f"{architecture}-real" for architecture in architectures)
    run(
        "cmake", "-S", str(ROOT), "-B", str(folder), *ninja,
        "-DLONGATTN_CUDA=ON", f"-DLONGATTN_CUDA_ARCHITECTURES={wanted}",
        "-DLONGATTN_ISAS=baseline", f"-DCMAKE_CUDA_FLAGS=-Xptxas=-v --keep --keep-dir {kept}",
        f"-DCMAKE_CUDA_COMPILER={nvcc()}", f"-DPython_EXECUTABLE={sys.executable}",
    )  # fmt: skip
    jobs = str(min(os.cpu_count() or 1, 3))  # as many as there are files
    output = run("cmake", "--build", str(folder), "--target", TARGET, "-j", jobs)
    return read_kernels(output, code_sizes(kept, architectures))


def code_sizes(kept: pathlib.Path, architectures: tuple) -> dict:
    """(architecture, symbol of a kernel) -> bytes of its machine code, in the cubins of `kept`."""
    sizes = {}
    for path in kept.glob("*.cubin"):
        named = re.search(r"\.compute_(\w+)\.cubin$", path.name)  # where there are several
        architecture = named[1] if named else architectures[0]
        sections = run("readelf", "--sections", "--wide", str(path))
        for symbol, size in re.findall(
            r"\s\.text\.(\w+)\s+PROGBITS\s+[0-9a-f]+\s+[0-9a-f]+\s+([0-9a-f]+)\s", sections
        ):
            sizes[architecture, symbol] = int(size, 16)
    return sizes


def read_kernels(output: str, sizes: dict) -> list:
    """From what `ptxas -v` says, and from `code_sizes`."""
    kernels = []
    pieces = re.split(r"Compiling entry function '(\w+)' for 'sm_(\w+)'", output)
    for symbol, architecture, text in zip(pieces[1::3], pieces[2::3], pieces[3::3]):
        # A function that was not inlined has properties of its own, before those of the kernel.
        stack, stores, loads = map(sum, zip(*(
            map(int, numbers) for numbers in re.findall(
                r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", text
            )
        )))  # fmt: skip
        registers = int(re.search(r"Used (\d+) registers", text)[1])
        shared = re.search(r"(\d+) bytes smem", text)
        shared_bytes = int(shared[1]) if shared else 0
        kernels.append(
            Kernel(
                architecture,
                symbol,
                *_name(symbol),
                registers,
                stack,
                stores + loads,
                shared_bytes,
                sizes[architecture, symbol],
            )
        )
    return sorted(kernels, key=lambda kernel: (kernel.architecture, str(kernel)))


def kernel_name(symbol: str) -> str:
    """As it stands in tables."""
    return _joined(*_name(symbol))


def _joined(name: str, config: int | None, types: str) -> str:
    config = "" if config is None else f" {config}"
    return f"{name}{config}{f' <{types}>' if types else ''}"


def _name(symbol: str) -> tuple:
    """(name, configuration, types) of a kernel's mangled name."""
    full = run("c++filt", symbol).strip().replace("longattn::cuda::", "")
    name, arguments = re.fullmatch(r"(?:void )?(\w+)_kernel(?:<(.*)>)?\(.*", full).groups()
    short = re.sub(
        r"__nv_|__|(?<=Store)Epilogue<\w+ ?>|Epilogue|Scores", "", arguments or ""
    ).strip()
    config, _, types = short.partition(", ")
    return (name, int(config), types) if config.isdigit() else (name, None, short)


# Prints a line `name configuration head_dim threads shared_bytes` for every launch.
LAUNCHES = r"""
#include <iostream>
#include <iterator>
#include "cuda/backward/sm80/bias_gradient.cuh"
#include "cuda/backward/sm80/key_gradient.cuh"
#include "cuda/backward/sm80/query_gradient.cuh"
#include "cuda/forward/sm80/kernel.cuh"
#include "cuda/rotary/add_biases.cuh"
#include "cuda/rotary/kernel.cuh"
#include "cuda/row_dot/kernel.cuh"
#include "cuda/schedule/longest_sequence.cuh"
#include "cuda/scores/general.h"
using namespace longattn::cuda;

// The larger of a kernel's two: with a strip of the bias.
template <auto kConfig>
using Forward = ForwardShared<kConfig, GeneralScores>;
template <auto kConfig>
using QueryGradient = QueryGradientShared<kConfig, GeneralScores>;
template <auto kConfig>
using KeyGradient = KeyGradientShared<kConfig, GeneralScores>;
template <auto kConfig>
using Bias = BiasGradientShared<kConfig>;

template <template <auto> class Shared, auto& kConfigs, int kIndex = 0>
void print(const char* name) {
  if constexpr (kIndex < std::size(kConfigs)) {
    constexpr auto kConfig = kConfigs[kIndex];
    std::cout << name << ' ' << kIndex << ' ' << kConfig.head_dim << ' ' << kConfig.threads() << ' '
              << sizeof(Shared<kConfig>) << '\n';
    print<Shared, kConfigs, kIndex + 1>(name);
  }
}

int main() {
  print<Forward, kForwardConfigs>("forward");
  print<QueryGradient, kQueryGradientConfigs>("query_gradient");
  print<KeyGradient, kKeyGradientConfigs>("key_gradient");
  print<Bias, kBiasGradientConfigs>("bias_gradient");
  std::cout << "row_dot -1 128 " << kRowDotThreads << " 0\n";
  std::cout << "add_slices -1 128 " << kAddSlicesThreads << " 0\n";
  std::cout << "longest_sequence -1 128 " << kLongestSequenceThreads << ' '
            << sizeof(LongestSequenceShared) << '\n';
  // The most: planned by the problem.
  std::cout << "rotate -1 256 " << kMostRotaryThreads << ' ' << kTableBytes << '\n';
  std::cout << "rotate_backward -1 256 " << kMostRotaryThreads << ' ' << kTableBytes << '\n';
  std::cout << "add_biases -1 256 " << kAddBiasesThreads << ' ' << sizeof(AddBiasesShared) << '\n';
}
"""


def read_launches(folder: pathlib.Path) -> dict:
    """(name, configuration) -> Launch, from a host program that g++ builds with the emulator's
    headers: sizes of structs are the same there."""
    source, program = folder / "launches.cpp", folder / "launches"
    source.write_text(LAUNCHES)
    places = [f"-I{ROOT / place}" for place in ("tests/simt", "csrc/cuda", "csrc")]
    # Kernels that are no templates are compiled too: the linker drops them.
    unused = ("-ffunction-sections", "-Wl,--gc-sections")
    run("g++", "-std=c++20", "-w", *unused, *places, str(source), "-o", str(program))
    launches = {}
    for line in run(str(program)).splitlines():
        name, index, *numbers = line.split()
        launches[name, None if index == "-1" else int(index)] = Launch(*map(int, numbers))
    return launches


def blocks_per_multiprocessor(kernel: Kernel, launch: Launch) -> int:
    """By registers (granted to warps in units of 256, to four schedulers apart), shared memory and
    threads: CUDA's occupancy calculator."""
    most_threads, most_blocks, shared_kib = MULTIPROCESSORS[kernel.architecture.rstrip("af")]
    warps = launch.threads // 32
    registers_of_warp = -(-kernel.registers * 32 // 256) * 256
    by_registers = REGISTERS // registers_of_warp // 4 * 4 // warps
    shared = launch.shared_bytes + kernel.static_shared_bytes + RESERVED_SHARED_BYTES
    by_shared = shared_kib * 1024 // shared
    return min(by_registers, by_shared, most_threads // launch.threads, most_blocks)


def table(kernels: list, launches: dict) -> str:
    lines = [f"{'':34} sm dim threads registers spilled code KiB shared KiB  blocks occupancy"]
    for kernel in kernels:
        most_threads = MULTIPROCESSORS[kernel.architecture.rstrip("af")][0]
        launch = launches[kernel.name, kernel.config]
        blocks = blocks_per_multiprocessor(kernel, launch)
        shared_kib = (launch.shared_bytes + kernel.static_shared_bytes) / 1024
        lines.append(
            f"{kernel!s:33} {kernel.architecture:>3} {launch.head_dim:3} {launch.threads:7} "
            f"{kernel.registers:9} {kernel.spilled_bytes:7} {kernel.code_bytes / 1024:8.1f} "
            f"{shared_kib:10.1f} {blocks:7} "
            f"{blocks * launch.threads / most_threads:9.1%}"
        )
    return "\n".join(lines)


def disassembler() -> tuple:
    """(cuobjdump or None, folders to put on the PATH): it calls nvdisasm."""
    folders = [os.path.dirname(nvcc() or ""), "/usr/local/cuda/bin"]
    for package, pattern in (("nvidia", "*/bin"), ("triton", "backends/nvidia/bin")):
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            folders += map(str, pathlib.Path(place).glob(pattern))
    path = os.pathsep.join([os.environ.get("PATH", ""), *folders])
    has_both = shutil.which("nvdisasm", path=path) and shutil.which("cuobjdump", path=path)
    return (shutil.which("cuobjdump", path=path) if has_both else None), path


def objects(folder: pathlib.Path) -> list:
    """Files that `compile_kernels` made."""
    return sorted((folder / "CMakeFiles" / f"{TARGET}.dir").rglob("*.cu.o"))


# Such as `/*0110*/  @!P1 LDSM.16.M88.4 R8, [R4] ;`.
INSTRUCTION = r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)"


def instructions(folder: pathlib.Path) -> dict:
    """(architecture, symbol of a kernel) -> set of the machine instructions in it, with their
    modifiers."""
    cuobjdump, path = disassembler()
    found = {}
    for compiled in objects(folder):
        text = run(cuobjdump, "-sass", str(compiled), env={**os.environ, "PATH": path})
        for architecture, part in by_architecture(text):
            pieces = re.split(r"Function : (\w+)", part)
            for symbol, code in zip(pieces[1::2], pieces[2::2]):
                found[architecture, symbol] = set(re.findall(INSTRUCTION, code, re.MULTILINE))
    return found


def by_architecture(text: str) -> list:
    """What cuobjdump says, as pairs of an architecture and the text about it."""
    pieces = re.split(r"^arch = sm_(\w+)$", text, flags=re.MULTILINE)
    return list(zip(pieces[1::2], pieces[2::2]))
