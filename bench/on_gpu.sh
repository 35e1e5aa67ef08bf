#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# bench/on_gpu.sh OUT: everything that only a machine with a GPU can tell, in at most 8 minutes.
#
# Builds in place and offline with what the machine has (torch, nvcc, pybind11, CMake, setuptools,
# pytest, hypothesis), then, what matters most first: compute-sanitizer on small problems, tests,
# timings, a profile. A part that fails or runs out of time leaves its log, and the next one begins;
# OUT/summary.log tells what became of each. Fails unless every part was done.
# PYTHON names the interpreter (python3), SECONDS_IN_ALL the time (480), CUDA_HOME the toolkit.
set -uo pipefail

# Seconds for each part. In sum less than there are, so that none takes another's.
limit_build=110
limit_machine=30
limit_small=60     # compute-sanitizer's tools, beside each other
limit_tests=125    # all sessions, beside each other
limit_timings=105  # alone on the GPU
limit_profile=35

if [ $# -ne 1 ]; then
  echo "usage: bench/on_gpu.sh OUT (a folder for logs and results)" >&2
  exit 2
fi
mkdir -p "$1" || exit 2
out=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
python=${PYTHON:-python3}
seconds_in_all=${SECONDS_IN_ALL:-480}
export PATH=${CUDA_HOME:-/usr/local/cuda}/bin:$PATH
export PYTHONUNBUFFERED=1
export LONGATTN_SIMT_BUILD=$PWD/build/simt  # the tests find the emulator built

say() { echo "[${SECONDS}s] $*" | tee -a "$out/summary.log"; }

# part NAME LIMIT LOG COMMAND...: at most LIMIT seconds, and no more than are left.
part() {
  local name=$1 limit=$2 log=$out/$3 code
  local shown=${3/#session_*/tests.log}  # where sessions are put together in the end
  shift 3
  local left=$((seconds_in_all - SECONDS))
  if [ "$left" -lt 10 ]; then
    say "$name: left out, no time"
    return 1
  fi
  [ "$limit" -lt "$left" ] || limit=$left
  echo "==== $name: $*" >>"$log"
  timeout --kill-after=10 "$limit" "$@" >>"$log" 2>&1
  code=$?
  local last
  last=$(tail -n 1 "$log" | cut -c1-200)
  case $code in
    0) say "$name: done" ;;
    124 | 137) say "$name: stopped after $limit s, see $shown" ;;
    *) say "$name: failed with $code, see $shown"$'\n'"  $last" ;;
  esac
  return "$code"
}

# part_with TOOL NAME...: a part that needs a tool of the CUDA toolkit.
part_with() {
  local tool=$1
  shift
  if command -v "$tool" >/dev/null; then
    part "$@"
  else
    say "$1: left out, no $tool on the PATH or in CUDA_HOME"
    return 1
  fi
}

# Tells how the tests went and leaves: with 0 if every part was done.
finish() {
  say "finished"
  grep -hE "^=+ .*(passed|failed|skipped|error).* =+$|^(FAILED|ERROR) |^!+ " "$out"/tests*.log \
    2>/dev/null | tee -a "$out/summary.log"
  grep -qE "^\[[0-9]+s\] .*: (failed|stopped|left out)" "$out/summary.log" && exit 1
  exit 0
}

# What a part comes to last replaces the shell, so that `timeout` ends it and waits for its end.
# shellcheck disable=SC2329  # parts call these
machine() {
  nvidia-smi
  nvcc --version
  cmake --version
  "$python" -c "import setuptools, pybind11; print(setuptools.__version__, pybind11.__version__)"
  "$python" -m longattn env
  cuobjdump --dump-resource-usage longattn/_native*.so 2>&1 | c++filt
  # Fails with the reason where no GPU can be used: every test would be skipped.
  PYTHONPATH=tests:. exec "$python" -c "import sys, gpu_support; sys.exit(gpu_support.why_not())"
}

# shellcheck disable=SC2329
build() {
  "$python" setup.py build_ext --inplace && return
  echo "---- setup.py failed, CMake is asked directly"
  cmake -S . -B build/on_gpu -DCMAKE_BUILD_TYPE=Release -DLONGATTN_CUDA=ON \
    -DPython_EXECUTABLE="$(command -v "$python")" &&
    cmake --build build/on_gpu --parallel &&
    cmake --install build/on_gpu --component python --prefix longattn
}

# shellcheck disable=SC2329
build_emulator() {
  exec "$python" -c "import sys; sys.path.insert(0, 'tests')
import build_simt; build_simt.build_and_load(build_simt.ROOT)"
}

# shellcheck disable=SC2329
tests() {
  exec "$python" -m pytest -m gpu -v -raP --tb=short --durations=5 -p no:cacheprovider \
    --keep-results -o faulthandler_timeout=60 "$@"
}

export -f machine build build_emulator tests
export python
: >"$out/summary.log"

# ---- Build; the emulator beside it, since both wait for compilers.
part "emulator's build" "$limit_build" machine.log bash -c build_emulator &
emulator=$!
part build "$limit_build" machine.log bash -c build
built=$?
wait "$emulator"
if [ "$built" -ne 0 ]; then
  say "nothing was built: all else left out"
  finish
fi
if ! part "a GPU that can be used" "$limit_machine" machine.log bash -c machine; then
  say "without it: all else left out"
  finish
fi

# ---- Every access watched. Without torch's cache an access beside a tensor is one beside memory.
for tool in memcheck racecheck; do
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 part_with compute-sanitizer "$tool" "$limit_small" "$tool.log" \
    compute-sanitizer --tool "$tool" --error-exitcode 9 "$python" -m bench.gpu_small &
done
wait

# ---- Tests: a session a file, since most of the time is spent in references on the CPU. But for
# those that look at what waits, they wait for every launch, so that an error names its kernel.
mapfile -t files < <(grep -lE '^(pytestmark|PLACES) = .*gpu_support.marks' tests/test_*.py)
for file in "${files[@]}"; do
  name=$(basename "$file" .py)
  case $name in
    test_gpu_torch* | test_gpu_large | test_gpu_variants) blocking=0 ;;
    *) blocking=1 ;;
  esac
  keep=
  [ "$name" = test_support ] && keep="--support-json $(printf %q "$out/support_gpu.json")"
  CUDA_LAUNCH_BLOCKING=$blocking part "$name" "$limit_tests" "session_$name.log" \
    bash -c "tests $file -k 'not emulator' $keep" &
done
CUDA_LAUNCH_BLOCKING=1 part "test_gpu: the emulator agrees" "$limit_tests" tests_emulator.log \
  bash -c "tests tests/test_gpu.py -k emulator" &
wait
cat "$out"/session_*.log >"$out/tests.log" && rm "$out"/session_*.log

part timings "$limit_timings" summary.log "$python" -m bench.gpu --json "$out/timings.json" \
  --seconds $((limit_timings - 25))

# ---- A profile of the kernels. The clocks stay as they are.
part_with ncu profile "$limit_profile" machine.log ncu --clock-control none --launch-count 12 \
  --kernel-name "regex:(forward|query_gradient|key_gradient|row_dot)_kernel" \
  --section LaunchStats --section Occupancy --section SpeedOfLight \
  --section WarpStateStats --section MemoryWorkloadAnalysis \
  "$python" -m bench.gpu_small --profile

finish
