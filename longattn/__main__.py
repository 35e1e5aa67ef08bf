# SPDX-License-Identifier: BSD-3-Clause
"""`python -m longattn env`, `demo` and `extrapolate`."""

import sys

USAGE = """usage: python -m longattn COMMAND

  env          what was built, what this machine offers, why a backend is not available
  demo         train a small language model on short texts, evaluate it on long ones
  extrapolate  the loss at up to 16 times the training length, for many ways to tell positions

`demo --help` and `extrapolate --help` say more."""


def main(arguments):
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    command, *rest = arguments
    if command == "env":
        if rest:
            return _refuse(f"`env` takes no arguments, got {' '.join(rest)!r}.")
        from longattn import environment

        return environment.main()
    if command == "demo":
        from longattn.demo import main as demo

        return demo(rest)
    if command == "extrapolate":
        from longattn.demo.extrapolation import main as extrapolate

        return extrapolate(rest)
    return _refuse(f"unknown command {command!r}; the commands are env, demo and extrapolate.")


def _refuse(sentence):
    print(f"python -m longattn: {sentence}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
