# SPDX-License-Identifier: BSD-3-Clause
"""Tools of bench/ for developers: machine code, profiles, gates, builds. No GPU and no nvcc needed;
what Nsight Compute and cuobjdump say is written here by hand, in their format."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from bench import build_figures, gate, limiter, machine_code, profile, sass
from bench.__main__ import main

ROOT = pathlib.Path(__file__).resolve().parent.parent

SYMBOL = "_ZN8longattn4cuda17add_slices_kernelEi"
USAGE = f"""
Fatbin elf code:
================
arch = sm_80
code version = [1,8]

Resource usage:
 Common:
  GLOBAL:0
 Function {SYMBOL}:
  REG:26 STACK:8 SHARED:16 LOCAL:0 CONSTANT[0]:496 TEXTURE:0 SURFACE:0 SAMPLER:0
"""
CODE = f"""
Fatbin elf code:
================
arch = sm_80
\t\tFunction : {SYMBOL}
        /*0000*/                   MOV R1, c[0x0][0x28] ;       /* 0x00000a0000017a02 */
                                                                /* 0x000fe40000000f00 */
        /*0010*/              @!P0 BRA 0x190 ;                  /* 0x000000f000008947 */
        /*0020*/                   HMMA.16816.F32 R8, R4, R6, R8 ;
        /*0030*/                   LDGSTS.E.BYPASS.128 [R3], [R2.64] ;
        /*0040*/              @P1  LDSM.16.M88.4 R8, [R4] ;
        /*0050*/                   FFMA R5, R5.reuse, R6, R7 ;
        /*0060*/                   MUFU.EX2 R5, R5 ;
        /*0070*/                   EXIT ;
        /*0080*/                   NOP;
"""
pytestmark_cxxfilt = pytest.mark.skipif(
    shutil.which("c++filt") is None, reason="c++filt, of binutils, reads the names of kernels"
)


def code(text=CODE) -> list:
    return machine_code.parse(USAGE, text)


@pytestmark_cxxfilt
def test_machine_code_is_read():
    (one,) = code()
    assert (one.name, one.architecture) == ("add_slices", "80")
    assert (one.registers, one.stack_bytes, one.static_shared_bytes, one.local_bytes) == (
        26, 8, 16, 0,
    )  # fmt: skip
    assert one.mix() == {
        "integers, moves": 1,
        "branches": 2,
        "tensor cores": 1,
        "async copies": 1,
        "shared memory": 1,
        "float": 1,
        "special functions": 1,
    }
    lines = sass.mix_table([one]).splitlines()
    assert lines[0].split()[:4] == ["kernel", "sm", "registers", "stack"]
    assert lines[1].split() == ["add_slices", "80", "26", "8", "0", "16", "8"] + ["1"] * 5 + [
        "2", "1",
    ]  # fmt: skip


@pytestmark_cxxfilt
def test_names_of_registers_and_addresses_are_no_difference():
    renamed = CODE.replace("R8", "R40").replace("P0", "P3").replace("0x190", "0x230")
    renamed = renamed.replace("R5.reuse", "R5")
    (one,) = machine_code.compare(code(), code(renamed))
    assert one.same and "1 of 1 kernels are the same" in sass.difference_table([one])


@pytestmark_cxxfilt
@pytest.mark.parametrize(
    "before, after",
    [
        ("FFMA R5, R5.reuse, R6, R7", "FFMA R9, R1, R6, R6"),
        ("FFMA R5, R5.reuse, R6, R7", "FFMA R5, R6, R5, R7"),
        ("@P1  LDSM.16.M88.4 R8, [R4]", "@P0  LDSM.16.M88.4 R8, [R4]"),
    ],
)
def test_other_operands_are_a_difference(before, after):
    """The same instructions on other values are another program."""
    assert before in CODE
    (one,) = machine_code.compare(code(), code(CODE.replace(before, after)))
    assert not one.same and {line[0] for line in one.lines} == {"-", "+"}
    assert "0 of 1 kernels" in sass.difference_table([one])


@pytestmark_cxxfilt
def test_swapped_names_are_no_difference():
    swapped = CODE.replace("R8", "R0").replace("R4", "R8").replace("R0", "R4")
    swapped = swapped.replace("P0", "P9").replace("P1", "P0").replace("P9", "P1")
    (one,) = machine_code.compare(code(), code(swapped))
    assert one.same and swapped != CODE


@pytest.mark.parametrize(
    "instruction, kind",
    [
        ("REDUX.SUM UR4, R2", "exchanges"),
        ("RED.E.ADD.F32.FTZ.RN.STRONG.GPU [R2.64], R5", "global memory"),
        ("LDG.E.128 R4, [R2.64]", "global memory"),
        ("LDC.64 R2, c[0x0][0x210]", "constants"),
        ("ULDC.64 UR4, c[0x0][0x118]", "constants"),
        ("PRMT R2, R3, 0x5410, R4", "integers, moves"),
        ("@P0 SHFL.BFLY PT, R3, R2, 0x1, 0x1f", "exchanges"),
        ("WARPGROUP.ARRIVE", "barriers"),
        ("WARPGROUP.DEPBAR.LE gsb0, 0x0", "barriers"),
        ("HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4], R24", "tensor cores"),
        ("LDSM.16.M88.4 R8, [R4]", "shared memory"),
    ],
)
def test_what_an_instruction_is_for(instruction, kind):
    assert machine_code.kind_of(instruction) == kind


@pytestmark_cxxfilt
def test_another_instruction_or_constant_is_a_difference():
    changed = CODE.replace("FFMA R5, R5.reuse", "FADD R5, R5").replace("[0x28]", "[0x30]")
    (one,) = machine_code.compare(code(), code(changed))
    assert not one.same
    assert sorted(line[0] for line in one.lines) == ["+", "+", "-", "-"]
    assert "+FADD R, R, R, R" in one.lines
    text = sass.difference_table([one])
    assert "add_slices" in text and "0 of 1 kernels" in text


@pytestmark_cxxfilt
def test_a_kernel_of_one_build_only_is_a_difference():
    differences = machine_code.compare(code(), [])
    assert [one.same for one in differences] == [False]
    assert "8 -> -" in sass.difference_table(differences)


HEADER = (
    '"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size",'
    '"Grid Size","Device","CC","Section Name","Metric Name","Metric Unit","Metric Value"'
)
SPEED, MEMORY = "GPU Speed Of Light Throughput", "Memory Workload Analysis"


def ncu_line(number, kernel, section, metric, unit, value) -> str:
    place = '"1","python","127.0.0.1"'
    launch = '"1","7","(128, 1, 1)","(64, 8, 1)","0","8.0"'
    return f'"{number}",{place},"{kernel}",{launch},"{section}","{metric}","{unit}","{value}"'


def ncu_csv(compute, memory, dram=10, duration="1,500.5", unit="usecond") -> str:
    kernel = "void longattn::cuda::forward_kernel<0, __nv_bfloat16>(Problem)"
    figures = [
        (SPEED, "Compute (SM) Throughput", "%", compute),
        (SPEED, "Memory Throughput", "%", memory),
        (SPEED, "DRAM Throughput", "%", dram),
        (SPEED, "L1/TEX Cache Throughput", "%", memory),
        (SPEED, "L2 Cache Throughput", "%", 20),
        (SPEED, "Duration", unit, duration),
        (MEMORY, "Memory Throughput", "Gbyte/second", "912.34"),  # no share: must not count
        ("Launch Statistics", "Registers Per Thread", "register/thread", 168),
        ("Occupancy", "Achieved Occupancy", "%", "18.7"),
    ]
    lines = [ncu_line(number, kernel, *line) for number in (0, 1) for line in figures]
    return "\n".join(["==PROF== Connected to process 1", HEADER, *lines]) + "\n"


@pytest.mark.parametrize(
    "compute, memory, dram, limit",
    [
        (85.2, 40.1, 10, "compute"),
        (30, 91, 91.5, "memory: DRAM"),
        (30, 91, 12, "memory: L1 and shared memory"),
        (42, 35, 10, "latency: neither compute nor memory is busy"),
    ],
)
def test_the_limit_of_a_kernel(compute, memory, dram, limit):
    first, second = limiter.read(ncu_csv(compute, memory, dram))
    assert first.limit == second.limit == limit
    assert (first.microseconds, first.registers, first.occupancy) == (1500.5, 168, 18.7)
    (line,) = limiter.table([first, second]).splitlines()[1:]
    assert line.split()[:2] == ["3001.0", "2"] and limit in line


def test_units_of_time_and_missing_sections():
    assert limiter.read(ncu_csv(1, 1, duration="2.5", unit="ms"))[0].microseconds == 2500
    assert "SpeedOfLight is missing" in limiter.Launch("k").limit
    with pytest.raises(ValueError, match="no header"):
        limiter.read("==ERROR== no permission\n")


def test_profile_says_what_it_would_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(profile.shutil, "which", lambda tool: None)
    words = ["sinks", "--lengths", "64", "--dtypes", "float32", "--device", "cuda"]
    assert main(["profile", "--out", str(tmp_path), *words]) == 0
    told = capsys.readouterr().out
    assert "not run: ncu is not on the PATH" in told and "not run: nsys is not on" in told
    script = (tmp_path / "profile.sh").read_text()
    assert f"-m bench once --calls 2 {' '.join(words)}" in script
    assert "--kernel-name regex:longattn::cuda::" in script and "--trace cuda,nvtx" in script


def test_profile_runs_what_is_there(tmp_path, capsys, monkeypatch):
    """Stand-ins: a tool that works and leaves ncu's file, and one that fails."""
    monkeypatch.setattr(profile, "cannot_run", lambda tool, device: None)

    def lines(words, device, folder):
        writes = f"open({str(folder / 'ncu.csv')!r}, 'w').write({ncu_csv(85, 10)!r})"
        fails = "import sys; print('no permission'); sys.exit(3)"
        return {"ncu": [sys.executable, "-c", writes], "nsys": [sys.executable, "-c", fails]}

    monkeypatch.setattr(profile, "command_lines", lines)
    profile.profile(["dense"], "cuda", tmp_path)
    told = capsys.readouterr().out
    assert f"done, in {tmp_path}" in told
    assert "not run: nsys ended with 3, its last line: no permission" in told
    assert "compute: void longattn::cuda::forward_kernel" in told


def test_once_runs_ours(capsys):
    assert main("once --calls 2 sinks --lengths 64 --dtypes float32 --heads 1".split()) == 0
    with pytest.raises(SystemExit, match="makes 2"):
        main("once sinks --lengths 64".split())


def test_build_figures(monkeypatch):
    def run(*command):
        if "-B" in command:
            folder = pathlib.Path(command[command.index("-B") + 1])
            (folder / "_native.cpython.so").write_bytes(b"x" * 2**20)

    monkeypatch.setattr(build_figures, "_run", run)
    found = build_figures.build("OFF", 1)
    assert found["module, MiB"] == 1.0 and found["compilers at a time"] == 1
    assert found["minutes"] >= 0 and found["largest process, MiB"] > 0


def test_every_gate_has_its_measured_ratio():
    names = [one.name for one in gate.GATES]
    assert len(names) == len(set(names))
    measured = gate.measured()
    assert measured
    for machine_class, ratios in measured.items():
        assert set(ratios) == set(names), machine_class
        assert all(ratio > 0 for ratio in ratios.values())


@pytest.mark.parametrize("one", [one for one in gate.GATES if not one.memory], ids=str)
def test_a_call_of_1_3_times_the_time_is_under_its_floor(one):
    """Where its class is known; the noise of a shared machine is not."""
    ratios = {gate.machine_class(): {one.name: 2.0}}
    assert 2.0 / 1.3 < gate.floor(one, ratios) < 2.0 * 0.9


def test_prices_have_a_floor_where_no_class_is_known():
    ratios = {"one": {x.name: 1.0 for x in gate.GATES}, "other": {x.name: 0.9 for x in gate.GATES}}
    prices = [one for one in gate.GATES if one.is_price]
    assert len(prices) >= 12 and any(one.training for one in prices)
    for one in gate.GATES:
        expected = pytest.approx(0.9 * gate.ANYWHERE_SHARE) if one.is_price else None
        assert gate.floor(one, ratios) == expected
    assert gate.floor(prices[0], {}) is None


def test_gates_are_of_every_pattern_in_both_passes_and_of_memory():
    seen = {(one.case.pattern, one.training) for one in gate.GATES}
    patterns = {"dense", "sinks", "dilated", "shifted", "rotary", "lm_infinite"}
    assert {(name, training) for name in patterns for training in (False, True)} <= seen
    assert {one.case.dtype for one in gate.GATES if one.memory} == {"float32", "bfloat16"}


def test_a_wrong_side_is_no_pair(monkeypatch):
    one = gate.GATES[0]
    monkeypatch.setattr(type(one.case), "tolerance", lambda self: 0.0)
    with pytest.raises(AssertionError, match="longattn: wrong"):
        gate.Pair(one)


def gates(*words, before=""):
    """`pytest bench WORDS` in a process of its own; that gates pass is told by the gates."""
    program = (
        f"import sys, pytest; sys.path.append('.'); {before}"
        f"sys.exit(pytest.main(['bench', '-p', 'no:cacheprovider', *{words!r}]))"
    )
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.parametrize("machine", ["known", "unknown"])
def test_a_gate_fails_under_its_floor(machine):
    pytest.importorskip(
        "pytest_benchmark", reason="pytest-benchmark, of the extra test, is missing"
    )
    before = "from bench import gate; gate.PRICE_SHARE = gate.ANYWHERE_SHARE = 100.0; "
    if machine == "unknown":
        before += "gate.machine_class = lambda: 'a machine that nobody knows'; "
    result = gates("-k", "softcap and float32", before=before)
    assert result.returncode == 1, result.stdout
    assert "is demanded" in result.stdout


def test_without_pytest_benchmark_gates_fail():
    hidden = "import os; os.environ['PYTEST_DISABLE_PLUGIN_AUTOLOAD'] = '1'; "
    result = gates(before=f"{hidden}sys.modules['pytest_benchmark'] = None; ")
    assert result.returncode == 2, result.stdout
    assert "pytest_benchmark" in result.stdout


def test_memory_is_a_gate():
    one = next(one for one in gate.GATES if one.memory)
    pair = gate.Pair(one)
    pair._peak = {0: 50, 1: 75}.get
    assert pair.ratio() == 1.5
    assert gate.Pair(one).ratio() > 0


def test_measured_ratios_are_kept_by_class(monkeypatch, tmp_path):
    monkeypatch.setattr(gate, "MEASURED", tmp_path / "measured.json")
    monkeypatch.setattr(gate, "GATES", gate.GATES[-1:])
    (tmp_path / "measured.json").write_text(json.dumps({"another": {"x": 1.0}}))
    told = []
    gate.record_all(told.append)
    assert len(told) == 1
    found = gate.measured()
    assert found["another"] == {"x": 1.0}
    assert list(found[gate.machine_class()]) == [gate.GATES[-1].name]
