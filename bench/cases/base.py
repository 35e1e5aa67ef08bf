# SPDX-License-Identifier: BSD-3-Clause
"""What is measured: a frozen value that makes its inputs, its calls, its truth and its work."""

from __future__ import annotations

import dataclasses
from typing import Callable, ClassVar, Optional

import torch

SAMPLED_ROWS = 8  # of each of three places, where truth is dense


@dataclasses.dataclass(frozen=True)
class Case:
    """One call of longattn, and what its rivals are asked for.

    Every tensor is [batch, length, heads, dim]; further inputs of a pattern have shapes of their
    own. Fields that a subclass adds are the pattern's parameters and options of the command line.
    """

    length: int = 4096
    dtype: str = "float32"
    head_dim: int = 64
    q_heads: int = 8
    kv_heads: Optional[int] = None  # None: q_heads
    batch: int = 1
    device: str = "cpu"

    pattern: ClassVar[str] = ""
    input_names: ClassVar[tuple] = ("q", "k", "v")
    output_names: ClassVar[tuple] = ("out",)
    wall_clock: ClassVar[bool] = False  # it can only be timed so

    @property
    def title(self) -> str:
        """What a table shows: the pattern and its parameters."""
        raise NotImplementedError(f"{type(self).__name__} has no title")

    def ours(self) -> Callable:
        """longattn's function of the inputs."""
        raise NotImplementedError(f"{type(self).__name__} has no function")

    def rivals(self) -> tuple:
        """Contenders."""
        return ()

    def truth(self, inputs, start: int, stop: int) -> tuple:
        """Rows [start, stop) of the outputs, dense, in the dtype of the inputs."""
        raise NotImplementedError(f"{type(self).__name__} has no truth")

    def visible_pairs(self) -> int:
        """Pairs of a query and a key, over heads and batch; 0 where nothing is multiplied."""
        return 0

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def key_heads(self) -> int:
        return self.q_heads if self.kv_heads is None else self.kv_heads

    @property
    def q_shape(self) -> tuple:
        return (self.batch, self.length, self.q_heads, self.head_dim)

    @property
    def k_shape(self) -> tuple:
        return (self.batch, self.length, self.key_heads, self.head_dim)

    def tolerance(self) -> float:
        """Largest |result - truth| / |truth|, as vectors, of a contender that is right. bfloat16
        rounds to 1 in 256; one key more or less in a window of 1024 shows as 1 in 32."""
        return {"float64": 1e-9, "float32": 1e-4, "bfloat16": 0.02, "float16": 0.005}[self.dtype]

    def inputs(self, seed: int = 0) -> list:
        generator = torch.Generator().manual_seed(seed)
        return [self._random(shape, generator) for shape in self.input_shapes()]

    def input_shapes(self) -> tuple:
        return (self.q_shape, self.k_shape, self.k_shape)

    def output_shapes(self) -> tuple:
        return (self.q_shape,)

    def gradients(self, seed: int = 0, blocks=None) -> list:
        """Of the outputs; zero but in these blocks of rows."""
        generator = torch.Generator().manual_seed(seed + 1)
        made = [self._random(shape, generator) for shape in self.output_shapes()]
        for gradient in made if blocks is not None else ():
            kept = torch.zeros(self.length, dtype=torch.bool, device=gradient.device)
            for start, stop in blocks:
                kept[start:stop] = True
            gradient[:, ~kept] = 0
        return made

    def blocks(self) -> list:
        """Rows whose truth is computed: the first, some in the middle, the last."""
        size = min(SAMPLED_ROWS, self.length)
        middle = (self.length - size) // 2 | 1  # odd, to be in the middle of tiles as well
        starts = {0, min(middle, self.length - size), self.length - size}
        merged = []
        for start in sorted(starts):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], start + size)
            else:
                merged.append((start, start + size))
        return merged

    def parameters(self) -> dict:
        """The fields that the pattern adds."""
        common = {field.name for field in dataclasses.fields(Case)}
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in common
        }

    def _random(self, shape, generator) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(self.torch_dtype).to(self.device)


@dataclasses.dataclass(frozen=True)
class ReferenceCase(Case):
    """A case whose truth is a function of longattn.reference that takes q_start."""

    def reference(self) -> Callable:
        """Of the inputs, with q_start."""
        raise NotImplementedError(f"{type(self).__name__} has no reference")

    def truth(self, inputs, start, stop) -> tuple:
        q, *rest = inputs
        return (self.reference()(q[:, start:stop], *rest, q_start=start),)
