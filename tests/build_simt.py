# SPDX-License-Identifier: BSD-3-Clause
"""Builds the Python module _simt, the CUDA engine on the emulator, and loads it."""

import importlib.machinery
import importlib.util
import itertools
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOADED = itertools.count()


def build_and_load(folder: pathlib.Path, source: pathlib.Path = ROOT):
    """The module, built in `folder`; a set LONGATTN_SIMT_BUILD names a folder to build in again."""
    folder = pathlib.Path(os.environ.get("LONGATTN_SIMT_BUILD", folder))
    build(folder, source)
    (path,) = folder.glob("tests/simt/_simt*.so")
    # pybind11 gives the first module again to who loads another one of the same full name.
    name = f"emulator_{next(LOADED)}._simt"
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


def build(folder: pathlib.Path, source: pathlib.Path) -> None:
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    run("cmake", "-S", str(source), "-B", str(folder), *generator, *settings())
    run("cmake", "--build", str(folder), "--target", "_simt", "--parallel", str(os.cpu_count()))


def settings() -> list:
    return [
        "-DLONGATTN_PYTHON=OFF",
        "-DLONGATTN_TESTS=ON",
        "-DLONGATTN_SIMT_MODULE=ON",
        f"-DPython_EXECUTABLE={sys.executable}",
    ]


def run(*command) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}\n{result.stderr}"
