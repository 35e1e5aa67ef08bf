# SPDX-License-Identifier: BSD-3-Clause
"""`--support-json FILE`: what tests/test_support.py found, for the report of bench/."""

import pytest

OPTION = "--support-json"


class KeepsSupport:
    def __init__(self, path):
        self.path = path
        self.cells = []

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report):
        told = dict(report.user_properties)
        if report.when != "call" or "support" not in told:
            return
        subject, feature, place = told["support"]
        good = "no" if "refuses" in told else "yes"
        found = good if report.passed else "FAILS"
        self.cells.append(
            {"subject": subject, "feature": feature, "place": place, "found": found}
        )

    def pytest_sessionfinish(self):
        from bench import support_matrix  # here: conftest.py puts bench/ on the path

        on_gpu = any(cell["place"] not in ("CPU", "emulated") for cell in self.cells)
        support_matrix.save(self.cells, self.path, "cuda" if on_gpu else "cpu")


def add_option(parser):
    parser.addoption(OPTION, metavar="FILE", help="what test_support.py finds goes there")


def configure(config):
    if config.getoption(OPTION):
        config.pluginmanager.register(KeepsSupport(config.getoption(OPTION)))
