# SPDX-License-Identifier: BSD-3-Clause
"""examples/transformers_models.py: models with longattn's attention beside their own eager one."""

import importlib.util
from pathlib import Path

import pytest
import torch

import longattn

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "transformers_models.py"
SHAPE = dict(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=64,
    pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
MODELS = {
    "Llama": {},
    "Mistral": {"sliding_window": 7},
    "Gemma2": {"sliding_window": 7, "attn_logit_softcapping": 3.0, "query_pre_attn_scalar": 8},
    "GptOss": {"sliding_window": 7, "num_local_experts": 2, "num_experts_per_tok": 1},
}
TOKENS = torch.randint(3, 64, (2, 23), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("transformers_models", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.register()
    return module


def model_of(name, implementation):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SHAPE, **MODELS[name])
    kind = getattr(transformers, f"{name}ForCausalLM")
    model = kind._from_config(config, attn_implementation=implementation).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # else scores are so small that no cap shows
            parameter.mul_(3) if parameter.dim() > 1 else None
    return model


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_gradients(example, name):
    found = []
    for implementation in ("eager", "longattn"):
        model = model_of(name, implementation)
        out = model(input_ids=TOKENS, labels=TOKENS)
        out.loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append([out.logits.detach(), *gradients])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_decoding_with_a_cache(example, name):
    chosen = [
        model_of(name, implementation).generate(
            TOKENS[:1], max_new_tokens=12, do_sample=False, eos_token_id=63
        )
        for implementation in ("eager", "longattn")
    ]
    assert torch.equal(*chosen)


def test_a_mask_of_ones_own(example):
    example.register(longattn.Window(7), "longattn, window")
    found = []
    for name, implementation in (("Mistral", "eager"), ("Llama", "longattn, window")):
        found.append(model_of(name, implementation)(input_ids=TOKENS).logits)
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


def test_what_would_be_left_out_in_silence_raises(example):
    model = model_of("Llama", "longattn")
    padding = torch.ones_like(TOKENS)
    assert torch.equal(
        model(input_ids=TOKENS, attention_mask=padding).logits, model(input_ids=TOKENS).logits
    )
    padding[0, :3] = 0
    with pytest.raises(NotImplementedError, match="padding"):
        model(input_ids=TOKENS, attention_mask=padding)
    with pytest.raises(NotImplementedError, match="static caches"):
        model.generate(TOKENS[:1], max_new_tokens=4, cache_implementation="static")
    dropped = model_of("Llama", "longattn").train()
    dropped.model.layers[0].self_attn.attention_dropout = 0.1
    with pytest.raises(NotImplementedError, match="dropout 0.1"):
        dropped(input_ids=TOKENS)


def test_masks_that_are_no_band_raise(example):
    packed = torch.cat([torch.arange(10), torch.arange(13)])[None]
    with pytest.raises(NotImplementedError, match="packed or chunked"):
        model_of("Llama", "longattn")(
            input_ids=TOKENS[:1], position_ids=packed, use_cache=False
        )
    for chunk, works in ((8, False), (64, True)):
        config = transformers.Llama4TextConfig(
            **SHAPE, attention_chunk_size=chunk, num_local_experts=2, intermediate_size_mlp=48
        )
        models = []
        for implementation in ("eager", "longattn"):
            torch.manual_seed(0)
            kind = transformers.Llama4ForCausalLM
            models.append(kind._from_config(config, attn_implementation=implementation).eval())
        if works:
            found = [model(input_ids=TOKENS).logits for model in models]
            torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)
        else:
            with pytest.raises(NotImplementedError, match="packed or chunked"):
                models[1](input_ids=TOKENS)


def test_windows_on_both_sides(example):
    config = transformers.Gemma3TextConfig(
        **SHAPE, use_bidirectional_attention=True, sliding_window=8, query_pre_attn_scalar=8
    )
    found = []
    for implementation in ("eager", "longattn"):
        torch.manual_seed(0)
        model = transformers.Gemma3ForCausalLM._from_config(
            config, attn_implementation=implementation
        ).eval()
        found.append(model(input_ids=TOKENS).logits)
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


def test_a_cache_that_drops_keys_and_a_mask_that_wants_them(example):
    example.register(longattn.Window(7, sink_tokens=2), "longattn, sinks")
    model = model_of("Mistral", "longattn, sinks")
    with pytest.raises(NotImplementedError, match="has dropped the first"):
        model.generate(TOKENS[:1], max_new_tokens=6, do_sample=False, eos_token_id=63)
