# SPDX-License-Identifier: BSD-3-Clause
"""Hugging Face's `rope_parameters` (once `rope_scaling`) dict, read into a scaling."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple, Optional

from longattn.rope import fields
from longattn.rope.scaling import (
    NTK,
    DynamicNTK,
    Linear,
    Llama3,
    LongRope,
    Proportional,
    Scaling,
    YaRN,
)

LENGTH = "original_max_position_embeddings"
ANYWHERE = {"rope_type", "type", "rope_theta", "partial_rotary_factor", "max_position_embeddings"}


class Type(NamedTuple):
    """A rope_type: the scaling that it becomes, and its fields, named alike in both."""

    scaling: Optional[type]
    required: tuple = ()
    optional: tuple = ()


YARN_FIELDS = ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate")
LONGROPE_FIELDS = ("factor", "attention_factor", "short_mscale", "long_mscale")
TYPES = {
    "default": Type(None),
    "linear": Type(Linear, ("factor",)),
    "dynamic": Type(DynamicNTK, ("factor",), ("alpha",)),
    "yarn": Type(YaRN, (), ("factor", LENGTH, *YARN_FIELDS)),
    "longrope": Type(LongRope, ("short_factor", "long_factor"), (LENGTH, *LONGROPE_FIELDS)),
    "llama3": Type(Llama3, ("factor", "low_freq_factor", "high_freq_factor"), (LENGTH,)),
    "proportional": Type(Proportional, (), ("factor",)),
}
KNOWN_KEYS = ANYWHERE.union(*(kind.required + kind.optional for kind in TYPES.values()))
MULTIMODAL_TYPES = ("axial", "mrope")


class RopeParameters(NamedTuple):
    """What a dict says; None where it is silent."""

    scaling: Optional[Scaling] = None
    rope_theta: Optional[float] = None
    partial_rotary_factor: Optional[float] = None  # None also where it is part of the scaling
    max_position_embeddings: Optional[int] = None

    def rotary_dim(self, head_dim: int) -> Optional[int]:
        """int(head_dim * partial_rotary_factor), None for all of it."""
        if self.partial_rotary_factor is None:
            return None
        rotary_dim = int(head_dim * self.partial_rotary_factor)
        if rotary_dim < 2 or rotary_dim % 2:
            raise ValueError(
                f"partial_rotary_factor must rotate an even number of at least 2 dimensions, "
                f"{self.partial_rotary_factor} of head_dim {head_dim} is {rotary_dim}"
            )
        return rotary_dim


def needs_length(parameters: Mapping) -> bool:
    """Whether original_max_position_embeddings has a meaning for the type of this flat dict."""
    kind = TYPES[rope_type({key: value for key, value in parameters.items() if value is not None})]
    return LENGTH in kind.optional


def read(parameters: Mapping) -> RopeParameters:
    """parameters: flat. Warns of keys that have no meaning for the type, raises for all else that
    is missing, contradictory or multimodal. None as a value counts as not given."""
    for key in parameters:
        if not isinstance(key, str):
            raise TypeError(f"the keys of rope_parameters must be strings, got {key!r}")
    given = {key: value for key, value in parameters.items() if value is not None}
    name = rope_type(given)
    kind = TYPES[name]
    warn_of_unknown(name, set(given) - ANYWHERE - set(kind.required + kind.optional))
    missing = [key for key in kind.required if key not in given]
    if missing and not (name == "dynamic" and "alpha" in given):
        raise ValueError(f"rope_type {name!r} needs {' and '.join(missing)}, got {sorted(given)}")
    share = fields.optional_number(
        "partial_rotary_factor", given.get("partial_rotary_factor"), at_least=0, at_most=1
    )
    arguments = {key: given[key] for key in kind.required + kind.optional if key in given}
    if name == "proportional" and share is not None:
        arguments["partial_rotary_factor"], share = share, None
    return RopeParameters(
        scaling_of(name, kind, arguments),
        fields.optional_number("rope_theta", given.get("rope_theta"), above=1),
        share,
        fields.optional_integer(
            "max_position_embeddings", given.get("max_position_embeddings"), at_least=1
        ),
    )


def rope_type(given: dict) -> str:
    """The type under its present name."""
    names = [given[key] for key in ("rope_type", "type") if key in given]
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"rope_type must be one of {accepted()}, got {name!r}")
    sections = [key for key in given if "mrope" in key]
    multimodal = [name for name in names if name in MULTIMODAL_TYPES]
    if sections or multimodal:
        raise ValueError(
            f"{(sections + multimodal)[0]!r} means a multimodal rotation (axial, or in sections), "
            f"which longattn does not have; rope_type must be one of {accepted()}"
        )
    present = {present_name(name, given) for name in names}
    if len(present) > 1:
        raise ValueError(
            f"rope_type {given['rope_type']!r} and type {given['type']!r} contradict each other: "
            "give one of them"
        )
    if not present:
        if set(given) - ANYWHERE:
            raise ValueError(
                f"rope_parameters must name a rope_type, one of {accepted()}, when they have "
                f"{sorted(set(given) - ANYWHERE)}"
            )
        return "default"
    name = present.pop()
    if name not in TYPES:
        raise ValueError(f"rope_type must be one of {accepted()}, got {name!r}")
    return name


def present_name(name: str, given: dict) -> str:
    """Phi-3's first configs said "su", then "yarn", for what became "longrope"."""
    lists = "short_factor" in given and "long_factor" in given
    return "longrope" if name == "su" or (name == "yarn" and lists) else name


def scaling_of(name: str, kind: Type, arguments: dict) -> Optional[Scaling]:
    if name == "dynamic" and "alpha" in arguments:
        # HunYuan: a fixed stretch under the name of the growing one
        if arguments.get("factor", 1) != 1:
            raise ValueError(
                f"alpha={arguments['alpha']!r} and factor={arguments['factor']!r} exclude each "
                "other: rope_type 'dynamic' with alpha has factor 1 or none"
            )
        return NTK(fields.number("alpha", arguments["alpha"], at_least=1))
    if name == "yarn":
        # 0 counts as not given, as in Hugging Face
        for key in ("beta_fast", "beta_slow"):
            if arguments.get(key) == 0:
                del arguments[key]
    return None if kind.scaling is None else kind.scaling(**arguments)


def warn_of_unknown(name: str, unknown: set) -> None:
    if unknown:
        warnings.warn(
            f"rope_type {name!r} has no {', '.join(map(repr, sorted(unknown)))}: ignored",
            stacklevel=5,  # who called RotaryEmbedding or from_hf
        )


def accepted() -> str:
    return ", ".join(map(repr, TYPES))
