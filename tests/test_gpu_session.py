# SPDX-License-Identifier: BSD-3-Clause
"""Sessions on a GPU end at an error that loses it, and keep their results when they are stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
CONFTEST = """
import gpu_session
def pytest_addoption(parser):
    gpu_session.add_option(parser)
def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: here on a machine without one")
    gpu_session.configure(config)
"""


@pytest.fixture
def start(tmp_path):
    """start(tests, *options): a session of these tests, whose output can be read."""
    started = []

    def run(tests, *options):
        (tmp_path / "conftest.py").write_text(CONFTEST)
        (tmp_path / "test_these.py").write_text(tests)
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-v", "-ra", "-p", "no:cacheprovider", *options,
             "test_these.py"],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(TESTS)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


LOST = """
import pytest, torch
torch.cuda.is_initialized = lambda: True
answers = iter([None, RuntimeError("CUDA error: an illegal memory access\\nmore lines")])
def synchronize():
    answer = next(answers)
    if answer is not None:
        raise answer
torch.cuda.synchronize = synchronize
def test_elsewhere(): pass
@pytest.mark.gpu
def test_good(): pass
@pytest.mark.gpu
def test_culprit(): pass
@pytest.mark.gpu
def test_innocent(): pass
"""


def test_a_lost_gpu_ends_the_session_at_the_culprit(start):
    process = start(LOST)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    assert "ERROR test_these.py::test_culprit - Failed: the GPU was lost in" in output
    assert "lost in test_these.py::test_culprit: CUDA error: an illegal memory access\n" in output
    assert "test_innocent" not in output and "3 passed, 1 error" in output


STOPPED = """
import time
def test_good(): pass
def test_bad():
    number = 41
    assert number == 42
def test_long():
    open("running", "w").close()
    time.sleep(100)
def test_late(): pass
"""


def test_a_stopped_session_tells_what_it_found(start, tmp_path):
    process = start(STOPPED, "--keep-results")
    deadline = time.monotonic() + 60
    while not (tmp_path / "running").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    assert "FAILED test_these.py::test_bad - assert 41 == 42" in output
    assert "1 failed, 1 passed" in output
    # Told before the session was stopped, too: it may be killed.
    assert "test_bad at call: assert 41 == 42" in output.split("test_long")[0]
