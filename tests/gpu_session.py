# SPDX-License-Identifier: BSD-3-Clause
"""Test sessions on a GPU: an error that no later call survives ends the session at its culprit, and
a session that runs out of time keeps what it found."""

import signal

import pytest
import torch


class StopsWhenTheGpuIsLost:
    """After an illegal access every call of the process fails, in whatever test comes next."""

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item):
        if item.get_closest_marker("gpu") is None or not torch.cuda.is_initialized():
            return
        try:
            torch.cuda.synchronize()
        except RuntimeError as error:
            reason = f"the GPU was lost in {item.nodeid}: {str(error).splitlines()[0]}"
            item.session.shouldstop = reason
            pytest.fail(reason, pytrace=False)


class KeepsResults:
    """For sessions that `timeout` may stop: it sends SIGTERM, and SIGKILL if that does not help, as
    where the GPU is waited for and never answers. So failures are told as they happen."""

    def __init__(self, config):
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends with a summary, as Ctrl-C
        self.plugins = config.pluginmanager

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report):
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = crash.message if crash else report.longreprtext
            terminal = self.plugins.get_plugin("terminalreporter")
            terminal.write_line(f"{report.nodeid} at {report.when}: {message[:2000]}")


def add_option(parser):
    parser.addoption(
        "--keep-results",
        action="store_true",
        help="failures are told as they happen, and SIGTERM ends the session with its summary",
    )


def configure(config):
    config.pluginmanager.register(StopsWhenTheGpuIsLost())
    if config.getoption("--keep-results"):
        config.pluginmanager.register(KeepsResults(config))
