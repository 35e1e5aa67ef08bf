# SPDX-License-Identifier: BSD-3-Clause
"""Settings of the whole suite: reproducible fuzzing, and one line that says what was tested."""

import sys
from pathlib import Path

import hypothesis
import pytest
import torch

import build_simt
import gpu_session
import guards
import support_results
from longattn import backends, native
from longattn.rotary import engine as rotary_engine

# Tests of bench/ import it. Last on the path, so that an installed longattn stays the one tested.
sys.path.append(str(Path(__file__).resolve().parent.parent))

hypothesis.settings.register_profile(
    "longattn",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("longattn")


# Small tensors gain nothing from threads, and torch's own spin when other programs want the cores.
# test_threads.py is where the number of threads varies.
torch.set_num_threads(1)


def pytest_addoption(parser):
    gpu_session.add_option(parser)
    support_results.add_option(parser)


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: needs a GPU and a build with CUDA; elsewhere skipped")
    gpu_session.configure(config)
    support_results.configure(config)


def pytest_report_header(config):
    return f"torch {torch.__version__}, {torch.get_num_threads()} thread"


@pytest.fixture(scope="session")
def simt_module(tmp_path_factory):
    """The CUDA engine built with g++ against the emulator, and registered as backend "simt": with
    guards around every tensor, since plain loads and stores are not seen by the emulator."""
    module = build_simt.build_and_load(tmp_path_factory.mktemp("simt"))
    engine = guards.GuardedEngine(lambda: module, lambda tensor: (1, 0, 0))
    backends.register(
        backends.Backend("simt", "cpu", engine, (torch.float16, torch.bfloat16), 128, alignment=16)
    )
    return module


@pytest.fixture
def simt(simt_module, monkeypatch):
    """The emulator's module, with its plainest schedule."""
    rotated = guards.GuardedResults()
    monkeypatch.setattr(rotary_engine, "empty_like", rotated)
    simt_module.configure()
    yield simt_module
    simt_module.configure()
    rotated.check()
