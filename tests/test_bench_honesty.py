# SPDX-License-Identifier: BSD-3-Clause
"""Whoever is wrong is not timed, whoever is absent says why, and clocks are read in turn."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

import longattn
from bench import run, timing, truth, work
from bench.cases.dense import Dense
from bench.contenders import flex, packages
from bench.contenders.base import Absent, Contender, imported, ours, square_fits
from bench.contenders.chunked import CHUNKED
from bench.contenders.sinks import EAGER as COLUMN
from bench.measure import Job, Options, measure
from bench_shapes import tiny

QUICK = Options(repeats=2, seconds=0.01)


def window_of_31(q, k, v):
    """One key less than it should be."""
    return longattn.attention(q, k, v, longattn.Window(31))


def right_but_for_dv(q, k, v):
    out = longattn.attention(q, k, v, longattn.Window(32))
    return out + v.sum() * 0 + (v * 1e-2 - (v * 1e-2).detach()) if v.requires_grad else out


def not_a_number(q, k, v):
    return longattn.attention(q, k, v, longattn.Window(32)) * float("nan")


def no_backward(q, k, v):
    if q.requires_grad:
        raise NotImplementedError("this one has no backward pass")
    return longattn.attention(q, k, v, longattn.Window(32))


def gone():
    raise Absent("it has left")


def broken():
    raise OSError("libgone.so: cannot open shared object file")


@dataclasses.dataclass(frozen=True)
class Windowed(Dense):
    """A window of 32 keys beside strange rivals."""

    def ours(self):
        return lambda q, k, v: longattn.attention(q, k, v, longattn.Window(32))

    def reference(self):
        mask = longattn.Window(32)
        return lambda *qkv, **start: longattn.reference.attention(*qkv, mask, **start)

    def rivals(self):
        functions = (window_of_31, right_but_for_dv, not_a_number, no_backward)
        strange = [ours(function.__name__, function) for function in functions]
        return (*strange, Contender("gone", gone), Contender("broken", broken))


@pytest.fixture(scope="module")
def rows():
    case = Windowed(length=128, q_heads=2, head_dim=16)
    found = measure(Job(case), QUICK)
    return {(row["contender"], row["part"]): row for row in found}


@pytest.mark.parametrize("part", ["forward", "backward", "both"])
@pytest.mark.parametrize("name", ["window_of_31", "not_a_number"])
def test_a_wrong_contender_is_reported_wrong_and_not_timed(rows, name, part):
    row = rows[name, part]
    assert row["not_timed"].startswith("wrong: out differs")
    assert "ms" not in row and "ratio" not in row


def test_wrong_gradients_are_not_timed_either(rows):
    assert "ms" in rows["right_but_for_dv", "forward"]
    assert rows["right_but_for_dv", "both"]["not_timed"].startswith("wrong: dv differs")


def test_who_has_no_backward_is_timed_forward(rows):
    assert rows["no_backward", "forward"]["ratio"][0] > 0
    assert "this one has no backward pass" in rows["no_backward", "both"]["not_timed"]


def test_who_is_absent_says_why(rows):
    assert rows["gone", "forward"]["not_timed"] == "it has left"
    assert rows["broken", "forward"]["not_timed"].startswith("OSError: libgone.so")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gradient_that_is_nothing_is_compared_by_size(dtype):
    """A query that sees one key has no dq."""
    case = tiny("window", window=1, dtype=dtype)
    rows = measure(Job(case, rivals=(CHUNKED,)), QUICK)
    assert [row.get("not_timed") for row in rows] == [None] * 6
    exact = truth.truth_of(case, case.inputs(), 0)
    assert exact.input_gradients["dq"].norm() < 1e-12
    off = truth._errors([torch.full(case.q_shape, 0.5)], {"dq": exact.input_gradients["dq"]})
    assert off["dq"].relative == pytest.approx(0.5)
    assert "rms 5.0e-01" in truth.wrong(off, case.tolerance())


def test_learned_tensors_are_single_in_double_too():
    for name, settings in (("scores", "sink_logits"), ("biases", "table")):
        case = tiny(name, kind=settings, dtype="float64")
        rivals = tuple(one.name for one in case.rivals() if one.name == COLUMN)
        rows = measure(Job(case, rivals=rivals), QUICK)
        assert all("ms" in row for row in rows), rows


def test_the_ceiling_of_a_slow_dtype_is_that_of_a_smaller_product(monkeypatch):
    sizes = []

    def seconds(size, dtype, device, clock, runs):
        sizes.append(size)
        return size**3 * 1e-9

    monkeypatch.setattr(work, "_product_seconds", seconds)
    monkeypatch.setattr(work, "MATRIX", 2048)
    rate, _ = work.ceilings.__wrapped__(torch.float16, "cpu", 1, timing.cpu_clock)
    assert sizes == [256, 512, 512] and rate == pytest.approx(2.0)


def test_longattn_itself_is_compared(monkeypatch, tmp_path):
    case = Windowed(length=128, q_heads=2, head_dim=16)
    wrong = dataclasses.replace(case)
    monkeypatch.setattr(Windowed, "ours", lambda self: window_of_31)
    one = run.Run({}, tmp_path / "run.json")
    one.measure([Job(wrong, ("forward",), ())], QUICK)
    assert len(one.wrong()) == 1 and "out differs" in one.wrong()[0]
    assert (tmp_path / "run.json").exists()


def test_an_error_of_longattn_is_no_absence(monkeypatch):
    def fails(q, k, v):
        raise RuntimeError("this must be seen")

    monkeypatch.setattr(Windowed, "ours", lambda self: fails)
    with pytest.raises(RuntimeError, match="this must be seen"):
        measure(Job(Windowed(length=16), ("forward",), ()), QUICK)


def test_packages_that_are_not_there_say_so():
    with pytest.raises(Absent, match="no_such_package is not installed"):
        imported("no_such_package.deep")


@pytest.mark.parametrize("with_lse", (False, True))
@pytest.mark.parametrize("name, module", packages.NEWER_FLASH.items())
def test_newer_flash_attention_is_asked_for_the_same(monkeypatch, name, module, with_lse):
    """By a stand-in, which returns lse as some versions do."""
    asked = []

    def flash_attn_func(q, k, v, **given):
        asked.append(given)
        return (q, None) if with_lse else q

    monkeypatch.setattr(packages, "cuda_only", lambda name, case: None)
    monkeypatch.setattr(packages, "imported", {module: SimpleNamespace(**locals())}.__getitem__)
    case, q = tiny("window", window=5), torch.ones(1)
    [contender] = [one for one in packages.windowed(case, 5, softcap=3.0) if one.name == name]
    assert contender.prepare()(q, q, q) is q
    assert asked == [{"causal": True, "window_size": (4, 0), "softcap": 3.0}]
    [contender] = [one for one in packages.windowed(case, 5, sink_tokens=2) if one.name == name]
    with pytest.raises(Absent, match=f"{name} has no sinks"):
        contender.prepare()


def test_matrices_that_do_not_fit_are_not_tried():
    with pytest.raises(Absent, match="GiB"):
        square_fits(tiny("dense", length=2**22), 3)
    with pytest.raises(Absent, match="its mask of all pairs needs about .* GiB"):
        flex.flex(tiny("dense", length=2**20), flex.causal).prepare()


def test_contenders_run_in_turn_and_the_order_turns_around():
    order = []

    def sampler(name):
        def sample():
            order.append(name)
            return {"forward": 1.0}

        return sample

    samples = timing.interleave({name: sampler(name) for name in "abc"}, 3, 10.0)
    assert "".join(order) == "abc" + "cbaabccba"  # the first does not count
    assert [len(found) for found in samples.values()] == [3, 3, 3]


def test_with_a_slow_contender_all_run_fewer_rounds(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def slow():
        now[0] += 10.0
        return {"forward": 10.0}

    samples = timing.interleave({"slow": slow, "quick": lambda: {"forward": 1.0}}, 9, 3.0)
    assert samples["slow"] == [{"forward": 10.0}] * timing.LEAST_ROUNDS
    assert samples["quick"] == [{"forward": 1.0}] * timing.LEAST_ROUNDS
    assert len(timing.interleave({"slow": slow}, 2, 3.0)["slow"]) == 2
    assert timing.interleave({}, 2, 3.0) == {}


def test_ratios_are_those_of_one_round():
    base = [{"both": 1.0}, {"both": 2.0}, {"both": 4.0}]
    other = [{"both": 3.0}, {"both": 6.0}, {"both": 16.0}]
    assert timing.ratios(other, base, "both") == (3.0, 3.0, 4.0)


def test_times_are_of_the_rounds_of_their_ratio():
    """The quotient of the two medians then lies between the smallest and the largest ratio."""
    rows = measure(Job(tiny("window"), rivals=(CHUNKED,)), Options(repeats=6, seconds=0.0))
    for ours_row, rival in zip(rows[::2], rows[1::2], strict=True):
        assert ours_row["rounds"] == rival["rounds"] == timing.LEAST_ROUNDS
        _, low, high = rival["ratio"]
        assert low * 0.998 <= rival["ms"][0] / ours_row["ms"][0] <= high * 1.002


def test_short_calls_are_repeated():
    calls = []

    def sample():
        calls.append(1)
        return {"forward": 2.0 * len(calls)}

    mean = timing.repeated(sample, timing.LEAST_SECONDS / 4)
    assert mean() == {"forward": (2 + 4 + 6 + 8) / 4}
    assert timing.repeated(sample, 1.0) is sample


def test_threads_are_what_they_were():
    before = torch.get_num_threads()
    measure(Job(tiny("threads"), ("forward",)), QUICK)
    assert torch.get_num_threads() == before


def test_every_clock_has_its_use():
    before = torch.get_num_threads()
    try:
        assert run.clock_for("cpu", 1) is timing.cpu_clock
        assert run.clock_for("cpu", 2) is timing.wall_clock
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


class FakeEvent:
    """Of torch.cuda: counts milliseconds by calls of `record`."""

    recorded = 0

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        FakeEvent.recorded += 1
        self.at = FakeEvent.recorded

    def elapsed_time(self, other):
        return 7.0 * (other.at - self.at)


def test_the_clock_of_a_gpu_reads_events_around_a_call():
    log = []

    class FakeTorch:
        int8 = torch.int8

        class cuda:
            Event = FakeEvent

            @staticmethod
            def synchronize():
                log.append("synchronize")

        @staticmethod
        def empty(size, dtype, device):
            assert (size, device) == (timing.CudaClock.FLUSH_BYTES, "cuda")
            return type("Flush", (), {"zero_": lambda self: log.append("flush")})()

    clock = timing.CudaClock(FakeTorch)
    assert clock(lambda: log.append("call") or 5) == (5, 0.007)
    assert log == ["flush", "call", "synchronize"]
