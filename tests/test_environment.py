# SPDX-License-Identifier: BSD-3-Clause
"""`python -m longattn env` says what is there, and stays whole where something is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import longattn
from longattn import environment, native

HIDE_NATIVE = "import sys; sys.modules['longattn._native'] = None\n"  # makes its import fail


def run_python(*arguments, cwd, **variables):
    """Runs Python, where it finds the package under test, and returns (exit code, out, err)."""
    variables = {**os.environ, "PYTHONPATH": str(Path(longattn.__file__).parents[1]), **variables}
    result = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=variables, text=True, capture_output=True
    )
    return result.returncode, result.stdout, result.stderr


def lines_of(report):
    """{label: value}; labels and values are at least two spaces apart."""
    return dict(line.split("  ", 1) for line in report.splitlines())


def test_report_states_the_facts():
    facts = {label: value.strip() for label, value in lines_of(environment.report()).items()}
    assert facts["longattn"].startswith(f"{longattn.__version__} ")
    assert facts["torch"].startswith(torch.__version__)
    assert facts["threads"].startswith(f"{torch.get_num_threads()} ")
    assert facts["CPU tier"].split()[0] == native.isa()
    assert facts["CPU tiers that run here"].split(", ") == native.supported_isas()
    assert facts["backend for cpu"] == "available"
    assert ("GPU 0" in facts) == bool(native.module().cuda_devices())


@pytest.mark.skipif(native.module().cuda_reason() is None, reason="a GPU can be used here")
def test_report_says_why_cuda_cannot_be_used():
    module = native.module()
    line = "CUDA at run time" if module.cuda_built() else "built with CUDA"
    assert module.cuda_reason() in lines_of(environment.report())[line]


def test_report_names_a_forced_tier(tmp_path):
    forced = {"LONGATTN_ISA": "baseline"}
    code, report, errors = run_python("-m", "longattn", "env", cwd=tmp_path, **forced)
    assert code == 0, errors
    assert "baseline (forced by LONGATTN_ISA=baseline)" in report


def test_report_survives_a_tier_that_does_not_exist(tmp_path):
    code, report, errors = run_python("-m", "longattn", "env", cwd=tmp_path, LONGATTN_ISA="mmx")
    assert code == 0, errors
    tier = lines_of(report)["CPU tier"]
    assert "mmx" in tier and "baseline" in tier  # the value and what is accepted


def test_report_survives_a_missing_native_module(tmp_path):
    script = HIDE_NATIVE + "from longattn.__main__ import main; main(['env'])"
    code, report, errors = run_python("-c", script, cwd=tmp_path)
    assert code == 0, errors
    facts = lines_of(report)
    assert "missing: " in facts["native module"] and "pip install" in facts["native module"]
    assert "not available: " in facts["backend for cpu"]


def test_use_without_the_native_module_says_what_to_do(tmp_path):
    script = f"""{HIDE_NATIVE}
import torch, longattn
q = torch.zeros(1, 2, 1, 8)
try:
    longattn.attention(q, q, q, longattn.Causal())
except ImportError as error:
    print(error)
"""
    code, message, errors = run_python("-c", script, cwd=tmp_path)
    assert code == 0, errors
    sentences = message.strip().split(". ")
    assert sentences[0] == f"longattn's native module is not in {Path(longattn.__file__).parent}"
    assert "run `pip install -e .` in longattn's source folder" in sentences[1]
    assert "start it in another folder" in sentences[2]
    assert sentences[3].startswith("(The import said: ") and "longattn._native" in sentences[3]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["envv"], "unknown command 'envv'; the commands are env, demo and extrapolate."),
        (["env", "all"], "`env` takes no arguments, got 'all'."),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, arguments, sentence):
    code, _, errors = run_python("-m", "longattn", *arguments, cwd=tmp_path)
    assert code == 2
    assert errors.strip() == f"python -m longattn: {sentence}"


def test_no_command_prints_the_usage(tmp_path):
    code, usage, _ = run_python("-m", "longattn", cwd=tmp_path)
    assert code == 0
    assert usage.startswith("usage: python -m longattn COMMAND")
