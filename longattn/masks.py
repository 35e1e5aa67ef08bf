# SPDX-License-Identifier: BSD-3-Clause
"""Masks: which keys a query sees, said in global positions.

Every mask lowers to one row band per head (`HeadRule`), the only form that the engines know.
With d = position(query) - position(key), a query sees a key iff it passes every hard term and
(d <= soft_left or position(key) < sink_tokens).

Alignment. A query's position defaults to the bottom right corner: the last query stands at the
last key, as in FlashAttention >= 2.1. `torch.nn.functional.scaled_dot_product_attention` aligns
its `is_causal` to the TOP LEFT; the two agree only when q_len == kv_len.
"""

from __future__ import annotations

import dataclasses
import operator
from numbers import Integral
from typing import NamedTuple, Optional, Union

PerHead = Union[int, tuple]  # one value for all query heads, or a tuple of length q_heads

# Terms travel to the engines as (kind, a, b); the numbers are shared with csrc/semantics/band.h.
DIAGONAL, GROUPS, PREFIX, LEADING, RECENT_GROUPS = 0, 1, 2, 3, 4
UNBOUNDED = -(2**31)
ANY_DISTANCE = 2**62
MAX_SIZE = 2**31 - 1
MAX_TERMS = 4
MAX_RULES = 128  # distinct rules in one call; they travel in the kernel's parameters
MAX_HEADS = 512


class HeadRule(NamedTuple):
    """The row band of one head: hard terms, and a left bound from which sink tokens are exempt."""

    terms: tuple  # of (kind, a, b)
    soft_left: int = UNBOUNDED  # keys with d > soft_left are hidden, unless they are sinks
    sink_tokens: int = 0

    def reach(self) -> tuple:
        """(furthest key behind a query, furthest key ahead) that can be visible."""
        behind, ahead = [], []
        for kind, left, right in self.terms:
            if kind in (GROUPS, RECENT_GROUPS):
                size, back = left, right // left  # see group_place
                behind.append((back + 1) * size - 1)
                ahead.append(size - 1)
            if kind == DIAGONAL:
                behind += [] if left == UNBOUNDED else [left]
                ahead += [] if right == UNBOUNDED else [right]
        if self.soft_left != UNBOUNDED and self.sink_tokens == 0:
            behind.append(self.soft_left)
        return min(behind, default=ANY_DISTANCE), min(ahead, default=ANY_DISTANCE)


@dataclasses.dataclass(frozen=True)
class Mask:
    """Base of all masks: frozen, hashable, combined with `&`."""

    def __and__(self, other: "Mask") -> "Mask":
        if not isinstance(other, Mask):
            return NotImplemented
        return Intersection(self, other)

    def rule(self, head: int) -> HeadRule:
        raise NotImplementedError(f"{type(self).__name__} does not define rule(head)")

    def head_counts(self) -> frozenset:
        """Lengths of the per-head tuples in use; empty if every value holds for all heads."""
        return frozenset(
            len(value)
            for value in (getattr(self, name) for name in self.__dataclass_fields__)
            if isinstance(value, tuple)
        )


@dataclasses.dataclass(frozen=True)
class Full(Mask):
    """Every query sees every key."""

    def rule(self, head: int) -> HeadRule:
        return HeadRule(())


@dataclasses.dataclass(frozen=True)
class Causal(Mask):
    """A query sees the keys at its own position and before (bottom-right aligned)."""

    def rule(self, head: int) -> HeadRule:
        return HeadRule(((DIAGONAL, UNBOUNDED, 0),))


@dataclasses.dataclass(frozen=True)
class Window(Mask):
    """Causal sliding window: the last `size` keys, the query's own position included.

    `size` is what Hugging Face and Mistral call `sliding_window`; `sink_tokens` adds the first
    keys of the sequence (the lambda mask of LM-Infinite and StreamingLLM). Both may be tuples of
    length q_heads.
    """

    size: PerHead
    sink_tokens: PerHead = dataclasses.field(default=0, kw_only=True)

    def __post_init__(self):
        check_sizes("Window size", self.size, 1)
        check_sizes("sink_tokens", self.sink_tokens, 0)
        _make_plain(self)

    @classmethod
    def from_hf(cls, sliding_window: Optional[int], *, sink_tokens: PerHead = 0) -> Mask:
        """Hugging Face's `config.sliding_window`; None there means no window: `Causal()`."""
        if sliding_window is None:
            return Causal()
        return cls(sliding_window, sink_tokens=sink_tokens)

    def rule(self, head: int) -> HeadRule:
        return _band_rule(_of(self.size, head) - 1, 0, _of(self.sink_tokens, head))


@dataclasses.dataclass(frozen=True)
class Band(Mask):
    """FlashAttention's inclusive pair: a query sees keys with -right <= d <= left.

    None means unbounded. `sink_tokens` adds the first keys of the sequence, as far as the right
    bound allows them. Each may be a tuple of length q_heads.
    """

    left: Union[None, PerHead]
    right: Union[None, PerHead]
    sink_tokens: PerHead = dataclasses.field(default=0, kw_only=True)

    def __post_init__(self):
        hint = "; FlashAttention's -1 for 'unbounded' is converted by Band.from_flash"
        check_sizes("Band left", self.left, 0, optional=True, hint=hint)
        check_sizes("Band right", self.right, 0, optional=True, hint=hint)
        check_sizes("sink_tokens", self.sink_tokens, 0)
        _make_plain(self)

    @classmethod
    def from_flash(
        cls, window_size: tuple = (-1, -1), causal: bool = False, *, sink_tokens: PerHead = 0
    ) -> "Band":
        """The mask that FlashAttention applies for `window_size=(left, right)` and `causal`.

        There -1 means unbounded, and causal=True replaces right by 0.
        """
        pair = isinstance(window_size, (tuple, list)) and len(window_size) == 2
        if not pair or any(not _is_int(w) or w < -1 for w in window_size):
            raise ValueError(
                f"window_size must be a pair of integers >= -1 (-1: unbounded), got {window_size!r}"
                "; the last n keys, the query's own included, are Window(n)"
            )
        check_flag("causal", causal)
        left, right = (None if size == -1 else size for size in window_size)
        return cls(left, 0 if causal else right, sink_tokens=sink_tokens)

    def rule(self, head: int) -> HeadRule:
        left, right = _of(self.left, head), _of(self.right, head)
        return _band_rule(
            UNBOUNDED if left is None else left,
            UNBOUNDED if right is None else right,
            _of(self.sink_tokens, head),
        )


@dataclasses.dataclass(frozen=True)
class Groups(Mask):
    """Block-local attention: boundaries at shift + t * size for every integer t.

    A query sees the keys of its own group, causal within it unless causal=False, and those of the
    `back` groups before it: Groups(training_length // 2, back=1) is xPos's blockwise causal
    attention. With a shift the first group is short; nothing wraps around. `size`, `shift` and
    `back` may be tuples of length q_heads (LongLoRA shifts half of the heads by half a group).
    """

    size: PerHead
    shift: PerHead = dataclasses.field(default=0, kw_only=True)
    causal: bool = dataclasses.field(default=True, kw_only=True)
    back: PerHead = dataclasses.field(default=0, kw_only=True)

    def __post_init__(self):
        check_sizes("Groups size", self.size, 1)
        check_sizes("Groups shift", self.shift, None)
        check_sizes("Groups back", self.back, 0)
        check_flag("Groups causal", self.causal)
        _make_plain(self)

    def rule(self, head: int) -> HeadRule:
        size, back = _of(self.size, head), _of(self.back, head)
        place = group_place(size, _of(self.shift, head), back)
        terms = ((RECENT_GROUPS if back else GROUPS, size, place),)
        return HeadRule(terms + ((DIAGONAL, UNBOUNDED, 0),) if self.causal else terms)


@dataclasses.dataclass(frozen=True)
class Prefix(Mask):
    """Prefix-LM: the first `length` keys are visible to all queries, causal beyond."""

    length: PerHead

    def __post_init__(self):
        check_sizes("Prefix length", self.length, 0)
        _make_plain(self)

    def rule(self, head: int) -> HeadRule:
        return HeadRule(((PREFIX, _of(self.length, head), 0),))


@dataclasses.dataclass(frozen=True)
class Intersection(Mask):
    """`a & b`: a query sees the keys that both masks show."""

    first: Mask
    second: Mask

    def rule(self, head: int) -> HeadRule:
        return _intersect(self.first.rule(head), self.second.rule(head), self)

    def head_counts(self) -> frozenset:
        return self.first.head_counts() | self.second.head_counts()


def group_place(size: int, shift: int, back: int) -> int:
    """The group `back` groups before a query's own, as a term says it."""
    place = shift % size + back * size
    if place > MAX_SIZE:
        raise NotImplementedError(
            f"{back} groups of {size} keys reach further back than {MAX_SIZE} keys, which is not "
            "supported"
        )
    return place


def _band_rule(left: int, right: int, sink_tokens: int) -> HeadRule:
    if left == UNBOUNDED or sink_tokens == 0:
        return HeadRule(((DIAGONAL, left, right),))
    return HeadRule(((DIAGONAL, UNBOUNDED, right),), left, sink_tokens)


def _intersect(a: HeadRule, b: HeadRule, mask: Mask) -> HeadRule:
    terms = _merge_terms(a.terms + b.terms)
    if len(terms) > MAX_TERMS:
        raise NotImplementedError(
            f"{mask} needs {len(terms)} terms a head, at most {MAX_TERMS} are supported"
        )
    if a.sink_tokens == 0 or b.sink_tokens == 0:
        soft = a if b.sink_tokens == 0 else b
        return HeadRule(terms, soft.soft_left, soft.sink_tokens)
    if a.sink_tokens == b.sink_tokens:
        return HeadRule(terms, min(a.soft_left, b.soft_left), a.sink_tokens)
    inner, outer = (a, b) if a.sink_tokens < b.sink_tokens else (b, a)
    if inner.soft_left > outer.soft_left:
        raise NotImplementedError(
            f"{mask} shows up to three intervals of keys to a query, two are supported: "
            "the mask with more sink_tokens must have the wider window"
        )
    return HeadRule(terms, inner.soft_left, inner.sink_tokens)


def _merge_terms(terms: tuple) -> tuple:
    """One diagonal at most, no term twice."""
    diagonals = [term for term in terms if term[0] == DIAGONAL]
    others = tuple(dict.fromkeys(term for term in terms if term[0] != DIAGONAL))
    if not diagonals:
        return others
    lefts = [left for _, left, _ in diagonals if left != UNBOUNDED]
    rights = [right for _, _, right in diagonals if right != UNBOUNDED]
    diagonal = (DIAGONAL, min(lefts, default=UNBOUNDED), min(rights, default=UNBOUNDED))
    return others + (diagonal,)


def _of(value, head: int):
    return value[head] if isinstance(value, tuple) else value


def _is_int(value) -> bool:
    """An integer of Python or of NumPy, no truth value."""
    return isinstance(value, (int, Integral)) and not isinstance(value, bool)


def _make_plain(mask: Mask) -> None:
    """Integers of NumPy become Python's: theirs wrap around."""
    for name in mask.__dataclass_fields__:
        value = getattr(mask, name)
        if isinstance(value, int) or value is None:
            continue
        entries = value if isinstance(value, tuple) else (value,)
        plain = tuple(None if entry is None else operator.index(entry) for entry in entries)
        if any(type(entry) is not int and entry is not None for entry in entries):
            object.__setattr__(mask, name, plain if isinstance(value, tuple) else plain[0])


def check_flag(name: str, value) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_sizes(name, value, minimum, *, optional=False, hint=""):
    """Raise unless value (or each entry of a per-head tuple) is an integer in range."""
    if isinstance(value, tuple) and not value:
        raise ValueError(f"{name} must not be an empty tuple")
    for entry in value if isinstance(value, tuple) else (value,):
        if optional and entry is None:
            continue
        if not _is_int(entry):
            accepted = "an integer, a tuple of integers" + (" or None" if optional else "")
            raise TypeError(f"{name} must be {accepted}, got {entry!r}")
        low = -MAX_SIZE if minimum is None else minimum
        if not low <= entry <= MAX_SIZE:
            raise ValueError(f"{name} must be in [{low}, {MAX_SIZE}], got {entry}{hint}")
