#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# bench/on_gpu.sh OUT: everything that only a machine with a GPU can tell, in at most 8 minutes.
#
# Builds in place and offline with what the machine has (torch, nvcc, pybind11, CMake, setuptools,
# pytest, hypothesis), then: tests, timings, compute-sanitizer, a profile. A part that fails or runs
# out of time leaves its log, and the next one begins; summary.log tells which. Fails if any did.
# PYTHON names the interpreter (python3), SECONDS_IN_ALL the time (480).
set -uo pipefail

if [ $# -ne 1 ]; then
  echo "usage: bench/on_gpu.sh OUT (a folder for logs and results)" >&2
  exit 2
fi
mkdir -p "$1" || exit 2
out=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
python=${PYTHON:-python3}
seconds_in_all=${SECONDS_IN_ALL:-480}
export PYTHONUNBUFFERED=1
export LONGATTN_SIMT_BUILD=$PWD/build/simt  # the tests find the emulator built

say() { echo "[${SECONDS}s] $*" | tee -a "$out/summary.log"; }

# part NAME LIMIT LOG COMMAND...: at most LIMIT seconds, and no more than are left.
part() {
  local name=$1 limit=$2 log=$3 code
  shift 3
  local left=$((seconds_in_all - SECONDS))
  if [ "$left" -lt 10 ]; then
    say "$name: left out, no time"
    return 1
  fi
  [ "$limit" -lt "$left" ] || limit=$left
  echo "==== $name: $*" >>"$out/$log"
  timeout --kill-after=5 "$limit" "$@" >>"$out/$log" 2>&1
  code=$?
  case $code in
    0) say "$name: done" ;;
    124 | 137) say "$name: stopped after $limit s, see $log" ;;
    *) say "$name: failed with $code, see $log" ;;
  esac
  return "$code"
}

build() {
  if ! "$python" setup.py build_ext --inplace; then
    echo "---- setup.py failed, CMake is asked directly"
    cmake -S . -B build/on_gpu -DCMAKE_BUILD_TYPE=Release -DLONGATTN_CUDA=ON \
      -DPython_EXECUTABLE="$(command -v "$python")" &&
      cmake --build build/on_gpu --parallel &&
      cmake --install build/on_gpu --component python --prefix longattn
  fi
}

build_emulator() {
  "$python" -c "import sys; sys.path.insert(0, 'tests')
import build_simt; build_simt.build_and_load(build_simt.ROOT)"
}

environment() {
  nvidia-smi
  nvcc --version
  cmake --version
  "$python" -c "import setuptools, pybind11; print(setuptools.__version__, pybind11.__version__)"
  "$python" -m longattn env
  "$python" tests/cuda_static.py "$("$python" -c "import torch
major, minor = torch.cuda.get_device_capability()
print(f'{major}{minor}' + 'a' * (major == 9))")"
}

tests() { "$python" -m pytest -m gpu -ra --tb=short --durations=5 -p no:cacheprovider "$@"; }

# A tool of the CUDA toolkit, or a line that says that it is missing.
tool() {
  if ! command -v "$1" >/dev/null; then
    say "$1: not on the PATH"
    return 1
  fi
}

export -f build build_emulator environment tests
export python
: >"$out/summary.log"

# ---- Build; the emulator beside it, since both wait for compilers.
part "emulator's build" 150 build.log bash -c build_emulator &
emulator=$!
part build 170 build.log bash -c build
built=$?
wait "$emulator"
if [ "$built" -ne 0 ]; then
  say "nothing was built: no tests, no timings"
  exit 1
fi

# ---- Tests: three processes, since most of the time is spent in references on the CPU.
part environment 60 environment.log bash -c environment &
part "tests: cases" 150 tests_cases.log bash -c "tests tests/test_gpu.py -k 'not emulator'" &
part "tests: emulator" 150 tests_emulator.log \
  bash -c "tests tests/test_gpu.py -k emulator -rP" &
part "tests: torch, memory" 150 tests_torch.log \
  bash -c "tests tests/test_gpu_torch.py tests/test_gpu_large.py -rP" &
wait

# ---- Timings: alone on the GPU.
part timings 170 summary.log "$python" -m bench.gpu --json "$out/timings.json" --seconds 110

# ---- Every access watched. Without torch's cache an access beside a tensor is one beside memory.
if tool compute-sanitizer; then
  for name in memcheck racecheck; do
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 part "$name" 60 tools.log \
      compute-sanitizer --tool "$name" --error-exitcode 9 "$python" -m bench.gpu_small
  done
fi

# ---- A profile of the kernels. The clocks stay as they are.
if tool ncu; then
  part ncu 60 tools.log ncu --clock-control none --launch-count 12 \
    --kernel-name "regex:(forward|query_gradient|key_gradient|row_dot)_kernel" \
    --section LaunchStats --section Occupancy --section SpeedOfLight \
    --section WarpStateStats --section MemoryWorkloadAnalysis \
    "$python" -m bench.gpu_small --profile
fi

say "finished"
grep -hE "^=+ .*(passed|failed|skipped|error).* =+$|^(FAILED|ERROR) " "$out"/tests_*.log |
  tee -a "$out/summary.log"
! grep -qE "^\[[0-9]+s\] .*: (failed|stopped)" "$out/summary.log"
