# SPDX-License-Identifier: BSD-3-Clause
"""The matrix of what is supported: every cell is a test. `pytest tests/test_support.py
--support-json FILE` keeps what was found, for the report of bench/."""

import pytest
import torch

import gpu_support
import support
from bench import support_matrix
from bench.support_matrix import FEATURES
from longattn import ring
from support import SUBJECTS, Place

PLACES = ("CPU", "emulated", pytest.param("GPU", marks=gpu_support.marks))


@pytest.fixture
def place(request):
    if request.param == "CPU":
        return Place("CPU", "cpu", torch.float32)
    if request.param == "emulated":
        request.getfixturevalue("simt")
        return Place("emulated", "cpu", torch.bfloat16, "simt")
    return Place(torch.cuda.get_device_name(), "cuda", torch.bfloat16)


@pytest.mark.parametrize("place", PLACES, indirect=True)
@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_cell(subject, feature, place, record_property):
    record_property("support", (subject.name, feature, place.name))
    if feature not in subject.refuses:
        support.check(feature, subject, place)
        return
    record_property("refuses", True)
    error, named = NotImplementedError, "cu_seqlens"
    if feature == "ring":  # plans have no such function, and it takes no plan
        error, named = TypeError, "plan"
        assert not hasattr(ring.Plan, subject.function)
    with pytest.raises(error, match=named):
        support.check(feature, subject, place)


def test_a_wrong_result_is_seen(monkeypatch):
    subject = next(one for one in SUBJECTS if one.name == "`Window(9)`")
    monkeypatch.setattr(support, "reference", wrong_reference(support.reference))
    for feature in FEATURES:
        with pytest.raises(AssertionError, match="out is off"):
            support.check(feature, subject, Place("CPU", "cpu", torch.float32))


def wrong_reference(right):
    class Wrong:
        @staticmethod
        def attention(q, k, v, mask, **rest):
            return right.attention(q, k, v, support.Window(8), **rest)

    return Wrong


def test_the_matrix_shows_blanks_refusals_and_failures():
    cells = [
        {"subject": "A", "feature": "forward", "place": "CPU", "found": "yes"},
        {"subject": "A", "feature": "packed", "place": "CPU", "found": "no"},
        {"subject": "A", "feature": "forward", "place": "emulated", "found": "FAILS"},
    ]
    lines = support_matrix.markdown(cells).splitlines()
    assert lines[-1] == "| A | CPU, **fails: emulated** |  |  | no |  |  |"


def test_the_committed_matrix_is_of_these_tests():
    """`pytest tests/test_support.py --support-json bench/results/support_cpu.json` renews it."""
    cells = support_matrix.committed()
    places = {"CPU", "emulated"} | {cell["place"] for cell in cells}
    found = [(cell["subject"], cell["feature"], cell["place"]) for cell in cells]
    assert len(found) == len(set(found))
    assert dict(zip(found, (cell["found"] for cell in cells))) == {
        (subject.name, feature, place): "no" if feature in subject.refuses else "yes"
        for subject in SUBJECTS
        for feature in FEATURES
        for place in places
    }
