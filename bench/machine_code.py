# SPDX-License-Identifier: BSD-3-Clause
"""The machine code (SASS) of CUDA kernels in a compiled file: what is in it, and what changed.

Reads objects, cubins and native modules by cuobjdump; no GPU is needed."""

from __future__ import annotations

import collections
import dataclasses
import difflib
import os
import pathlib
import re

from bench.cuda_static import by_architecture, disassembler, kernel_name, run

# Such as `        /*0110*/   @!P1 LDSM.16.M88.4 R8, [R4] ;`.
INSTRUCTION = r"^\s*/\*[0-9a-f]+\*/\s+((?:@!?U?P\w+\s+)?[A-Z][^;]*?)\s*;"

# What an instruction is for, by how its name begins; the first that fits.
KINDS = {
    "tensor cores": ("HMMA", "IMMA", "HGMMA", "WGMMA"),
    "exchanges": ("SHFL", "VOTE", "MATCH", "REDUX", "MOVM"),
    "async copies": ("LDGSTS", "UTMA", "LDGDEPBAR", "DEPBAR", "ARRIVES"),
    "shared memory": ("LDS", "STS", "LDSM", "STSM", "ATOMS"),
    "local memory": ("LDL", "STL"),
    "global memory": ("LDG", "STG", "LD.", "ST.", "ATOM", "RED"),
    "constants": ("LDC", "ULDC", "LDCU"),
    "special functions": ("MUFU",),
    "float": ("FFMA", "FMUL", "FADD", "FMNMX", "FSEL", "FSETP", "HFMA2", "HADD2", "HMUL2", "HMNMX2",
              "HSETP2", "FCHK", "FSWZADD", "DFMA", "DADD", "DMUL", "DSETP"),
    "conversions": ("F2F", "F2I", "I2F", "FRND", "F2FP"),
    "branches": ("BRA", "BRX", "JMP", "EXIT", "CALL", "RET", "BSSY", "BSYNC", "BREAK", "WARPSYNC",
                 "BMOV", "YIELD", "KILL", "BPT"),
    "barriers": ("BAR", "MEMBAR", "ERRBAR", "SYNCS", "NANOSLEEP", "FENCE", "WARPGROUP"),
    "padding": ("NOP",),
}  # fmt: skip
OTHER = "integers, moves"


@dataclasses.dataclass(frozen=True)
class Code:
    """A compiled kernel of one architecture."""

    symbol: str
    architecture: str
    registers: int
    stack_bytes: int
    local_bytes: int
    static_shared_bytes: int
    instructions: tuple  # as text, with predicates and operands

    @property
    def name(self) -> str:
        return kernel_name(self.symbol)

    def mix(self) -> dict:
        """kind -> number of instructions; padding at the end left out."""
        counts = collections.Counter(kind_of(text) for text in self.instructions)
        counts.pop("padding", None)
        return dict(counts)


def kind_of(instruction: str) -> str:
    name = operation(instruction)
    for kind, beginnings in KINDS.items():
        if name.startswith(beginnings):
            return kind
    return OTHER


def operation(instruction: str) -> str:
    """Its name with modifiers."""
    words = instruction.split()
    return words[1] if words[0].startswith("@") else words[0]


def read(path) -> list:
    """Every kernel in a compiled file, by architecture and name."""
    tool, search_path = disassembler()
    if tool is None:
        raise SystemExit(
            "cuobjdump and nvdisasm were found neither beside nvcc nor in the packages "
            "nvidia-cuda-cuobjdump, nvidia-cuda-nvdisasm and triton"
        )
    if not pathlib.Path(path).exists():
        raise SystemExit(f"{path} does not exist")
    environment = {**os.environ, "PATH": search_path}
    usage = run(tool, "-res-usage", str(path), env=environment)
    code = run(tool, "-sass", str(path), env=environment)
    return parse(usage, code)


def parse(usage: str, code: str) -> list:
    """From what cuobjdump says with -res-usage and with -sass."""
    resources = {}
    for architecture, text in by_architecture(usage):
        for symbol, *numbers in re.findall(
            r"Function (\w+):\s*REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", text
        ):
            resources[architecture, symbol] = tuple(map(int, numbers))
    found = []
    for architecture, text in by_architecture(code):
        pieces = re.split(r"Function : (\w+)", text)
        for symbol, body in zip(pieces[1::2], pieces[2::2]):
            registers, stack, shared, local = resources[architecture, symbol]
            lines = tuple(re.findall(INSTRUCTION, body, re.MULTILINE))
            found.append(Code(symbol, architecture, registers, stack, local, shared, lines))
    return sorted(found, key=lambda code: (code.architecture, code.name))


REGISTER = re.compile(r"\b(U?R|U?P|B)(\d+)\b")


def normal(instruction: str) -> str:
    """Without the names of registers and the addresses of branches."""
    return REGISTER.sub(r"\1", _plain(instruction))


def renamed(instructions) -> list:
    """With registers numbered as they first appear in the kernel: what is the same so is the same
    program, whatever its registers are called."""
    names, counts = {}, collections.Counter()

    def rename(match):
        if match[0] not in names:
            names[match[0]] = f"{match[1]}{counts[match[1]]}"
            counts[match[1]] += 1
        return names[match[0]]

    return [REGISTER.sub(rename, _plain(text)) for text in instructions]


def _plain(instruction: str) -> str:
    text = instruction.replace(".reuse", "")
    if kind_of(instruction) == "branches":
        text = re.sub(r"\b0x[0-9a-f]+\b", "there", text)
    return " ".join(text.split())


@dataclasses.dataclass(frozen=True)
class Difference:
    """Of one kernel in two builds; a side that lacks it is None."""

    before: Code | None
    after: Code | None
    lines: tuple  # of a unified diff of normal instructions; if none, of those with operands

    @property
    def same(self) -> bool:
        return not self.lines and self.before is not None and self.after is not None


def compare(before: list, after: list) -> list:
    """By architecture and symbol."""
    sides = [{(code.architecture, code.symbol): code for code in side} for side in (before, after)]
    return [
        Difference(*pair, tuple(_diff(*pair)))
        for key in dict.fromkeys([*sides[0], *sides[1]])
        for pair in [(sides[0].get(key), sides[1].get(key))]
    ]


def _diff(before, after) -> list:
    """Registers of instructions that differ would be numbered otherwise ever after: operands count
    where nothing else differs."""
    if before is None or after is None:
        return []
    sides = (before.instructions, after.instructions)
    return _lines(*([normal(text) for text in side] for side in sides)) or _lines(
        *map(renamed, sides)
    )


def _lines(before: list, after: list) -> list:
    return [
        line
        for line in difflib.unified_diff(before, after, n=0, lineterm="")
        if not line.startswith(("---", "+++", "@@"))
    ]
