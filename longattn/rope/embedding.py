# SPDX-License-Identifier: BSD-3-Clause
"""RotaryEmbedding: by which angles queries and keys are turned, as an immutable value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Optional

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from longattn.readable import active_fake_mode
from longattn.rope import fields, hugging_face, rope_parameters
from longattn.rope.geometry import Geometry
from longattn.rope.scaling import Scaling


@dataclasses.dataclass(frozen=True)
class RotaryEmbedding:
    """Rotary position embedding (RoFormer, 2104.09864): frozen, hashable, equal by value.

    The vector at position p is turned in its pair i by the angle p * inv_freq[i], then multiplied
    by `attention_factor`. `longattn.apply_rotary` does it.

    head_dim: even. base: the theta of Hugging Face, greater than 1.
    scaling: None, a value of `longattn.rope` such as `Linear(4.0)`, or a rope_parameters dict of
      Hugging Face, which is turned into such a value.
    max_position_embeddings: the length that the model is made for; some scalings need it.
    interleaved: which dimensions form pair i; False (NeoX, Hugging Face): i and i + rotary_dim / 2,
      True (RoFormer, GPT-J, xPos): 2i and 2i + 1.
    rotary_dim: how many leading dimensions are rotated, even; None means all. The rest passes.
    xpos_scale_base: see `RotaryEmbedding.xpos`.

    TypeError and ValueError name the field and what it accepts.
    `dataclasses.replace(rope, scaling=...)` gives a changed copy.
    """

    head_dim: int
    base: float = 10000.0
    _: dataclasses.KW_ONLY
    scaling: Optional[Scaling] = None
    max_position_embeddings: Optional[int] = None
    interleaved: bool = False
    rotary_dim: Optional[int] = None
    xpos_scale_base: Optional[float] = None

    def __post_init__(self):
        set_field = object.__setattr__  # the only place where fields are set
        set_field(self, "head_dim", _even("head_dim", self.head_dim))
        set_field(self, "base", fields.number("base", self.base, above=1))
        length = self.max_position_embeddings
        length = fields.optional_integer("max_position_embeddings", length, at_least=1)
        set_field(self, "max_position_embeddings", length)
        set_field(self, "interleaved", fields.flag("interleaved", self.interleaved))
        if isinstance(self.scaling, Mapping):
            self._take_dict(rope_parameters.read(self.scaling))
        if self.scaling is not None and not isinstance(self.scaling, Scaling):
            raise TypeError(
                "scaling must be None, a scaling of longattn.rope or a rope_parameters dict, got "
                f"{self.scaling!r}"
            )
        rotary_dim = self.head_dim if self.rotary_dim is None else self.rotary_dim
        set_field(self, "rotary_dim", _even("rotary_dim", rotary_dim))
        if self.rotary_dim > self.head_dim:
            raise ValueError(
                f"rotary_dim must be at most head_dim = {self.head_dim}, got {self.rotary_dim}"
            )
        scale_base = fields.optional_number(
            "xpos_scale_base", self.xpos_scale_base, at_least=fields.SMALLEST
        )
        set_field(self, "xpos_scale_base", scale_base)
        if scale_base is not None and self.scaling is not None:
            raise ValueError(
                f"xpos_scale_base={scale_base} and scaling={self.scaling} exclude each other: xPos "
                "is defined for unscaled angles, pass scaling=None"
            )
        if active_fake_mode() is None:
            table = self._first_table()
        else:  # a model that is built without memory, to be filled later
            with unset_fake_temporarily():
                table = self._first_table()
        if table.shape != (self.rotary_dim // 2,):
            raise ValueError(
                f"{self.scaling} gives {tuple(table.shape)} frequencies, "
                f"rotary_dim {self.rotary_dim} has {self.rotary_dim // 2} pairs"
            )
        set_field(self, "_inv_freq", table)
        set_field(self, "_attention_factor", self._factor(None))

    @classmethod
    def from_hf(
        cls,
        config,
        layer_type: Optional[str] = None,
        *,
        head_dim: Optional[int] = None,
        max_position_embeddings: Optional[int] = None,
        interleaved: Optional[bool] = None,
    ) -> RotaryEmbedding:
        """The rotation of a Hugging Face model.

        config: a config object, its dict (config.json), or a rope_parameters (once rope_scaling)
          dict alone, which needs head_dim, and max_position_embeddings for some types. Types:
          default, linear, dynamic, yarn, longrope (once su), llama3, proportional; `longattn.rope`
          has a scaling for each. Old keys are understood: type, rope_theta outside of the dict,
          rotary_pct. Keys without meaning warn; multimodal types (axial, mrope) raise.
        layer_type: which entry of parameters that are nested by layer type, such as
          "sliding_attention".
        head_dim, max_position_embeddings, interleaved: override what the config says. Few configs
          say whether pairs are interleaved (rope_interleave); None then means that they are not.

        Where the trained length original_max_position_embeddings stands both in a config and in its
        flat dict, the config's counts, as in Hugging Face; where in neither, it is
        max_position_embeddings. ValueError for missing or contradictory fields.
        """
        return cls(
            **hugging_face.arguments(
                config, layer_type, head_dim, max_position_embeddings, interleaved
            )
        )

    @classmethod
    def xpos(
        cls,
        head_dim: int,
        base: float = 10000.0,
        *,
        scale_base: float = 512.0,
        interleaved: bool = True,
    ) -> RotaryEmbedding:
        """xPos (2212.10554): rotation plus a decay per pair, for causal attention only.

        The score of pair i is multiplied by zeta_i ** (distance / scale_base) with
        zeta_i = (2i + 0.4 d) / (1.4 d). The default layout is that of torchscale.
        """
        return cls(head_dim, base, interleaved=interleaved, xpos_scale_base=scale_base)

    @property
    def inv_freq(self) -> torch.Tensor:
        """Angles per position, float64 [rotary_dim / 2] on the CPU; a copy, the value stays."""
        return self._inv_freq.clone()

    def inv_freq_for(self, seq_len: int) -> torch.Tensor:
        """The same for sequences whose largest position is seq_len - 1."""
        seq_len = fields.length("seq_len", seq_len)
        return self._table(seq_len) if self.depends_on_length else self.inv_freq

    @property
    def attention_factor(self) -> float:
        """Multiplies cos and sin, of queries and of keys: scores grow by its square."""
        return self._attention_factor

    def attention_factor_for(self, seq_len: int) -> float:
        """The same for sequences whose largest position is seq_len - 1."""
        seq_len = fields.length("seq_len", seq_len)
        return self._factor(seq_len) if self.depends_on_length else self.attention_factor

    @property
    def softmax_scale_factor(self) -> float:
        """What DeepSeek's attention multiplies its softmax scale by, else 1."""
        return (
            1.0
            if self.scaling is None
            else self.scaling.compute_softmax_scale_factor(self._geometry())
        )

    @property
    def depends_on_length(self) -> bool:
        """Whether angles or factor change with the length; then only raw keys can be cached."""
        return self.scaling is not None and self.scaling.depends_on_length

    @property
    def xpos_log_growth(self) -> Optional[torch.Tensor]:
        """ln(zeta_i) / scale_base, float64 [rotary_dim / 2], negative; None without xPos.

        A query at p is multiplied by exp((p - c) * growth), a key by exp(-(p - c) * growth), for
        any common centre c.
        """
        if self.xpos_scale_base is None:
            return None
        zeta = (2 * self._geometry().pairs() / self.rotary_dim + 0.4) / 1.4
        return zeta.log() / self.xpos_scale_base

    def _take_dict(self, found: rope_parameters.RopeParameters) -> None:
        """scaling was a rope_parameters dict: what else it says must agree with the arguments."""
        if found.rope_theta not in (None, self.base):
            raise ValueError(
                f"base={self.base} and rope_theta={found.rope_theta} of scaling contradict each "
                "other: give the same, or leave rope_theta out"
            )
        said = {
            "max_position_embeddings": found.max_position_embeddings,
            "rotary_dim": found.rotary_dim(self.head_dim),
        }
        for name, value in said.items():
            if value is not None and getattr(self, name) not in (None, value):
                raise ValueError(
                    f"{name}={getattr(self, name)} and scaling, which says {value}, contradict "
                    "each other: give one of them"
                )
            if value is not None:
                object.__setattr__(self, name, value)
        object.__setattr__(self, "scaling", found.scaling)

    def _geometry(self) -> Geometry:
        return Geometry(self.head_dim, self.rotary_dim, self.base, self.max_position_embeddings)

    def _first_table(self) -> torch.Tensor:
        with torch.inference_mode(False):  # or autograd could not save what was made under it
            return self._table(None)

    def _table(self, seq_len) -> torch.Tensor:
        geometry = self._geometry()
        if self.scaling is None:
            return geometry.inv_freq()
        return self.scaling.compute_inv_freq(geometry, seq_len)

    def _factor(self, seq_len) -> float:
        if self.scaling is None:
            return 1.0
        return self.scaling.compute_attention_factor(self._geometry(), seq_len)

    def __reduce__(self):
        """Pickles the definition and not the tables that follow from it."""
        arguments = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return _rebuild, (type(self), arguments)


def _rebuild(cls, arguments: dict) -> RotaryEmbedding:
    return cls(**arguments)


def _even(name: str, value) -> int:
    value = fields.integer(name, value, at_least=2, at_most=2**16)
    if value % 2:
        raise ValueError(f"{name} must be even, pairs of dimensions are rotated, got {value}")
    return value
