# SPDX-License-Identifier: BSD-3-Clause
"""Models of Hugging Face transformers with longattn's attention, masks of your choice included.

`register()` makes "longattn" an `attn_implementation` for every model that asks transformers'
AttentionInterface: Llama, Mistral (windows), Gemma 2 (softcap), gpt-oss (sink logits) and others.

    python examples/transformers_models.py    # a small Llama beside its own SDPA
"""

import torch
from transformers import AttentionInterface, AttentionMaskInterface, LlamaConfig, LlamaForCausalLM

import longattn

# Keywords of transformers that say nothing about the scores.
IGNORED = {
    "position_ids", "cache_position", "use_cache", "output_attentions", "num_items_in_batch",
    "position_embeddings", "is_causal", "past_key_values", "labels", "logits_to_keep",
    "output_hidden_states", "return_dict", "output_router_logits",
}  # fmt: skip


def register(mask=None, name="longattn") -> None:
    """mask: in the place of the model's own (causal, or its sliding window) in every layer, such as
    `longattn.Window(1024, sink_tokens=4)`."""

    def attend(
        module, query, key, value, attention_mask, scaling=None, dropout=0.0, sliding_window=None,
        softcap=None, s_aux=None, is_causal=None, **rest,
    ):  # fmt: skip
        """[batch, heads, rows, dim] -> ([batch, rows, heads, dim], None), as transformers asks."""
        unknown = {key for key, value in rest.items() if value is not None} - IGNORED
        if dropout or attention_mask is not None or unknown:
            raise NotImplementedError(
                f"no dropout, masks as tensors or other keywords, got dropout {dropout}, a mask: "
                f"{attention_mask is not None}, {sorted(unknown)}"
            )
        if is_causal is False or getattr(module, "is_causal", True) is False:
            own = longattn.Full()
        else:
            own = longattn.Window.from_hf(sliding_window)
        out = longattn.attention(
            *(tensor.transpose(1, 2) for tensor in (query, key, value)),
            own if mask is None else mask,
            softmax_scale=scaling,
            softcap=softcap,
            sink_logits=s_aux,
        )
        return out, None

    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, no_mask)


def no_mask(
    batch_size, q_length, kv_length, q_offset=0, kv_offset=0, mask_function=None,
    attention_mask=None, **rest,
):  # fmt: skip
    """Where transformers would make a mask. Without this it would leave padding out in silence."""
    if attention_mask is not None and not attention_mask.all():
        raise NotImplementedError("padding: pack the sequences, or call the model for each length")
    if q_offset + q_length != kv_offset + kv_length:
        raise NotImplementedError(
            f"a static cache: {kv_length} keys from position {kv_offset} on for queries that end "
            f"at {q_offset + q_length}; use a dynamic one"
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
