# SPDX-License-Identifier: BSD-3-Clause
"""`python -m bench [--repeats N] [--json FILE]`: one thread, every case beside its rival."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess

import torch

import longattn
from bench.cases import Case, standard_cases
from bench.timing import compare, seconds_per_call
from longattn import native

# The rule for a rival that is asked the same: it must agree before it is timed.
AGREEMENT = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


def tensors(case: Case):
    generator = torch.Generator().manual_seed(0)
    shape = (1, case.length, case.heads, case.head_dim)
    ours = [torch.randn(shape, generator=generator).to(case.dtype) for _ in range(3)]
    theirs = [tensor.transpose(1, 2).contiguous() for tensor in ours]
    gradient = torch.randn(shape, generator=generator).to(case.dtype)
    return ours, theirs, gradient


def measure(case: Case, repeats: int) -> list:
    """Rows for forward, backward, and both."""
    ours, theirs, dout = tensors(case)
    their_dout = dout.transpose(1, 2).contiguous()
    with torch.no_grad():
        difference = (case.ours(*ours).transpose(1, 2) - case.theirs(*theirs)).abs().max().item()
        if not difference <= AGREEMENT[case.dtype]:
            raise AssertionError(f"{case.name}: {case.rival} differs by {difference}")
        forward = compare(lambda: case.ours(*ours), lambda: case.theirs(*theirs), repeats)
    for tensor in (*ours, *theirs):
        tensor.requires_grad_()
    out, their_out = case.ours(*ours), case.theirs(*theirs)

    def gradients(result, inputs, gradient):
        return torch.autograd.grad(result, inputs, gradient, retain_graph=True)

    backward = compare(
        lambda: gradients(out, ours, dout),
        lambda: gradients(their_out, theirs, their_dout),
        repeats,
    )
    both = compare(
        lambda: gradients(case.ours(*ours), ours, dout),
        lambda: gradients(case.theirs(*theirs), theirs, their_dout),
        repeats,
    )
    # Two products forward, five backward, over the pairs that the mask shows.
    products = 2 * case.head_dim * case.heads * case.visible_pairs
    rows = (("forward", forward, 2), ("backward", backward, 5), ("both", both, 7))
    return [row(case, part, pair, count * products) for part, pair, count in rows]


def row(case: Case, part: str, pair, operations: int) -> dict:
    return {
        "case": case.name,
        "rival": case.rival,
        "dtype": str(case.dtype).removeprefix("torch."),
        "length": case.length,
        "heads": case.heads,
        "head_dim": case.head_dim,
        "part": part,
        "ours_ms": round(pair.ours * 1e3, 1),
        "rival_ms": round(pair.rival * 1e3, 1),
        "ours_gflops": round(operations / pair.ours / 1e9, 1),
        "ratio": round(pair.ratio, 2),
        "ratio_range": [round(pair.ratio_low, 2), round(pair.ratio_high, 2)],
    }


def overhead() -> dict:
    """CPU microseconds of a call so small that nothing but overhead is left."""
    q = torch.randn(1, 4, 2, 16, requires_grad=True)
    mask = longattn.Causal()
    transposed = q.transpose(1, 2)
    return {
        "ours_us": round(seconds_per_call(lambda: longattn.attention(q, q, q, mask)) * 1e6, 1),
        "sdpa_us": round(
            seconds_per_call(
                lambda: torch.nn.functional.scaled_dot_product_attention(
                    transposed, transposed, transposed, is_causal=True
                )
            )
            * 1e6,
            1,
        ),
    }


def commit() -> str:
    """What was measured; "+" marks a tree with changes of its own."""
    command = ["git", "describe", "--always", "--dirty=+"]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.stdout.strip() or "unknown"


def machine() -> dict:
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            model = next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        pass  # not Linux, or a processor without a name: the architecture will do
    return {
        "processor": model,
        "isa": native.isa(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "longattn": longattn.__version__,
        "commit": commit(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="pairs of runs a row (default 5)")
    parser.add_argument("--json", help="also write the results to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {"machine": machine(), "small_call": overhead(), "rows": []}
    print(", ".join(f"{name} {value}" for name, value in result["machine"].items()))
    print("a small call with gradients:", result["small_call"])
    for case in standard_cases():
        for entry in measure(case, options.repeats):
            result["rows"].append(entry)
            print(
                f"{entry['case']:24} {entry['dtype']:9} d{entry['head_dim']:<4} {entry['part']:9}"
                f"{entry['ours_ms']:9.1f} ms {entry['ours_gflops']:7.1f} GFLOP/s   "
                f"{entry['ratio']:5.2f} x {entry['rival']} {entry['ratio_range']}",
                flush=True,
            )
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
