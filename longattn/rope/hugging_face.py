# SPDX-License-Identifier: BSD-3-Clause
"""Hugging Face configs, as objects or dicts, read into the arguments of RotaryEmbedding.

transformers is not needed: a config is what has the right attributes or keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from longattn.rope import fields
from longattn.rope.rope_parameters import KNOWN_KEYS, LENGTH, needs_length, read

# A dict with one of these is a whole config; without, it is rope_parameters alone.
CONFIG_KEYS = (
    "rope_parameters",
    "rope_scaling",
    "text_config",
    "model_type",
    "head_dim",
    "hidden_size",
    "num_attention_heads",
)
# Where a flat config (Gemma 3, ModernBERT) says the base of sliding attention, and of the rest.
LOCAL_BASES = ("rope_local_base_freq", "local_rope_theta")
BASES = ("global_rope_theta", "rope_theta", "rotary_emb_base")


def arguments(config, layer_type, head_dim, max_position_embeddings, interleaved) -> dict:
    """The arguments of RotaryEmbedding; the last three override the config unless None."""
    if layer_type is not None and not isinstance(layer_type, str):
        raise TypeError(f"layer_type must be a string or None, got {layer_type!r}")
    get = reader(config)
    found = read(layer_parameters(get, layer_type))
    if max_position_embeddings is None:
        max_position_embeddings = first(get, "max_position_embeddings")
    if max_position_embeddings is None:
        max_position_embeddings = found.max_position_embeddings
    head_dim = fields.integer(
        "head_dim",
        head_dim_of(config, get, layer_type) if head_dim is None else head_dim,
        at_least=2,
    )
    if interleaved is None:
        interleaved = bool(get("rope_interleave"))  # DeepSeek and its descendants
    return {
        "head_dim": head_dim,
        "base": 10000.0 if found.rope_theta is None else found.rope_theta,
        "scaling": found.scaling,
        "max_position_embeddings": max_position_embeddings,
        "interleaved": interleaved,
        "rotary_dim": found.rotary_dim(head_dim),
    }


def reader(config) -> Callable:
    """get(name) -> the value of a config's field, or None."""
    if isinstance(config, Mapping):
        if not any(key in config for key in CONFIG_KEYS):
            config = {"rope_parameters": config}
        get = config.get
    elif any(hasattr(type(config), key) or key in vars_of(config) for key in CONFIG_KEYS):

        def get(name):
            return getattr(config, name, None)

    else:
        raise TypeError(
            "config must be a Hugging Face config, its dict, or a rope_parameters dict, got "
            f"{type(config).__name__}"
        )
    own = ("rope_parameters", "rope_scaling", "rope_theta", "hidden_size")
    if first(get, *own) is None and get("text_config") is not None:
        return reader(get("text_config"))  # of a model that also sees or hears
    return get


def vars_of(config) -> dict:
    return getattr(config, "__dict__", {})


def first(get: Callable, *names: str):
    return next((value for value in map(get, names) if value is not None), None)


def layer_parameters(get: Callable, layer_type) -> dict:
    """The flat dict of one layer type, completed by what stands beside it in the config."""
    parameters = either_name(get)
    labels = [
        key for key, value in parameters.items()
        if isinstance(value, Mapping) and key not in KNOWN_KEYS
    ]  # fmt: skip
    if labels:
        chosen = nested_parameters(parameters, layer_type)
    else:
        chosen = flat_parameters(get, parameters, layer_type)
        if get(LENGTH) is not None and needs_length(chosen):
            chosen[LENGTH] = get(LENGTH)  # Phi-3: the config's own field goes before the dict's
    if chosen.get("rope_theta") is None:
        chosen["rope_theta"] = first(get, *BASES)
    if chosen.get("partial_rotary_factor") is None:
        chosen["partial_rotary_factor"] = first(get, "partial_rotary_factor", "rotary_pct")
    return chosen


def either_name(get: Callable) -> Mapping:
    """rope_parameters under its present or its old name."""
    found = {}
    for name in ("rope_parameters", "rope_scaling"):
        value = get(name)
        if value is None:
            continue
        if not isinstance(value, Mapping):
            raise TypeError(f"{name} must be a dict or None, got {value!r}")
        if value:
            found[name] = value
    present, old = found.get("rope_parameters"), found.get("rope_scaling")
    if present is not None and old is not None and present != old:
        raise ValueError(
            f"rope_parameters {dict(present)} and rope_scaling {dict(old)} contradict each other: "
            "give one of them"
        )
    return present or old or {}


def nested_parameters(parameters: Mapping, layer_type) -> dict:
    """Hugging Face 5.23 reads YaRN's `truncate` beside the layer types and ignores it inside; here
    the layer's own comes first."""
    labels = [key for key in parameters if key not in KNOWN_KEYS]
    if layer_type not in labels:
        raise ValueError(
            f"layer_type must be one of {', '.join(map(repr, labels))}, which have parameters of "
            f"their own, got {layer_type!r}"
        )
    if parameters[layer_type] is None:
        raise ValueError(f"layers of type {layer_type!r} have no rotation: their entry is None")
    if not isinstance(parameters[layer_type], Mapping):
        raise TypeError(
            f"rope_parameters[{layer_type!r}] must be a dict, got {parameters[layer_type]!r}"
        )
    chosen = dict(parameters[layer_type])
    if "truncate" in parameters:
        chosen.setdefault("truncate", parameters["truncate"])
    return chosen


def flat_parameters(get: Callable, parameters: Mapping, layer_type) -> dict:
    """One dict for all layers, except where an old config has a base of its own for the sliding
    ones: there Gemma 3 applies the scaling to full attention only, ModernBERT to both."""
    chosen = dict(parameters)
    local = first(get, *LOCAL_BASES)
    if local is None:
        return chosen
    accepted = ("full_attention", "sliding_attention")
    if layer_type not in accepted:
        raise ValueError(
            f"layer_type must be one of {', '.join(map(repr, accepted))}: this config has a base "
            f"of its own for sliding attention, got {layer_type!r}"
        )
    if layer_type == "full_attention":
        return chosen
    return {**(chosen if get("rope_local_base_freq") is None else {}), "rope_theta": local}


def head_dim_of(config, get: Callable, layer_type):
    """From the layer type's own overrides (Gemma 4), else the config's field, else derived."""
    own = layer_head_dim(config, get, layer_type)
    head_dim = first(get, "head_dim", "qk_rope_head_dim") if own is None else own
    if head_dim is not None:
        return head_dim
    width, heads = get("hidden_size"), get("num_attention_heads")
    if width is None or heads is None:
        raise ValueError(
            "head_dim must be given: there is neither head_dim nor hidden_size and "
            "num_attention_heads to derive it from"
        )
    width = fields.integer("hidden_size", width, at_least=1)
    return width // fields.integer("num_attention_heads", heads, at_least=1)


def layer_head_dim(config, get: Callable, layer_type):
    overrides, layer_types = get("per_layer_config"), get("layer_types")
    if layer_type is None or not overrides or not layer_types:
        return None
    if not isinstance(overrides, Mapping):
        return (
            getattr(overrides[layer_type], "head_dim", None) if layer_type in layer_types else None
        )
    for index, label in enumerate(layer_types):
        override = overrides.get(str(index), overrides.get(index))
        if label == layer_type and isinstance(override, Mapping) and "head_dim" in override:
            return override["head_dim"]
    return None
