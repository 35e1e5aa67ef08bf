# SPDX-License-Identifier: BSD-3-Clause
"""Builds and runs the C++ tests of tests/native, and checks what the per-ISA objects define."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = re.findall(r"longattn_isa\((\w+)", (ROOT / "cmake/cpu_isa.cmake").read_text())


def programs():
    """The names under which CMake registers the tests: one a file, or one a file and ISA."""
    for path in sorted((ROOT / "tests/native").glob("test_*.cpp")):
        per_isa = "LONGATTN_ISA" in path.read_text()
        yield from (f"{path.stem}.{row}" for row in ROWS) if per_isa else (path.stem,)


def run(*command):
    result = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert result.returncode == 0, f"{' '.join(command)} failed:\n{result.stdout}"
    return result.stdout


@pytest.fixture(scope="module")
def native_build(tmp_path_factory):
    """A build directory with the C++ tests and the CPU engine, without Python and CUDA."""
    directory = tmp_path_factory.mktemp("native")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    run("cmake", "-S", str(ROOT), "-B", str(directory), *generator,
        "-DCMAKE_BUILD_TYPE=Release", "-DLONGATTN_PYTHON=OFF", "-DLONGATTN_TESTS=ON")  # fmt: skip
    jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(os.cpu_count())
    run("cmake", "--build", str(directory), "--parallel", jobs)
    return directory


@pytest.mark.parametrize("program", list(programs()))
def test_program(native_build, program):
    if "." in program and not (native_build / "tests/native" / program).exists():
        pytest.skip("this compiler cannot build this instruction set")
    output = run(
        "ctest", "--test-dir", str(native_build), "--tests-regex", f"^{re.escape(program)}$",
        "--output-on-failure", "--no-tests=error",
    )  # fmt: skip
    if "Skipped" in output:
        pytest.skip("this processor cannot run this instruction set")


def test_wide_instructions_stay_in_their_own_namespace(native_build):
    """An inline function or template is a weak symbol in every object that uses it, and the linker
    keeps any one copy. Were a function outside the row's inline namespace among them, `std::` or
    ours, the copy compiled for AVX-512 could run on a processor that has none: an illegal
    instruction far from its cause. Weak data (V, u) is harmless: its copies are the same.
    """
    objects = {
        re.search(r"longattn_cpu_(\w+)\.dir", str(path)).group(1): path
        for path in native_build.glob("CMakeFiles/longattn_cpu_*.dir/**/kernels.cpp.o*")
    }
    assert "baseline" in objects and set(objects) <= set(ROWS)
    strays = [
        f"{row}: {symbol}"
        for row, path in objects.items()
        for kind, symbol in re.findall(r"^\S+ (\w) (.*)$", run("nm", "-C", str(path)), re.M)
        if kind == "W" and f"longattn::{row}::" not in symbol
    ]
    assert not strays, "\n".join(strays)
