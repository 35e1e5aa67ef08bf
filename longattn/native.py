# SPDX-License-Identifier: BSD-3-Clause
"""The way into native modules: tensors become one flat pack of integers, in the order that
csrc/api/calls.cpp reads them. No tensor is allocated here."""

from __future__ import annotations

import importlib
from functools import lru_cache
from pathlib import Path
from typing import Callable, NamedTuple, Optional

import torch

try:
    _native = importlib.import_module("longattn._native")
except ImportError as error:
    _native = None
    _import_error = error

ELEMENT_TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
BATCH, PACKED, DILATED = 0, 1, 2
HEAD_OFFSETS = {"mod": 0, "blocks": 1}
NO_ROWS = (0, 0, 0)


def module():
    """The native module, or ImportError with what to do."""
    if _native is None:
        raise ImportError(
            f"longattn's native module is not in {Path(__file__).parent}. To build it there, run "
            "`pip install -e .` in longattn's source folder. If longattn is installed already, "
            "this Python was started in the source folder and took that: start it in another "
            "folder. "
            f"(The import said: {_import_error})"
        )
    return _native


class Layout(NamedTuple):
    """How the rows of q and of k form sequences; mirrors SequenceLayout in semantics/problem.h."""

    split: int
    batch: int
    q_len: int
    kv_len: int
    q_start: int
    k_start: int
    cu_seqlens_q: Optional[torch.Tensor] = None
    cu_seqlens_k: Optional[torch.Tensor] = None
    segment_length: int = 1
    rate: int = 1
    head_offset: int = 0
    borders_checked: bool = False  # packed: the values of cu_seqlens

    def covers_all_rows(self) -> bool:
        """Whether every row of q is sure to belong to a sequence."""
        if self.split == DILATED:
            return False
        return self.cu_seqlens_q is None or self.borders_checked

    def pack(self) -> list:
        if self.cu_seqlens_q is None:
            return [*self[:6], 0, 0, *self[8:11]]
        borders = (self.cu_seqlens_q.data_ptr(), self.cu_seqlens_k.data_ptr())
        return [*self[:6], *borders, *self[8:11]]


class Scores(NamedTuple):
    """From the product of q and k to a score; mirrors Problem in semantics/problem.h."""

    softmax_scale: float
    softcap: float = 0.0  # 0: none
    bias: Optional[torch.Tensor] = None  # [heads, size], accumulator dtype
    bias_form: tuple = (0, 0, 0)  # kind, origin, symmetric; see Bias in semantics/biases/bias.h

    def pack(self) -> list:
        kind, origin, symmetric = self.bias_form
        if self.bias is None:
            return [0, 0, 0, 0, 0]
        return [kind, self.bias.data_ptr(), self.bias.shape[-1], origin, symmetric]

    def numbers(self) -> tuple:
        return self.softmax_scale, self.softcap


class BiasGradient(NamedTuple):
    """By distance: [shares, q_heads, span], added to; entry 0 is `first_distance`."""

    sums: torch.Tensor
    first_distance: int

    def pack(self) -> list:
        shares, _, span = self.sums.shape
        return [self.sums.data_ptr(), shares, span, self.first_distance]


class Engine(NamedTuple):
    """One native engine. Results are tensors of the caller, in the accumulator's dtype but for
    the out of a forward pass that does not merge."""

    module: Callable  # -> the native module that holds it
    executor: Callable  # of a tensor -> (threads, device, stream's handle); see api/calls.h
    can_write: bool = False  # gradients in the dtype of q, k and v

    def _problem(self, q, k, v, layout: Layout, scores: Scores) -> list:
        return [
            ELEMENT_TYPES[q.dtype],
            *self.executor(q),
            *_tensor(q),
            *_tensor(k),
            *_tensor(v),
            *layout.pack(),
            q.shape[-2],
            k.shape[-2],
            q.shape[-1],
            v.shape[-1],
            *scores.pack(),
        ]

    def forward(
        self, q, k, v, layout, rules, scores, out, lse, *, merge: bool, sink_logits=None
    ) -> None:
        """Writes out and lse, or merges with the partial that they hold. sink_logits [q_heads] are
        of the accumulator's dtype and not for merges: there the first partial holds them."""
        pack = [
            *self._problem(q, k, v, layout, scores),
            *_tensor(out),
            *_rows(lse),
            merge,
            0 if sink_logits is None else sink_logits.data_ptr(),
        ]
        self.module().forward(pack, rules, scores.numbers())

    def row_dot(self, dout, out, dlse, delta) -> None:
        """delta = rowsum(dout * out) - dlse; out in dout's dtype or in the accumulator's."""
        pack = [
            ELEMENT_TYPES[dout.dtype],
            *self.executor(dout),
            *_tensor(dout),
            *_tensor(out),
            *_rows(dlse),
            *_rows(delta),
            1 if dout.dim() == 3 else dout.shape[0],
            *dout.shape[-3:],
            out.dtype != dout.dtype,
        ]
        self.module().row_dot(pack)

    def backward_sizes(self, q, k, v, layout, rules, scores, *, writes=False) -> tuple:
        """What `backward` wants: numbers of workspace, and shares of a bias gradient."""
        pack = [*self._problem(q, k, v, layout, scores), writes]
        return self.module().backward_sizes(pack, rules, scores.numbers())

    def backward(
        self,
        q,
        k,
        v,
        layout,
        rules,
        scores,
        dout,
        lse,
        delta,
        dq,
        dk,
        dv,
        workspace,
        bias_gradient: Optional[BiasGradient] = None,
        *,
        writes: bool = False,
    ) -> None:
        """Adds to dq, dk, dv and the bias gradient; or writes dq, dk and dv, in q's dtype."""
        pack = [
            *self._problem(q, k, v, layout, scores),
            *_tensor(dout),
            *_rows(lse),
            *_rows(delta),
            *_tensor(dq),
            *_tensor(dk),
            *_tensor(dv),
            *(bias_gradient.pack() if bias_gradient else (0, 0, 0, 0)),
            workspace.data_ptr(),
            workspace.numel(),
            writes,
        ]
        self.module().backward(pack, rules, scores.numbers())


def _tensor(tensor: torch.Tensor) -> tuple:
    """Pointer and strides of [batch, rows, heads, dim] or packed [rows, heads, dim]."""
    *outer, row, head, _ = tensor.stride()
    *_, rows, heads, _ = tensor.shape
    # A dimension of length 1 may have any stride, which would lead to addresses of any alignment.
    # (That of the batch is not stepped with.)
    return (
        tensor.data_ptr(),
        outer[0] if outer else 0,
        0 if rows == 1 else row,
        0 if heads == 1 else head,
    )


def _rows(tensor: Optional[torch.Tensor]) -> tuple:
    """Pointer and strides of [batch, heads, rows] or packed [heads, rows], rows contiguous."""
    if tensor is None:
        return NO_ROWS
    *outer, head, _ = tensor.stride()
    return (tensor.data_ptr(), outer[0] if outer else 0, head)


def _current_stream(tensor: torch.Tensor) -> tuple:
    stream = torch.cuda.current_stream(tensor.device)
    return (1, tensor.device.index, stream.cuda_stream)


@lru_cache(maxsize=None)
def _ask_for_cuda() -> tuple:
    """(why no GPU can be used or None, {index: the same of one GPU}). It starts the driver."""
    reasons = {index: gpu["reason"] for index, gpu in enumerate(module().cuda_devices())}
    return module().cuda_reason(), reasons


# torch.compile looks through a cache, and cannot look into native code.
@torch.compiler.assume_constant_result
def no_cuda_reason(index: Optional[int] = None) -> Optional[str]:
    """Why no GPU can be used, or not the one with this index; None: it can be."""
    reason, reasons = _ask_for_cuda()
    return reasons.get(index) if reason is None else reason


def cuda_module():
    """The native CUDA engine, or NotImplementedError with the reason."""
    reason = no_cuda_reason()
    if reason is not None:
        raise NotImplementedError(cuda_sentence(reason))
    return module().cuda


def cuda_sentence(reason: str, place: str = "") -> str:
    return f"the CUDA engine cannot be used{place}: {reason}"


cpu = Engine(module, lambda tensor: (torch.get_num_threads(), 0, 0), can_write=True)
cuda = Engine(cuda_module, _current_stream)


def visited_tiles() -> int:
    """Tiles that forward and backward visited since the last call of this function."""
    return module().visited_tiles()


def tile_sizes(dtype: torch.dtype) -> tuple:
    """(queries, keys) of a tile of the CPU engine."""
    return module().tile_sizes()


def isa() -> str:
    """The instruction set that the CPU engine uses."""
    return module().isa()


def supported_isas() -> list:
    """Instruction sets that this build and this processor share; LONGATTN_ISA takes one of them."""
    return module().supported_isas()


def compiled_isas() -> list:
    """Instruction sets that this build holds."""
    return module().compiled_isas()
