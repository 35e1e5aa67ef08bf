# SPDX-License-Identifier: BSD-3-Clause
"""Goals of bench/: what they are about, and that the standard set measures them."""

import pytest

from bench import goals, held, record, standard, tables
from bench.__main__ import main
from bench.contenders.chunked import CHUNKED
from bench.contenders.rotation import EAGER
from bench_rows import result, row


def verdict_of(run, against, **where):
    """The measured ones."""
    found = [one for one in goals.verdicts(run) if one.against == against and one.met is not None]
    return found[0] if len(found) == 1 else found


def test_a_goal_is_about_its_own_case():
    """Of another size, device or number of threads nothing was asked."""
    sinks = row(
        CHUNKED, pattern="sinks", length=8192, head_dim=128,
        parameters={"window": 1024, "sink_tokens": 64},
    )  # fmt: skip
    assert verdict_of(result(sinks), CHUNKED).goal == "≥ 2.3"
    for other in (
        {"length": 64}, {"device": "cuda"}, {"head_dim": 64},
        {"parameters": {"window": 8, "sink_tokens": 2}},
    ):  # fmt: skip
        assert verdict_of(result(sinks | other), CHUNKED) == []
    two_threads = result(sinks)
    two_threads["machine"] = two_threads["machine"] | {"threads": 2}
    assert verdict_of(two_threads, CHUNKED) == []


def test_a_goal_is_met_or_not():
    assert verdict_of(result(row()), "torch SDPA").met
    slow = verdict_of(result(row(ratio=[1.49, 1.4, 1.6])), "torch SDPA")
    assert not slow.met and (slow.goal, slow.value) == ("≥ 1.5", 1.49)


def test_a_goal_that_rounds_disagree_about_says_so():
    unsure = verdict_of(result(row(ratio=[1.6, 1.4, 1.8])), "torch SDPA")
    assert goals.answer(unsure) == "met (not in every round)"
    assert goals.answer(verdict_of(result(row()), "torch SDPA")) == "met"


def test_a_price_is_the_inverse_of_a_ratio():
    price = row(
        "longattn, plain scores", pattern="biases", parameters={"kind": "alibi"}, role="baseline",
        ratio=[0.5, 0.4, 0.8],
    )  # fmt: skip
    one = verdict_of(result(price), "longattn, plain scores")
    assert (one.goal, one.value, one.low, one.high, one.met) == ("≤ 1.05", 2.0, 1.25, 2.5, False)
    cheap = price | {"ratio": [1.0, 0.9, 1.1]}
    assert verdict_of(result(cheap), "longattn, plain scores").met


def test_goals_that_were_not_measured_stay_visible():
    verdicts = goals.verdicts(result())
    assert len(verdicts) == len(goals.GOALS) + 1
    assert {one.met for one in verdicts} == {None}
    assert "not measured" in tables.goals_table(result())


def test_a_forced_instruction_set_has_its_own_goal():
    forced = verdict_of(
        result(row(isa="avx2", torch_isa="avx2", ratio=[1.2, 1.1, 1.3])), "torch SDPA"
    )
    assert forced.goal == "≥ 1" and "both held to avx2" in forced.work
    alone = result(row(isa="avx2"))  # torch is not held
    assert verdict_of(alone, "torch SDPA") == []


def test_kept_memory_has_its_own_goals():
    kept = row(EAGER, pattern="rotary", memory="kept", ratio=[5.0, 4.0, 6.0])
    verdict = verdict_of(result(kept), EAGER)
    assert not verdict.met and verdict.work.endswith(", freed memory kept")


def test_environments_label_their_rows():
    for name, environment in held.ENVIRONMENTS.items():
        assert held.missing(name, environment) == "" != held.missing(name, {})
        label = held.labels(environment)
        assert held.labels({}) == {} != label and held.text_of(row(**label)) != ""
        assert record.key(row(**label)) != record.key(row())
        with pytest.raises(SystemExit, match="wants the environment [A-Z]"):
            main(["forced", name])
    assert held.text_of(row()) == ""
    assert held.text_of(row(isa="avx2")) == ", longattn held to avx2"


def test_every_goal_is_measured_by_the_standard_set():
    """Each names a contender, a part and a case of a job."""
    jobs = [(job, {}) for job in standard.standard_jobs()]
    jobs += [
        (job, held.labels(held.ENVIRONMENTS[name]))
        for name, forced in standard.forced_jobs().items()
        for job in forced
    ]
    measured = []
    for job, labels in jobs:
        case = job.case
        measured += [
            row(
                name, part=part, pattern=case.pattern, dtype=case.dtype, head_dim=case.head_dim,
                length=case.length, parameters=case.parameters(), **labels,
            )
            for name in job.rivals
            for part in job.parts
        ]  # fmt: skip
    missing = [goal for goal in goals.GOALS if not any(goal.fits(one) for one in measured)]
    assert missing == []
    for job, _ in jobs:  # a name that nobody has would be left out silently
        assert set(job.rivals) <= {rival.name for rival in job.case.rivals()}, job


def test_the_standard_set_shows_where_patterns_overtake_the_dense_line():
    measured = {}
    for job in standard.standard_jobs():
        for name in job.rivals:
            place = (job.case.pattern, job.case.dtype, name)
            measured.setdefault(place, set()).add(job.case.length)
    for dtype in standard.DTYPES:
        for pattern in ("window", "dilated"):
            assert len(measured[pattern, dtype, standard.DENSE_SDPA]) > 1
        assert len(measured["window", dtype, CHUNKED]) > 2
        assert len(measured["dense", dtype, "torch SDPA"]) > 2


def test_the_keys_of_the_standard_set_differ():
    keys = [
        (job.case.pattern, str(job.case), part, name)
        for job in standard.standard_jobs()
        for part in job.parts
        for name in ("longattn", *job.rivals)
    ]
    assert len(keys) == len(set(keys))
