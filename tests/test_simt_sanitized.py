# SPDX-License-Identifier: BSD-3-Clause
"""The emulated kernels with AddressSanitizer and UBSan, as a program of their own: loaded into a
Python that was built without, sanitizers are fragile."""

import os
import pathlib
import shutil
import subprocess

import pytest

import build_simt

# Fibers leave their stacks without returning, which is no leak.
OPTIONS = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = pathlib.Path(
        os.environ.get("LONGATTN_SIMT_BUILD") or tmp_path_factory.mktemp("sanitized")
    )
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    configure = ["cmake", "-S", str(build_simt.ROOT), "-B", str(folder), *generator]
    build_simt.run(*configure, *build_simt.settings())
    target = ["--target", "simt_sanitized", "--parallel", str(os.cpu_count())]
    build_simt.run("cmake", "--build", str(folder), *target)
    return folder / "tests" / "simt" / "simt_sanitized"


def run(*command):
    environment = {**os.environ, **OPTIONS}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def test_engine(program):
    result = run(program)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"


def test_sanitizer_is_awake(program):
    """A kernel that writes beside its tensor is stopped, on the stack of a fiber too."""
    result = run(program, "overrun")
    assert result.returncode != 0, result.stdout
    assert "heap-buffer-overflow" in result.stderr, result.stderr
