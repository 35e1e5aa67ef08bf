# SPDX-License-Identifier: BSD-3-Clause
"""The compact cases in every dtype, run by test_isa.py in a process with LONGATTN_ISA set.

Prints the instruction set in use, then one line for each failure; exits with their number.
"""

import sys

import torch

import comparison
import inputs
import longattn
import rotary_cases
from cases import COMPACT, DILATED
from longattn import native, reference


def failures():
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        for case in COMPACT:
            yield from failure(
                f"{case.name} in {dtype}",
                lambda q, k, v, **arguments: longattn.attention(q, k, v, case.mask, **arguments),
                lambda q, k, v, **arguments: reference.attention(q, k, v, case.mask, **arguments),
                inputs.qkv(case, dtype),
                inputs.call_arguments(case),
                case.name,
            )
        for case in DILATED:
            if case.name in ("blocks, uneven", "rates that do not divide", "grouped heads"):
                yield from failure(
                    f"dilated, {case.name} in {dtype}",
                    longattn.dilated_attention,
                    reference.dilated_attention,
                    inputs.qkv(case, dtype),
                    dict(
                        segment_lengths=case.segment_lengths,
                        dilation_rates=case.dilation_rates,
                        causal=case.causal,
                        head_offset=case.head_offset,
                    ),
                    case.name,
                )


        for case in rotary_cases.COMPACT:
            yield from failure(
                f"rotation, {case.name} in {dtype}", case, dtype, compare=rotary_cases.compare
            )


def failure(name, *comparison_arguments, compare=comparison.compare):
    try:
        compare(*comparison_arguments)
    except AssertionError as error:
        yield f"{name}: {error}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(native.isa())
    found = list(failures())
    print("\n".join(found))
    sys.exit(min(len(found), 100))
