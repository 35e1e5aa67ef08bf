# SPDX-License-Identifier: BSD-3-Clause
"""`python -m bench sass`: registers, spills, shared memory, occupancy and instructions of each CUDA
kernel; with two compiled files, what differs between them but for names of registers."""

from __future__ import annotations

import pathlib
import tempfile

from bench import cuda_static, machine_code


def compiled(architecture: str) -> str:
    """The tables of the kernels of this source tree, compiled for it in a temporary folder."""
    if cuda_static.nvcc() is None:
        raise SystemExit(
            "nvcc was not found on the PATH, in CUDA_HOME or in /usr/local/cuda; `python -m bench "
            "sass FILE` reads what is compiled already"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        kernels = cuda_static.compile_kernels(folder, architecture)
        launches = cuda_static.read_launches(folder)
        text = cuda_static.table(kernels, launches)
        if cuda_static.disassembler()[0] is None:
            return text + "\n\nno mix of instructions: cuobjdump and nvdisasm were not found"
        objects = cuda_static.objects(folder)
        codes = [code for path in objects for code in machine_code.read(path)]
        return f"{text}\n\n{mix_table(codes)}"


def mix_table(codes: list) -> str:
    """Instructions by kind; the code is not weighted by how often it runs."""
    kinds = [*machine_code.KINDS, machine_code.OTHER]
    present = [kind for kind in kinds if any(kind in code.mix() for code in codes)]
    header = ["kernel", "sm", "registers", "stack", "local", "shared", "all", *present]
    rows = []
    for code in codes:
        mix = code.mix()
        facts = (code.registers, code.stack_bytes, code.local_bytes, code.static_shared_bytes)
        counts = (sum(mix.values()), *(mix.get(kind, 0) for kind in present))
        rows.append([code.name, code.architecture, *map(str, facts), *map(str, counts)])
    return columns([header, *rows])


def difference_table(differences: list) -> str:
    """A line for each kernel; those that are the same in a sentence."""
    same = [one for one in differences if one.same]
    rows = [["kernel", "sm", "instructions", "registers", "stack", "lines gone", "lines new"]]
    for one in differences:
        if one.same:
            continue
        some = one.before or one.after
        gone = sum(line.startswith("-") for line in one.lines)
        new = sum(line.startswith("+") for line in one.lines)
        changed = [
            _change(one, lambda code: sum(code.mix().values())),
            _change(one, lambda code: code.registers),
            _change(one, lambda code: code.stack_bytes),
        ]
        rows.append([some.name, some.architecture, *changed, str(gone), str(new)])
    told = f"{len(same)} of {len(differences)} kernels are the same but for names of registers"
    return told if len(rows) == 1 else f"{columns(rows)}\n{told}"


def _change(one, number) -> str:
    sides = ["-" if code is None else str(number(code)) for code in (one.before, one.after)]
    return sides[0] if sides[0] == sides[1] else " -> ".join(sides)


def columns(rows: list) -> str:
    """As wide as their widest cell; the first to the left, the others to the right."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *rest = (
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths))
        )
        lines.append("  ".join([first, *rest]))
    return "\n".join(lines)


def report(files: list, architecture: str, lines: bool = False) -> str:
    """Nothing given: this tree; one file: its kernels; two: what differs."""
    if not files:
        return compiled(architecture)
    if len(files) == 1:
        return mix_table(machine_code.read(files[0]))
    differences = machine_code.compare(*map(machine_code.read, files))
    parts = [difference_table(differences)]
    for one in differences if lines else ():
        if one.lines:
            parts += [f"{one.after.name}, sm_{one.after.architecture}", "\n".join(one.lines)]
    return "\n\n".join(parts)
