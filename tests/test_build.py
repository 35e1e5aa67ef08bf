# SPDX-License-Identifier: BSD-3-Clause
"""The package builds from its sdist without torch, and refuses with a sentence where it must."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import longattn
from longattn import native

ROOT = Path(__file__).parents[1]
NOT_SOURCE = shutil.ignore_patterns(
    "longattn-demo", "longattn-extrapolation", ".git", ".ci", ".venv", "build", "dist",
    "*.egg-info", "*.so", "__pycache__", ".*cache*", ".hypothesis",
)  # fmt: skip

# Runs a hook of the build backend in a process where nobody can import torch.
BUILD = """
import sys
sys.modules["torch"] = None
from setuptools import build_meta
print(getattr(build_meta, sys.argv[1])(sys.argv[2]))
"""


def run(*command, cwd, **variables):
    environment = {**os.environ, **variables}
    environment.pop("LONGATTN_ISA", None)  # forces a tier that a small build may lack
    result = subprocess.run(
        command, cwd=cwd, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert result.returncode == 0, f"{command} failed:\n{result.stdout}"
    return result.stdout


def build(hook, source, **variables):
    """Runs `build_sdist` or `build_wheel` and returns the file it made."""
    output = source.parent / hook
    output.mkdir()
    run(sys.executable, "-c", BUILD, hook, str(output), cwd=source, **variables)
    (made,) = output.iterdir()
    return made


def tracked_files():
    """What git tracks here, without what only a checkout needs; None where ROOT is no checkout."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return None
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    return [Path(name) for name in names if not name.startswith((".ci/", ".gitignore"))] or None


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The sdist, unpacked. What else lies around in a checkout has no part in it."""
    copy = tmp_path_factory.mktemp("sdist") / "longattn"
    tracked = tracked_files()
    if tracked is None:
        shutil.copytree(ROOT, copy, ignore=NOT_SOURCE)
    for path in tracked or ():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, copy / path)
    with tarfile.open(build("build_sdist", copy)) as archive:
        unpacked = tmp_path_factory.mktemp("unpacked")
        archive.extractall(unpacked)
    (directory,) = unpacked.iterdir()
    return directory


@pytest.fixture(scope="module")
def wheel(sdist):
    """A wheel built from the sdist, for one instruction set and the CPU alone, to be quick."""
    one_row = "-DLONGATTN_ISAS=baseline"
    return build("build_wheel", sdist, LONGATTN_CUDA="OFF", CMAKE_ARGS=one_row)


def test_sdist_holds_every_source(sdist):
    tracked = tracked_files()
    if tracked is None:
        pytest.skip("without a git checkout nothing tells the sources from what lies beside them")
    packed = {path.relative_to(sdist) for path in sdist.rglob("*") if path.is_file()}
    assert not sorted(map(str, set(tracked) - packed))
    assert Path("csrc/api/bindings.cpp") in packed and Path("README.md") in packed


def test_wheel_from_sdist_works_and_is_lean(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    tops = {path.name for path in tmp_path.iterdir()}
    assert tops == {"longattn", f"longattn-{longattn.__version__}.dist-info"}
    metadata = (tmp_path / f"longattn-{longattn.__version__}.dist-info/METADATA").read_text()
    assert "License-Expression: BSD-3-Clause" in metadata
    assert "Requires-Dist: torch>=2.6" in metadata
    script = "import longattn.native as native; print(native.__file__, native.isa())"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    answer = run(sys.executable, "-c", script, cwd=elsewhere, PYTHONPATH=str(tmp_path))
    assert answer.split() == [str(tmp_path / "longattn/native.py"), "baseline"]


FIND_PACKAGE = """
import importlib.util, site, sys
site.addsitedir(sys.argv[1])
print(importlib.util.find_spec("longattn").origin)
"""


def test_editable_install_is_found_beside_the_clone(sdist, tmp_path):
    """Beside a clone named longattn its folder looks like a package without __init__.py, which
    hides what an import hook would find."""
    clone = tmp_path / "longattn"
    shutil.copytree(sdist, clone)
    module = native.module().__file__
    cmake = tmp_path / "bin" / "cmake"  # compiles nothing and installs the module that is here
    cmake.parent.mkdir()
    cmake.write_text(f'#!/bin/sh\n[ "$1" != --install ] || install -D -t "$6" "{module}"\n')
    cmake.chmod(0o755)
    path = f"{cmake.parent}{os.pathsep}{os.environ['PATH']}"
    with zipfile.ZipFile(build("build_editable", clone, PATH=path)) as archive:
        archive.extractall(tmp_path / "site")
    for start in (clone, clone.parent):
        # -S: without an installed longattn; PYTHONPATH could lead to one as well.
        found = run(sys.executable, "-S", "-c", FIND_PACKAGE, str(tmp_path / "site"), cwd=start,
                    PYTHONPATH="")  # fmt: skip
        assert found.strip() == str(clone / "longattn" / "__init__.py"), f"from {start}"
    assert (clone / "longattn" / Path(module).name).exists()


def test_installed_metadata_has_the_packages_version():
    try:
        installed = importlib.metadata.version("longattn")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("longattn runs from its source tree, there is no metadata")
    assert installed == longattn.__version__


@pytest.mark.skipif(sys.platform != "linux", reason="reads the module as an ELF file")
def test_module_needs_the_c_library_alone_and_shows_one_symbol():
    path = native.module().__file__
    needed = {
        line.split("[")[1].rstrip("]")
        for line in run("readelf", "--dynamic", path, cwd=ROOT).splitlines()
        if "(NEEDED)" in line
    }
    c_library = ("libc.so", "libm.so", "libdl.so", "librt.so", "libpthread.so", "ld-linux")
    assert not [name for name in needed if not name.startswith(c_library)]
    shown = run("nm", "--dynamic", "--defined-only", path, cwd=ROOT).split()
    assert shown[2::3] == ["PyInit__native"]


# ---- What CMake finds, leaves out or refuses. Only its configure step runs.


def configure(build_directory, *definitions, with_nvcc=False, path_first=None):
    """Configures in an environment without nvcc (unless asked for); returns (success, output)."""
    environment = {name: value for name, value in os.environ.items() if "CUDA" not in name}
    if path_first is not None:
        environment["PATH"] = f"{path_first}{os.pathsep}{environment['PATH']}"
    arguments = list(definitions)
    if not with_nvcc:
        places = [str(Path(shutil.which("nvcc") or "nvcc").parent), "/usr/local/cuda/bin"]
        arguments.append(f"-DCMAKE_IGNORE_PATH={';'.join(places)}")
    if shutil.which("ninja"):
        arguments += ["-G", "Ninja"]
    result = subprocess.run(
        ["cmake", "-S", str(ROOT), "-B", str(build_directory), "-DLONGATTN_ISAS=baseline",
         f"-DPython_EXECUTABLE={sys.executable}", *arguments],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return result.returncode == 0, " ".join(result.stdout.split())  # CMake wraps its lines


def test_a_missing_compiler_is_named_with_what_to_install(tmp_path, monkeypatch):
    """CMake looks where it knows that compilers are, on the PATH or not: it is told not to."""
    monkeypatch.delenv("CXX", raising=False)
    places = ["/usr/local/bin", "/usr/bin", "/bin", *os.environ["PATH"].split(os.pathsep)]
    tool = shutil.which("ninja") or shutil.which("make")
    success, output = configure(
        tmp_path / "build", f"-DCMAKE_IGNORE_PATH={';'.join(places)}",
        f"-DCMAKE_MAKE_PROGRAM={tool}", with_nvcc=True,
    )  # fmt: skip
    assert not success
    assert "No C++ compiler was found: install g++ or another one" in output
    assert output.count("CMake Error") == 1 and "CMAKE_CXX_COMPILER" not in output


@pytest.fixture
def nvidia_smi(tmp_path):
    """A folder with an nvidia-smi: the trace of a driver, of a machine with two GPUs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "nvidia-smi"
    script.write_text("#!/bin/sh\necho 9.0\necho 8.6\necho 9.0\n")
    script.chmod(0o755)
    return folder


def test_cuda_on_without_nvcc_is_refused(tmp_path):
    success, output = configure(tmp_path / "build", "-DLONGATTN_CUDA=ON")
    assert not success
    assert "LONGATTN_CUDA is ON but nvcc was not found: install the CUDA toolkit" in output


def test_a_driver_without_nvcc_is_refused_and_off_accepts_it(tmp_path, nvidia_smi):
    success, output = configure(tmp_path / "auto", path_first=nvidia_smi)
    assert not success
    assert "This machine has an NVIDIA driver" in output and "but no nvcc" in output
    assert "set LONGATTN_CUDA=OFF" in output

    success, output = configure(tmp_path / "off", "-DLONGATTN_CUDA=OFF", path_first=nvidia_smi)
    assert success, output
    assert "CUDA: no, it was built with LONGATTN_CUDA=OFF" in output


def test_neither_driver_nor_nvcc_builds_for_the_cpu(tmp_path):
    success, output = configure(tmp_path / "build")
    if "This machine has an NVIDIA driver" in output:
        pytest.skip("this machine has an NVIDIA driver")
    assert success, output
    assert "CUDA: no, neither nvcc nor an NVIDIA driver was found" in output


@pytest.mark.parametrize(
    "definition, sentence",
    [
        ("-DLONGATTN_CUDA=maybe", "LONGATTN_CUDA is 'maybe'; it takes ON, OFF or AUTO."),
        ("-DLONGATTN_CUDA_ARCHITECTURES=hopper", "LONGATTN_CUDA_ARCHITECTURES holds 'hopper'"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, definition, sentence):
    if "ARCHITECTURES" in definition and shutil.which("nvcc") is None:
        pytest.skip("without nvcc the architectures are never read")
    success, output = configure(tmp_path / "build", definition, with_nvcc=True)
    assert not success
    assert sentence in output


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on this machine")
def test_gpus_of_this_machine_are_compiled_for(tmp_path, nvidia_smi):
    success, output = configure(tmp_path / "build", with_nvcc=True, path_first=nvidia_smi)
    assert success, output
    assert "for 90a-real;86-real (" in output


def test_the_oldest_cuda_is_the_same_for_toolkit_and_driver():
    build = (ROOT / "cmake/cuda.cmake").read_text()
    [enforced] = re.findall(r"COMPILER_VERSION VERSION_LESS (\S+)\)", build)
    told = set(re.findall(r"(?:toolkit|needs) (\d+\.\d+)", build))
    driver = re.search(r"kOldestVersion = (\d+);", (ROOT / "csrc/cuda/host/versions.h").read_text())
    major, minor = divmod(int(driver[1]) // 10, 100)
    assert told == {enforced} == {f"{major}.{minor}"}
