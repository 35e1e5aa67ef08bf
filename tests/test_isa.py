# SPDX-License-Identifier: BSD-3-Clause
"""Every instruction set that this CPU can run gives right results, and only those can be forced."""

import os
import pathlib
import subprocess
import sys

import pytest

from longattn import native

TESTS = pathlib.Path(__file__).parent
KNOWN = ["baseline", "avx2", "avx512", "avx512_bf16", "avx512_amx", "avx512_amx_model"]


def run(*arguments, isa):
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = dict(os.environ, LONGATTN_ISA=isa, PYTHONPATH=path)
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )


# One call that needs the engine, so that the instruction set is chosen.
ASK = """
import torch, longattn
x = torch.ones(1, 1, 1, 1)
longattn.attention(x, x, x, longattn.Full())
"""


def test_the_supported_ones_are_known():
    supported = native.supported_isas()
    assert set(supported) <= set(KNOWN) and "baseline" in supported
    assert native.isa() in supported


@pytest.mark.parametrize("isa", native.supported_isas())
def test_compact_cases(isa):
    done = run(str(TESTS / "isa_cases.py"), isa=isa)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split("\n")[0] == isa


@pytest.mark.parametrize("isa", [isa for isa in KNOWN if isa not in native.supported_isas()])
def test_forcing_an_unsupported_one_is_a_sentence(isa):
    done = run("-c", ASK, isa=isa)
    last = done.stderr.strip().split("\n")[-1]
    assert done.returncode == 1, "it must be a Python exception: " + done.stderr
    assert isa in last and "baseline" in last and "LONGATTN_ISA" in last, last


def test_forcing_an_unknown_one_is_a_sentence():
    done = run("-c", ASK, isa="quantum")
    last = done.stderr.strip().split("\n")[-1]
    assert done.returncode == 1, "it must be a Python exception: " + done.stderr
    assert "quantum" in last and "baseline" in last and "LONGATTN_ISA" in last, last


def test_an_empty_variable_means_no_choice():
    done = run("-c", ASK, isa="")
    assert done.returncode == 0, done.stderr
