# SPDX-License-Identifier: BSD-3-Clause
"""A whole model: transformers' Llama trained on real bytes, with SDPA and with longattn.

All start from the same weights and take the same steps in turn, so that a loss that differs is a
difference of the attention."""

from __future__ import annotations

import dataclasses
import gc
import sys
from typing import Callable, Optional

import torch
from tqdm import tqdm

import longattn
from bench import timing
from longattn.demo.memory import peak_memory
from longattn.demo.text import NotEnoughText, read_corpus

SDPA = "torch SDPA"
DENSE = "longattn, causal"
SINKS = "longattn, 64 sinks + window 512"  # another model: its losses are its own
MASKS = {DENSE: longattn.Causal(), SINKS: longattn.Window(512, sink_tokens=64)}
BYTES = 256


@dataclasses.dataclass(frozen=True)
class Shape:
    length: int = 4096
    steps: int = 12
    layers: int = 4
    hidden: int = 256
    q_heads: int = 4
    kv_heads: int = 2
    dtype: str = "float32"  # of the weights; attention gets the same
    learning_rate: float = 1e-3


class Trained:
    """A model, and what its steps took."""

    def __init__(self, name: str, shape: Shape, seed: int):
        self.name = name
        torch.manual_seed(seed)
        self.model = llama(shape, name).to(getattr(torch, shape.dtype))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=shape.learning_rate)
        self.losses, self.seconds = [], []
        self.peak: Optional[int] = None

    def step(self, tokens: torch.Tensor, clock: Callable) -> None:
        _, spent = clock(lambda: self._step(tokens))
        self.seconds.append(spent)

    def weigh(self, tokens: torch.Tensor) -> None:
        """A step that is watched for memory, and not for time."""
        gc.collect()
        self.peak = peak_memory(lambda: self._step(tokens), tokens.device)

    def _step(self, tokens: torch.Tensor) -> None:
        loss = self.model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.losses.append(loss.item())

    def row(self, shape: Shape) -> dict:
        seconds = sorted(self.seconds)
        found = {"contender": self.name, **dataclasses.asdict(shape)}
        found["tokens_per_second"] = round(shape.length / seconds[len(seconds) // 2], 1)
        if self.peak:
            found["peak_mib"] = round(self.peak / 2**20, 1)
        return found | {"losses": [round(loss, 5) for loss in self.losses]}


def cannot_run() -> Optional[str]:
    """Why, or None."""
    try:
        from transformers import AttentionInterface, LlamaForCausalLM  # noqa: F401
    except ImportError as error:
        return f"transformers with an AttentionInterface is wanted: {error}"
    try:
        read_corpus()
    except NotEnoughText as error:
        return str(error)
    return None


def attend(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **rest) -> tuple:
    """transformers' interface: heads before rows -> (out, no weights)."""
    rows_first = (tensor.transpose(1, 2) for tensor in (query, key, value))
    mask = MASKS[module.config.longattn_mask]
    return longattn.attention(*rows_first, mask, softmax_scale=scaling), None


def llama(shape: Shape, name: str):
    """transformers' own model; only its attention is someone else's."""
    from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

    AttentionInterface.register("longattn", attend)
    config = LlamaConfig(
        vocab_size=BYTES,
        hidden_size=shape.hidden,
        intermediate_size=shape.hidden * 8 // 3,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.q_heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.length,
        use_cache=False,
        attn_implementation="sdpa" if name == SDPA else "longattn",
    )
    config.longattn_mask = name
    return LlamaForCausalLM(config)


def batches(shape: Shape, seed: int) -> list:
    text = read_corpus(longest=shape.length).train
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(len(text) - shape.length, (shape.steps + 1,), generator=generator)
    return [text[start : start + shape.length].long()[None] for start in starts.tolist()]


def train(shape: Shape, clock: Callable = timing.cpu_clock, seed: int = 0) -> list:
    """A row for each contender; the last batch is the one that is watched for memory."""
    all_models = [Trained(name, shape, seed) for name in (SDPA, *MASKS)]
    *timed, watched = batches(shape, seed)
    for tokens in tqdm(timed, unit="step", file=sys.stderr):
        for one in all_models:
            one.step(tokens, clock)
    for one in all_models:
        one.weigh(watched)
    return [one.row(shape) for one in all_models]


def sentence(row: dict) -> str:
    return (
        f"transformers' Llama ({row['layers']} layers, hidden {row['hidden']}, {row['q_heads']} "
        f"heads, {row['kv_heads']} for keys) trained on bytes of Python's standard library, "
        f"{len(row['losses'])} steps of {row['length']} tokens by AdamW. All start from the same "
        "weights and take the same steps in turn; tokens a second of CPU time, by the median step."
    )


def text_of(row: dict) -> str:
    peak = f", peak {row['peak_mib']} MiB" if "peak_mib" in row else ""
    return (
        f"Llama of {row['layers']} layers, N {row['length']}, {row['dtype']}, {row['contender']}: "
        f"{row['tokens_per_second']} tokens/s{peak}, loss {row['losses'][0]:.4f} to "
        f"{row['losses'][-1]:.4f}"
    )
