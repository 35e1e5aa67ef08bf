# SPDX-License-Identifier: BSD-3-Clause
"""`python -m bench`: longattn beside its rivals, in one run.

Without a command: the standard set, on one thread. `python -m bench PATTERN --help` has the
sizes of a pattern."""

from __future__ import annotations

import argparse
import os
import sys

from bench import arguments, commands, end_to_end, held, ring, ring_overlap, standard
from bench.measure import Options
from bench.run import Run, clock_for, standard_run

RING_SIZES = ("length", "q_heads", "kv_heads", "head_dim")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    arguments.add_measuring(made)
    subparsers = made.add_subparsers(dest="command", metavar="COMMAND")
    arguments.add_patterns(subparsers)

    def command(name: str, text: str):
        one = subparsers.add_parser(name, help=text, description=text)
        arguments.add_measuring(one)
        return one.add_argument

    command("small_call", "the overhead of a call that does next to nothing")
    command("errors", "errors against float64, ours beside the rivals'")
    add = command("scaling", "exponents of time and memory against length")
    add("--dtypes", nargs="+", default=standard.DTYPES, choices=standard.DTYPES)
    add = command("ring", "a ring of processes: CPU time of all ranks, bytes, errors")
    for name in RING_SIZES:
        value = getattr(ring.RingCase, name)
        option = "--" + name.replace("_", "-")
        add(option, type=arguments.positive, default=value, help=f"default {value}")
    add("--dtype", default=ring.RingCase.dtype, choices=arguments.DTYPES)
    add("--plan", action="store_true", help="project from which block on nothing waits for a link")
    add(
        "--tflops",
        type=arguments.above_zero,
        help="of attention kernels, for --plan; default: measured here",
    )
    add(
        "--bandwidth",
        type=arguments.above_zero,
        default=25.0,
        help="GB/s of a link, for --plan (default 25)",
    )
    add = command("end_to_end", "transformers' Llama trained with SDPA and with longattn")
    add("--dtypes", nargs="+", default=standard.DTYPES, choices=standard.DTYPES)
    for name in ("length", "steps", "layers", "hidden"):
        value = getattr(end_to_end.Shape, name)
        add(f"--{name}", type=arguments.positive, default=value, help=f"default {value}")
    add = command("forced", "for the standard set: jobs of a process with a certain environment")
    add("environment", choices=standard.forced_jobs())
    commands.add_all(subparsers)
    return made


def main(words=None) -> int:
    given = parser().parse_args(words)
    if given.command == "ring" and given.plan:
        flops = given.tflops * 1e12 if given.tflops else ring_overlap.measured_flops()
        machine = ring_overlap.Machine(flops, given.bandwidth * 1e9)
        print("\n".join(ring_overlap.table_of(machine)))
        return 0
    if hasattr(given, "run"):
        return given.run(given) or 0
    if given.command == "forced" and held.missing(given.environment, os.environ):
        wanted = held.missing(given.environment, os.environ)
        raise SystemExit(f"forced {given.environment} wants the environment {wanted}")
    arguments.check_folder(given.json)
    settings = {"repeats": given.repeats, "seconds": given.seconds, "seed": given.seed}
    threads = getattr(given, "threads", 1) if given.command != "threads" else 1
    device = getattr(given, "device", "cpu")
    arguments.check_device(device)
    options = Options(clock=clock_for(device, threads), **settings)
    if given.command is None:
        run = standard_run(options, settings, given.json)
    else:
        run = Run(settings, given.json, device)
        _measure(given, run, options)
    for sentence in run.wrong():
        print(f"longattn is wrong: {sentence}", file=sys.stderr)
    return 1 if run.wrong() else 0


def _measure(given, run: Run, options: Options) -> None:
    if given.command == "small_call":
        run.small_call()
    elif given.command == "errors":
        run.errors(standard.error_jobs(), options)
    elif given.command == "scaling":
        run.scaling(given.dtypes, options)
    elif given.command == "ring":
        sizes = {name: getattr(given, name) for name in (*RING_SIZES, "dtype")}
        if sizes["q_heads"] % sizes["kv_heads"]:
            raise SystemExit(
                f"--q-heads must be a multiple of --kv-heads, got {sizes['q_heads']} and "
                f"{sizes['kv_heads']}"
            )
        run.ring(options, **sizes)
    elif given.command == "end_to_end":
        sizes = {name: getattr(given, name) for name in ("length", "steps", "layers", "hidden")}
        run.end_to_end(given.dtypes, options, **sizes)
    elif given.command == "forced":
        run.measure(standard.forced_jobs()[given.environment], options)
    else:
        run.measure(arguments.jobs(given), options)


if __name__ == "__main__":
    sys.exit(main())
