# SPDX-License-Identifier: BSD-3-Clause
"""Models of Hugging Face transformers with longattn's attention, masks of your choice included.

`register()` makes "longattn" an `attn_implementation` for models that ask transformers'
AttentionInterface and whose masks are full, causal or windows: Llama, Mistral, Gemma 2 (softcap),
gpt-oss (sink logits) and others. What else a mask says raises. Needs `pip install transformers`.

    python examples/transformers_models.py    # a small Llama beside its own SDPA
"""

import torch
from transformers import AttentionInterface, AttentionMaskInterface, LlamaConfig, LlamaForCausalLM

import longattn
from longattn import reference

ROWS = 64  # of a mask that are looked at
# Keywords of transformers that say nothing about the scores.
IGNORED = {
    "position_ids", "cache_position", "use_cache", "output_attentions", "num_items_in_batch",
    "position_embeddings", "is_causal", "past_key_values", "labels", "logits_to_keep",
    "output_hidden_states", "return_dict", "output_router_logits", "sliding_window",
    "deterministic",
}  # fmt: skip


def register(mask=None, name="longattn") -> None:
    """mask: in the place of the model's own in every layer, such as
    `longattn.Window(1024, sink_tokens=4)`."""

    def attend(
        module, query, key, value, attention_mask, scaling=None, dropout=0.0, softcap=None,
        s_aux=None, **rest,
    ):  # fmt: skip
        """[batch, heads, rows, dim] -> ([batch, rows, heads, dim], None), as transformers asks."""
        unknown = {key for key, value in rest.items() if value is not None} - IGNORED
        if dropout or unknown or not isinstance(attention_mask, longattn.masks.Mask):
            raise NotImplementedError(
                "dropout, keywords that longattn does not know, and models that make their masks "
                f"themselves are not supported, got dropout {dropout}, {sorted(unknown)} and a "
                f"mask of type {type(attention_mask).__name__}"
            )
        out = longattn.attention(
            *(tensor.transpose(1, 2) for tensor in (query, key, value)),
            attention_mask,
            softmax_scale=scaling,
            softcap=softcap,
            sink_logits=s_aux,
        )
        return out, None

    def make_mask(
        batch_size, q_length, kv_length, q_offset=0, kv_offset=0, mask_function=None,
        attention_mask=None, device=None, **rest,
    ):  # fmt: skip
        """What transformers hands to `attend`. Refuses what longattn would leave out in silence."""
        if attention_mask is not None and not attention_mask.all():
            raise NotImplementedError("padding: pack the sequences, or call for each length")
        if q_offset + q_length != kv_offset + kv_length:
            raise NotImplementedError(
                f"queries end at position {q_offset + q_length}, keys at {kv_offset + kv_length}: "
                "static caches and cross-attention are not supported"
            )
        if mask is not None and kv_offset > 0:
            raise NotImplementedError(
                f"{mask} in a model whose cache has dropped the first {kv_offset} keys"
            )
        sizes = (batch_size, q_length, kv_length, q_offset, kv_offset)
        own = recognised(mask_function, *sizes, device)
        return own if mask is None else mask

    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, make_mask)


def recognised(mask_function, batch_size, q_length, kv_length, q_offset, kv_offset, device):
    """transformers says a mask as a function of indices; here it becomes one by name, if one shows
    the same keys to some rows of every sequence, the last one included."""
    chosen = torch.linspace(0, q_length - 1, min(q_length, ROWS), device=device).round().long()
    queries = (q_offset + chosen)[None, None, :, None]
    keys = torch.arange(kv_offset, kv_offset + kv_length, device=device)[None, None, None]
    batch = torch.arange(batch_size, device=device)[:, None, None, None]
    shown = mask_function(batch, torch.zeros_like(batch), queries, keys)
    shown = shown.expand(batch_size, 1, len(chosen), kv_length)[:, 0]
    seen = int(shown[0, -1].sum())  # by the last query, whom a causal mask shows no key behind it
    ahead = int(shown[0, 0].sum()) - 1  # by the first one, if it has nothing behind it
    candidates = [longattn.Causal(), longattn.Full(), longattn.Window(max(seen, 1))]
    candidates += [longattn.Band(max(seen - 1, 0), max(ahead, 0))]
    for own in candidates:
        wanted = reference.visible(own, queries.flatten(), keys.flatten())
        if torch.equal(shown, wanted.expand_as(shown)):
            return own
    raise NotImplementedError(
        "a mask that is neither full nor causal nor a window (packed or chunked sequences, "
        "prefixes): call longattn.attention in the model itself"
    )


def main() -> None:
    register()
    register(longattn.Window(64, sink_tokens=4), "longattn, window")
    shape = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=2, vocab_size=256)
    tokens = torch.randint(256, (1, 512), generator=torch.Generator().manual_seed(0))
    for name in ("sdpa", "longattn", "longattn, window"):
        torch.manual_seed(0)
        config = LlamaConfig(**shape, num_attention_heads=4, num_key_value_heads=2)
        model = LlamaForCausalLM._from_config(config, attn_implementation=name)
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        print(f"{name}: loss {loss.item():.6f}")


if __name__ == "__main__":
    main()
