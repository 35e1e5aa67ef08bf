# SPDX-License-Identifier: BSD-3-Clause
"""Nothing became slow: ratios of process CPU time, small pairs in turn, against floors.

In a round the rival runs when pytest-benchmark prepares it, ours when it times."""

import time

import pytest

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark, of the extra test, is missing")

from bench import gate, timing  # noqa: E402

FLOORS = gate.measured().get(gate.machine_class())

pytestmark = [
    pytest.mark.benchmark(timer=time.process_time, warmup=False),
    pytest.mark.skipif(
        FLOORS is None,
        reason=f"no ratio was measured for {gate.machine_class()}: `python -m bench gates` does",
    ),
]


@pytest.mark.parametrize("one", gate.GATES, ids=str)
def test_ratio_is_above_its_floor(one, benchmark):
    if benchmark.disabled:
        pytest.skip("--benchmark-disable was given: nothing is timed")
    pair = gate.Pair(one)
    pair.call(0)(), pair.call(1)()
    rival = []

    def time_the_rival():
        rival.append(timing.cpu_clock(pair.call(1))[1])

    benchmark.pedantic(pair.call(0), setup=time_the_rival, rounds=gate.ROUNDS)
    ratio = min(rival) / benchmark.stats.stats.min
    floor = gate.SHARE * FLOORS[one.name]
    for _ in range(gate.ATTEMPTS - 1):
        ratio = ratio if ratio >= floor else pair.ratio()
    benchmark.extra_info.update(ratio=ratio, floor=floor, measured=FLOORS[one.name])
    assert ratio >= floor, (
        f"{one.name}: {ratio:.2f} times ours, at least {floor:.2f} is demanded, "
        f"{gate.SHARE:.0%} of the {FLOORS[one.name]:.2f} once measured"
    )
