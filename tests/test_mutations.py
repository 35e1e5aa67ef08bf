# SPDX-License-Identifier: BSD-3-Clause
"""Do the emulated tests notice bugs? Each bug of mutations/ is planted in a copy of the kernels
and must be caught, in the way that it says; the same copy with no bug alive must pass."""

import collections
import os
import pathlib
import shutil
from unittest import mock

import pytest
import torch

import build_simt
import comparison
import guards
import inputs
import longattn
import rotary_cases
import test_scores
import test_simt_scores
from cases import Dilated
from longattn import backends, reference
from longattn.rotary import engine as rotary_engine
from mutations import MUTATIONS
from mutations.mutation import (
    CANARY,
    CASES,
    DEADLOCK,
    DIVIDED,
    MISALIGNED,
    NAN,
    POISONED,
    RACE,
    THREAD_RACE,
    SHRUNK,
    VISITS,
    WRONG,
    Scored,
)
from rotary_cases import Rotation
from visits import wrong_visits

COPIED = ("CMakeLists.txt", "cmake", "csrc", "tests/native", "tests/simt")
NUMBERS = {mutation: number for number, mutation in enumerate(MUTATIONS, start=1)}
ASKS = "#include <machine/planted.h>\n"


def choice(old: str, alternatives: list) -> str:
    """C++ that is `old` unless one of the (number, new) alternatives is planted."""
    if ";" not in old:
        chain = "".join(f"simt::planted({number}) ? ({new}) : " for number, new in alternatives)
        return f"({chain}({old}))"
    chain = "".join(
        f"if (simt::planted({number})) {{\n{new}\n}} else " for number, new in alternatives
    )
    return f"{chain}{{\n{old}\n}}"


def plant(source: str, planted: list) -> str:
    """The text of a source with all of its mutations in it."""
    alternatives = collections.defaultdict(list)
    for mutation in planted:
        alternatives[mutation.old].append((NUMBERS[mutation], mutation.new))
    places = sorted((source.index(old), old) for old in alternatives)
    pieces, end = [ASKS], 0
    for place, old in places:
        assert place >= end, f"two mutations overlap at {old!r}"
        pieces += [source[end:place], choice(old, alternatives[old])]
        end = place + len(old)
    return "".join(pieces) + source[end:]


def mutated_copy(folder: pathlib.Path) -> pathlib.Path:
    """The sources of the emulated kernels with every mutation planted and none alive."""
    for name in COPIED:
        source, target = build_simt.ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    for name, sizes in SHRUNK.items():
        text = (folder / name).read_text()
        for old, new in sizes:
            assert text.count(old) == 1, f"{name} does not hold {old!r} once: it cannot be shrunk"
            text = text.replace(old, new)
        (folder / name).write_text(text)
    for name in {mutation.file for mutation in MUTATIONS}:
        path = folder / "csrc" / name
        path.write_text(plant(path.read_text(), [m for m in MUTATIONS if m.file == name]))
    return folder


@pytest.fixture(scope="module")
def mutated(tmp_path_factory):
    """The module with all bugs, as backend "mutated"; `mutated.plant(number)` wakes one."""
    source = mutated_copy(tmp_path_factory.mktemp("mutated"))
    with mock.patch.dict(os.environ):
        os.environ.pop("LONGATTN_SIMT_BUILD", None)  # that folder is for the real kernels
        module = build_simt.build_and_load(tmp_path_factory.mktemp("mutated_build"), source)
    engine = guards.GuardedEngine(lambda: module, lambda tensor: (1, 0, 0))
    backends.register(
        backends.Backend(
            "mutated", "cpu", engine, (torch.float16, torch.bfloat16), 128, alignment=16
        )
    )
    yield module
    module.plant(0)
    module.configure()


def poisoned(function, case):
    """`function` with sequences full of NaN, whose own results count as zeros."""
    borders = inputs.boundaries(case.q_lengths), inputs.boundaries(case.kv_lengths)

    def rows(borders):
        chosen = torch.zeros(int(borders[-1]), dtype=torch.bool)
        for sequence in POISONED[case.name]:
            chosen[borders[sequence] : borders[sequence + 1]] = True
        return chosen

    queries, keys = (rows(each) for each in borders)

    def call(q, k, v, **arguments):
        q = q.masked_fill(queries[:, None, None], float("nan"))
        k, v = (tensor.masked_fill(keys[:, None, None], float("nan")) for tensor in (k, v))
        out, lse = function(q, k, v, **arguments)
        return out.masked_fill(queries[:, None, None], 0.0), lse.masked_fill(queries, 0.0)

    return call


def calls(case) -> tuple:
    """(ours, the reference's, keywords)"""
    if isinstance(case, Dilated):
        return (
            lambda *tensors, **rest: longattn.dilated_attention(
                *tensors, backend="mutated", **rest
            ),
            reference.dilated_attention,
            dict(
                segment_lengths=case.segment_lengths,
                dilation_rates=case.dilation_rates,
                causal=case.causal,
            ),
        )
    functions = (
        lambda *tensors, **rest: longattn.attention(*tensors, case.mask, backend="mutated", **rest),
        lambda *tensors, **rest: reference.attention(*tensors, case.mask, **rest),
    )
    if case.name in POISONED:
        functions = tuple(poisoned(function, case) for function in functions)
    return *functions, inputs.call_arguments(case)


def compare(case) -> None:
    """Raises AssertionError where the backend "mutated" differs from the reference."""
    if isinstance(case, Rotation):
        results = guards.GuardedResults()
        with mock.patch.object(rotary_engine, "empty_like", results):
            rotary_cases.compare(case, torch.bfloat16, grain=8, backend="mutated")
        results.check()
    elif not isinstance(case, Scored):
        ours, theirs, arguments = calls(case)
        tensors = inputs.qkv(case, torch.bfloat16, grain=8)
        comparison.compare(ours, theirs, tensors, arguments, case.name)
    elif case.pattern is None:
        rest = (case.bias, case.softcap, case.sinks, torch.bfloat16)
        test_scores.check(case.case, *rest, grain=8, backend="mutated")
    else:
        test_simt_scores.check_pattern(case.pattern, case.case, "mutated")


def difference_of_visits(module, case) -> str:
    """ "An empty string where visits are right, or nobody has counted those of the case."""
    if isinstance(case, Rotation) or (isinstance(case, Scored) and case.pattern is not None):
        return ""
    plain = case.case if isinstance(case, Scored) else case
    return wrong_visits(module.take_visits(widest(plain)), plain)


def widest(case) -> int:
    return max(case.q_shape[-1], getattr(case, "v_shape", case.k_shape)[-1])


def finding(module, case) -> tuple:
    """(how something shows to be wrong, the sentence), or (None, "")."""
    module.take_visits(64)  # forgets what was counted before
    try:
        compare(case)
    except guards.BrokenGuard as error:
        return CANARY, str(error)
    except AssertionError as error:
        return NAN if "are not finite" in str(error) else WRONG, str(error)
    except RuntimeError as error:
        return reported(str(error)), str(error)
    difference = difference_of_visits(module, case)
    return (VISITS, difference) if difference else (None, "")


def reported(sentence: str) -> str:
    """What the emulator's own error says."""
    if "race on" in sentence:
        return THREAD_RACE
    if "deadlock" in sentence:
        return DEADLOCK
    if "what block" in sentence:
        return RACE
    if "divergent warp" in sentence or "lanes" in sentence:
        return DIVIDED
    if "is not a multiple" in sentence:
        return MISALIGNED
    return "error"


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_applies(mutation):
    """The kernels still hold the line, once."""
    count = (build_simt.ROOT / "csrc" / mutation.file).read_text().count(mutation.old)
    assert count == 1, (
        f"{mutation.file} holds {mutation.old!r} {count} times, not once: say in mutations/ "
        f"what {mutation.name!r} replaces now"
    )


@pytest.mark.parametrize("name", sorted({mutation.case for mutation in MUTATIONS}))
def test_no_false_alarm(mutated, name):
    """Whatever catches a bug is silent without one."""
    mutated.configure()
    mutated.plant(0)
    how, sentence = finding(mutated, CASES[name])
    assert how is None, f"no bug is planted, yet: {sentence}"


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_caught(mutated, mutation):
    mutated.configure()  # the plainest schedule, under which many a race gives right results
    mutated.plant(NUMBERS[mutation])
    how, sentence = finding(mutated, CASES[mutation.case])
    print(f"{mutation.name}: {how}: {sentence}")
    assert how is not None, (
        f"the bug {mutation.name!r} in {mutation.file} survives the case {mutation.case!r}"
    )
    assert how == mutation.shows_as, f"expected: {mutation.shows_as}; found: {how}: {sentence}"
