# SPDX-License-Identifier: BSD-3-Clause
"""What was built, what this machine offers, and why a backend is not available.

`python -m longattn env` prints it. A look-up that fails becomes a sentence in the report, which
must come out whole on the very machines where something is wrong.
"""

import os
import platform
import sys
from pathlib import Path

import torch

from longattn import backends, native
from longattn.version import __version__


def report():
    """The report as text: a line for each fact, values aligned."""
    facts = [*_software(), *_native_module(), *_backends()]
    width = max(len(label) for label, _ in facts) + 2
    return "\n".join(f"{label:<{width}}{value}" for label, value in facts)


def main():
    print(report())
    return 0


def _software():
    yield "longattn", f"{__version__} ({Path(__file__).parent})"
    yield "Python", f"{platform.python_version()} ({sys.executable})"
    yield "torch", f"{torch.__version__} (its CUDA: {torch.version.cuda or 'none'})"
    yield "system", f"{platform.system()} {platform.machine()}"
    yield "processor", f"{_processor_name()}, {os.cpu_count()} logical cores"
    yield "threads", f"{torch.get_num_threads()} (torch.get_num_threads())"


def _native_module():
    try:
        module = native.module()
    except ImportError as error:
        yield "native module", f"missing: {error}"
        return
    yield "native module", module.__file__
    yield from _cpu_tiers()
    yield from _cuda(module)


def _cpu_tiers():
    forced = os.environ.get("LONGATTN_ISA")
    why = f"forced by LONGATTN_ISA={forced}" if forced else "the best that runs here"
    try:
        yield "CPU tier", f"{native.isa()} ({why})"
    except ValueError as error:
        yield "CPU tier", f"none: {error}"
    yield "CPU tiers that run here", ", ".join(native.supported_isas())
    yield "CPU tiers built", ", ".join(native.compiled_isas())


def _cuda(module):
    if not module.cuda_built():
        yield "built with CUDA", f"no: {module.cuda_reason()}"
        return
    driver, runtime = module.cuda_versions()
    yield "built with CUDA", f"{runtime}, for {module.cuda_architectures()}"
    reason = module.cuda_reason()
    usable = f"driver for CUDA {driver}" if reason is None else f"cannot be used: {reason}"
    yield "CUDA at run time", usable
    for index, gpu in enumerate(module.cuda_devices()):
        yield f"GPU {index}", _gpu_text(gpu)


def _gpu_text(gpu):
    major, minor = gpu["compute_capability"]
    text = (
        f"{gpu['name']}, compute capability {major}.{minor}, "
        f"{gpu['memory_bytes'] / 2**30:.1f} GiB, {gpu['multiprocessors']} multiprocessors, "
        f"{gpu['shared_memory_per_block_bytes'] / 1024:.0f} KiB shared memory a block"
    )
    return text if gpu["reason"] is None else f"{text}; cannot be used: {gpu['reason']}"


def _backends():
    for device_type in ("cpu", "cuda"):
        available, reason = backends.available(device_type)
        yield f"backend for {device_type}", "available" if available else f"not available: {reason}"


def _processor_name():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"

