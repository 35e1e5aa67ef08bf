# SPDX-License-Identifier: BSD-3-Clause
"""An engine whose every tensor lies between guards, so that what a kernel touches beside its
tensors shows as NaN (it was read) or as a broken guard (it was written), and harms no other memory.
"""

import torch

from longattn import native

GUARD = 2**17  # elements before and after: more than a tile of rows of any test

# Signalling NaNs: arithmetic makes them quiet, so even `x += 0` leaves a trace in the bits.
CANARIES = {
    torch.float32: (torch.int32, 0x7FA00000),
    torch.bfloat16: (torch.int16, 0x7FA0),
    torch.float16: (torch.int16, 0x7D00),
}


class BrokenGuard(AssertionError):
    """A kernel has written where no tensor is."""


class Guarded:
    """A copy of a tensor, of the same strides, with canaries all around and in its gaps."""

    def __init__(self, name, tensor, *, empty=False):
        self.name = name
        self.original = tensor
        # As far from a multiple of 16 bytes as the tensor itself.
        self.begin = GUARD + tensor.data_ptr() % 16 // tensor.element_size()
        strides = zip(tensor.shape, tensor.stride())
        span = 1 + sum((length - 1) * stride for length, stride in strides) if tensor.numel() else 0
        self.bits_type, self.canary = CANARIES[tensor.dtype]
        bits = torch.full((self.begin + span + GUARD,), self.canary, dtype=self.bits_type)
        self.storage = bits.view(tensor.dtype)
        self.inside = self._view(self.storage)
        if not empty:
            self.inside.copy_(tensor)

    def _view(self, storage):
        return storage.as_strided(self.original.shape, self.original.stride(), self.begin)

    def check(self) -> None:
        """Raises BrokenGuard if anything but the tensor's own elements has changed."""
        outside = torch.ones(self.storage.shape, dtype=torch.bool)
        self._view(outside).fill_(False)
        broken = outside & (self.storage.view(self.bits_type) != self.canary)
        if broken.any():
            first = int(broken.nonzero()[0]) - self.begin
            raise BrokenGuard(
                f"{self.name}: {int(broken.sum())} canaries beside the tensor are dead, the first "
                f"at {first} elements from its begin (shape {tuple(self.original.shape)}, "
                f"strides {self.original.stride()})"
            )


class GuardedResults:
    """In the place of a function like torch.empty_like: its tensors lie between guards."""

    KEPT = 16  # tensors, before they are looked at

    def __init__(self):
        self.made = []

    def __call__(self, like):
        if isinstance(like, torch._subclasses.FakeTensor):
            return torch.empty_like(like)  # torch.compile asks for shapes: nobody will write there
        if len(self.made) >= self.KEPT:
            self.check()
        guarded = Guarded("a result", torch.empty_like(like), empty=True)
        self.made.append(guarded)
        inside = guarded.inside
        place = (inside.storage_offset(), inside.shape, inside.stride())
        return torch.empty(0, dtype=like.dtype).set_(guarded.storage.untyped_storage(), *place)

    def check(self) -> None:
        """Raises BrokenGuard if anything beside the tensors that were made has changed."""
        made, self.made = self.made, []
        for guarded in made:
            guarded.check()


class GuardedEngine(native.Engine):
    """Hands guarded copies of all tensors to the engine and takes the results back."""

    def forward(self, q, k, v, layout, rules, scores, out, lse, *, merge, sink_logits=None) -> None:
        read = _guarded(q=q, k=k, v=v, bias=scores.bias, sink_logits=sink_logits)
        q, k, v, bias, sink_logits = _insides(read)
        # Rows of a packed tensor that no sequence holds keep what the caller has put there.
        keeps = merge or not layout.covers_all_rows()
        written = _guarded(empty=not keeps, out=out, lse=lse)
        super().forward(
            *(q, k, v, layout, rules, scores._replace(bias=bias)),
            *_insides(written),
            merge=merge,
            sink_logits=sink_logits,
        )
        _take_back(read, written)

    def row_dot(self, dout, out, dlse, delta) -> None:
        read = _guarded(dout=dout, out=out, dlse=dlse)
        written = _guarded(empty=True, delta=delta)
        super().row_dot(*_insides(read), *_insides(written))
        _take_back(read, written)

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
        bias_gradient=None,
        *,
        writes=False,
    ) -> None:
        read = _guarded(q=q, k=k, v=v, bias=scores.bias, dout=dout, lse=lse, delta=delta)
        q, k, v, bias, *rows = _insides(read)
        sums = None if bias_gradient is None else bias_gradient.sums
        written = _guarded(dq=dq, dk=dk, dv=dv, bias_sums=sums)
        *gradients, sums = _insides(written)
        scratch = _guarded(empty=True, workspace=workspace)
        super().backward(
            *(q, k, v, layout, rules, scores._replace(bias=bias)),
            *(*rows, *gradients, *_insides(scratch)),
            bias_gradient and bias_gradient._replace(sums=sums),
            writes=writes,
        )
        _take_back(read, written + scratch)


def _guarded(*, empty=False, **tensors) -> list:
    return [
        None if tensor is None else Guarded(name, tensor.detach(), empty=empty)
        for name, tensor in tensors.items()
    ]


def _insides(guarded) -> list:
    return [None if tensor is None else tensor.inside for tensor in guarded]


def _take_back(read, written) -> None:
    for tensor in filter(None, read + written):
        tensor.check()
    for tensor in filter(None, written):
        tensor.original.copy_(tensor.inside)
