# SPDX-License-Identifier: BSD-3-Clause
"""Settings of the whole suite: reproducible fuzzing, and one line that says what was tested."""

import hypothesis
import torch

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


def pytest_report_header(config):
    return f"torch {torch.__version__}, {torch.get_num_threads()} thread"
