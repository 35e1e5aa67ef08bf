# SPDX-License-Identifier: BSD-3-Clause
"""The logic of bench/on_gpu.sh with stand-ins for Python and for CUDA's tools: what runs in which
order, what is told of each part, and the exit status."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "bench/on_gpu.sh"

# Writes down how it was called; fails, or takes long, where its arguments match.
STAND_IN = """#!/bin/bash
call="${0##*/} $*"
echo "${call//$'\\n'/ }" >>"$CALLS"
if [ -n "${FAILS:-}" ] && [[ $call =~ $FAILS ]]; then echo "a sentence"; exit 3; fi
if [ -n "${HANGS:-}" ] && [[ $call =~ $HANGS ]]; then exec sleep 60; fi
exit 0
"""
STAND_INS = {
    "python", "cmake", "nvcc", "nvidia-smi", "cuobjdump", "c++filt", "compute-sanitizer", "ncu",
}  # fmt: skip
MARKED = [
    path.stem for path in sorted((ROOT / "tests").glob("test_*.py"))
    if re.search(r"^(pytestmark|PLACES) = .*gpu_support.marks", path.read_text(), re.MULTILINE)
]  # fmt: skip
SESSIONS = [*MARKED, "test_gpu: the emulator agrees"]
PARTS = [
    "emulator's build", "build", "a GPU that can be used", "memcheck", "racecheck", *SESSIONS,
    "timings", "profile",
]  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """run(**environment) -> (exit status, {part: what became of it}, calls in their order)."""
    tools = tmp_path / "cuda" / "bin"
    tools.mkdir(parents=True)
    out = tmp_path / "out"

    def call(missing=(), **environment):
        for name in STAND_INS - set(missing):
            (tools / name).write_text(STAND_IN)
            (tools / name).chmod(0o755)
        calls = tmp_path / "calls"
        calls.write_text("")
        result = subprocess.run(
            ["bash", str(SCRIPT), str(out)], text=True, timeout=100,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={
                "PATH": "/usr/bin:/bin", "CUDA_HOME": str(tools.parent), "CALLS": str(calls),
                "PYTHON": str(tools / "python"), **environment,
            },
        )  # fmt: skip
        summary = (out / "summary.log").read_text()
        told = dict(re.findall(r"^\[\d+s\] (.*): (.*)$", summary, re.MULTILINE))
        return result.returncode, told, calls.read_text().splitlines()

    call.out = out
    return call


def index(calls, text) -> int:
    [place] = [i for i, call in enumerate(calls) if text in call]
    return place


def test_everything_is_done_in_order(run):
    status, told, calls = run()
    assert status == 0 and told == dict.fromkeys(PARTS, "done")
    order = ["setup.py build_ext", "-m longattn env", "why_not", "--tool memcheck",
             "-k emulator", "-m bench.gpu --json", "ncu "]  # fmt: skip
    places = [index(calls, text) for text in order]
    assert places == sorted(places)
    assert len(list(run.out.iterdir())) <= 8  # what some ways to fetch results take


def test_every_test_on_a_gpu_is_run_once(run):
    _, _, calls = run()
    others = [name for name in MARKED if not name.startswith("test_gpu")]
    assert len(MARKED) >= 9 and others == ["test_support"]
    [matrix] = [call for call in calls if "tests/test_support.py" in call]
    assert matrix.endswith(f"--support-json {run.out}/support_gpu.json")
    for name in MARKED:
        sessions = [call for call in calls if f"tests/{name}.py" in call]
        chosen = sorted(re.search("-k (.*emulator)", call)[1] for call in sessions)
        assert chosen == (["emulator", "not emulator"] if name == "test_gpu" else ["not emulator"])


def test_the_limits_fit_the_time():
    text = SCRIPT.read_text()
    limits = [int(limit) for limit in re.findall(r"^limit_\w+=(\d+)", text, re.MULTILINE)]
    seconds = int(re.search(r"SECONDS_IN_ALL:-(\d+)", text)[1])
    assert len(limits) == 6 and seconds == 480 and sum(limits) <= seconds - 15


@pytest.mark.parametrize(
    "fails, part, log",
    [
        ("pytest.*test_gpu_large", "test_gpu_large", "tests.log"),
        ("memcheck", "memcheck", "memcheck.log"),
        ("bench.gpu ", "timings", "summary.log"),
    ],
)
def test_a_part_that_fails_does_not_stop_the_others(run, fails, part, log):
    status, told, _ = run(FAILS=fails)
    assert status == 1 and told.pop(part) == f"failed with 3, see {log}"
    assert "a sentence" in (run.out / log).read_text()
    assert "\n  a sentence\n" in (run.out / "summary.log").read_text()
    assert told == {name: "done" for name in PARTS if name != part}


@pytest.mark.parametrize(
    "fails, left", [("setup.py|cmake", "nothing was built"), ("why_not", "without it")]
)
def test_without_a_build_or_a_gpu_nothing_else_is_tried(run, fails, left):
    status, told, calls = run(FAILS=fails)
    assert status == 1 and told[left] == "all else left out"
    assert not [call for call in calls if "-m pytest" in call or "-m bench" in call]


@pytest.mark.parametrize("tool, parts", [("compute-sanitizer", PARTS[3:5]), ("ncu", PARTS[-1:])])
def test_a_missing_tool_is_told_and_counts(run, tool, parts):
    status, told, _ = run(missing=[tool])
    assert status == 1
    for part in parts:
        assert told.pop(part) == f"left out, no {tool} on the PATH or in CUDA_HOME"
    assert set(told.values()) == {"done"}


def test_a_part_that_hangs_is_stopped_and_the_rest_left_out(run):
    """Of 12 seconds the first part that hangs takes all: what is left is not enough."""
    status, told, _ = run(HANGS="racecheck", SECONDS_IN_ALL="12")
    assert status == 1
    assert re.fullmatch(r"stopped after 1[012] s, see racecheck\.log", told["racecheck"])
    assert {told[part] for part in PARTS[5:]} == {"left out, no time"}
    assert told["memcheck"] == "done"


def test_wrong_use_is_told():
    result = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.startswith("usage: bench/on_gpu.sh OUT")
