# SPDX-License-Identifier: BSD-3-Clause
"""Hands the build of `longattn._native` to CMake; everything else stands in pyproject.toml.

Environment variables:
  LONGATTN_CUDA                 ON, OFF or AUTO (default): whether the CUDA sources are built
  LONGATTN_CUDA_ARCHITECTURES   such as 80-real,90a-real; default: the GPU's own, else a list
  MAX_JOBS                      compilers at a time (also CMAKE_BUILD_PARALLEL_LEVEL)
  CMAKE_ARGS                    further arguments of the CMake configure step
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import setuptools
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()

if int(setuptools.__version__.split(".")[0]) < 77:  # the first to read pyproject.toml's license
    sys.exit(
        f"longattn needs setuptools 77 or newer to build, this is {setuptools.__version__}: "
        "`pip install --upgrade setuptools`."
    )


def configure_arguments():
    """All of them every time: a build directory remembers the tools of an earlier isolated build,
    which are gone, and settings that are no longer set."""
    try:
        import pybind11
    except ImportError:
        sys.exit("longattn needs pybind11 2.12 or newer to build: `pip install pybind11`.")
    arguments = [
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        "-DCMAKE_BUILD_TYPE=Release",
    ]
    ninja = shutil.which("ninja")
    if ninja:
        arguments += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    arguments.append(f"-DLONGATTN_CUDA={os.environ.get('LONGATTN_CUDA') or 'AUTO'}")
    architectures = os.environ.get("LONGATTN_CUDA_ARCHITECTURES", "")
    arguments.append(f"-DLONGATTN_CUDA_ARCHITECTURES={architectures}")
    return arguments + shlex.split(os.environ.get("CMAKE_ARGS", ""))


def parallel_jobs():
    for name in ("CMAKE_BUILD_PARALLEL_LEVEL", "MAX_JOBS"):
        if os.environ.get(name):
            return os.environ[name]
    return str(os.cpu_count() or 1)


def run_cmake(*arguments):
    if shutil.which("cmake") is None:
        sys.exit("longattn needs CMake 3.24 or newer to build: `pip install cmake`.")
    code = subprocess.run(["cmake", *arguments]).returncode
    if code != 0:
        sys.exit(f"longattn: `cmake {shlex.join(arguments)}` failed; the reason stands above.")


class BuildWithCMake(build_ext):
    def finalize_options(self):
        super().finalize_options()
        self.incremental = bool(self.inplace)  # build_ext.run() resets `inplace`

    def build_extension(self, extension):
        package_directory = Path(self.get_ext_fullpath(extension.name)).parent.resolve()
        # A wheel starts afresh; a build in place (also by `pip install -e`) goes on where the last
        # one stopped.
        if self.incremental:
            build, fresh = ROOT / "build" / f"inplace-{sysconfig.get_config_var('SOABI')}", []
        else:
            build, fresh = Path(self.build_temp).resolve() / "native", ["--fresh"]
        run_cmake("-S", str(ROOT), "-B", str(build), *fresh, *configure_arguments())
        run_cmake("--build", str(build), "--parallel", parallel_jobs())
        run_cmake("--install", str(build), "--component", "python",
                  "--prefix", str(package_directory))  # fmt: skip


setup(
    ext_modules=[Extension("longattn._native", sources=[])],
    cmdclass={"build_ext": BuildWithCMake},
)
