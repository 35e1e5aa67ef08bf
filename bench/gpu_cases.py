# SPDX-License-Identifier: BSD-3-Clause
"""What is measured on a GPU: calls of longattn and what a user would write without it.

longattn is given [batch, length, heads, dim], contiguous, the layout of its own; torch's functions
[batch, heads, length, dim], contiguous, the layout of theirs."""

from __future__ import annotations

import dataclasses
import functools

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import longattn
from bench import cases, gpu_truth
from bench.gpu_contender import HEADS_FIRST, OURS, PACKED, Case, Contender, attend, ours, plain
from bench.gpu_dilated import branches_as_dense, gathered_dilated
from bench.gpu_positions import position_cases
from bench.gpu_ring import ring_cases
from bench.visible_pairs import causal_pairs, dilated_pairs, lambda_pairs
from longattn.masks import Causal, Window

LONGNET = ((2048, 4096, 8192, 16384, 32768), (1, 2, 4, 6, 12))  # segment lengths, dilation rates


def sdpa(name: str, backend: SDPBackend, grouped=False) -> Contender:
    def call(q, k, v):
        with sdpa_kernel(backend):
            return torch.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=True, enable_gqa=grouped
            )

    return Contender(name, plain(call), gpu_truth.attention(Causal()), HEADS_FIRST)


def dense_case(head_dim, length, heads=16) -> Case:
    contenders = (
        attend(Causal()),
        sdpa("SDPA flash", SDPBackend.FLASH_ATTENTION),
        sdpa("SDPA cuDNN", SDPBackend.CUDNN_ATTENTION),
    )
    return Case(
        "dense causal", length, heads, head_dim, contenders, causal_pairs(length) * heads
    )


def grouped_case(length, heads=32) -> Case:
    contenders = (
        attend(Causal()),
        sdpa("SDPA flash", SDPBackend.FLASH_ATTENTION, grouped=True),
    )
    pairs = causal_pairs(length) * heads
    return Case("dense causal, one key head", length, heads, 128, contenders, pairs, kv_heads=1)


def window_case(length, heads, window, sink_tokens=64) -> Case:
    both = heads * lambda_pairs(length, window, sink_tokens)
    contenders = (
        attend(Window(window)),
        attend(Window(window, sink_tokens=sink_tokens), "with sinks", visible_pairs=both),
    )
    pairs = heads * lambda_pairs(length, window, 0)
    return Case(f"window {window}, sinks", length, heads, 128, contenders, pairs)


def flex_case(length, window, sink_tokens, heads=16) -> Case:
    """FlexAttention, compiled, with the block mask that its authors would make."""

    def prepare(device):
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        def visible(batch, head, query, key):
            near = (query - key < window) | (key < sink_tokens)
            return (query >= key) & near

        mask = create_block_mask(visible, None, None, length, length, device=device)
        compiled = torch.compile(flex_attention, fullgraph=True, dynamic=False)
        return functools.partial(compiled, block_mask=mask), []

    mask = Window(window, sink_tokens=sink_tokens)
    contenders = (
        attend(mask),
        Contender("FlexAttention, compiled", prepare, gpu_truth.attention(mask), HEADS_FIRST),
    )
    pairs = heads * lambda_pairs(length, window, sink_tokens)
    name = f"window {window}" + (f" + {sink_tokens} sinks" if sink_tokens else "")
    return Case(name, length, heads, 128, contenders, pairs)


def longnet_case(length, segments, rates, heads=16) -> Case:
    """The branches as dense problems: as many rows, heads and segments, contiguous, no mixing."""
    branches = list(zip(segments, rates))
    exact = cases.Dilated(segment_lengths=segments, dilation_rates=rates, detach_weights=False)
    contenders = (
        ours(lambda *qkv: longattn.dilated_attention(*qkv, segments, rates), exact.truth),
        attend(Causal(), "branches as dense causal", layout=branches_as_dense(branches)),
    )
    pairs = sum(dilated_pairs(length, *branch, heads) for branch in branches)
    return Case(f"dilated {list(segments)} / {list(rates)}", length, heads, 128, contenders, pairs)


def gathered_case(length, segments, rates, heads=16) -> Case:
    detached = f"{OURS}, detached weights"

    def call(*qkv, **arguments):
        return longattn.dilated_attention(*qkv, segments, rates, **arguments)

    def gathered(q, k, v):
        return gathered_dilated(q, k, v, segments, rates)

    exact = cases.Dilated(segment_lengths=segments, dilation_rates=rates, detach_weights=False)
    # The gradient of torchscale's code, which is what its rival computes.
    truth = dataclasses.replace(exact, detach_weights=True).truth
    contenders = (
        ours(call, exact.truth),
        ours(functools.partial(call, detach_weights=True), truth, detached),
        Contender("gather + SDPA flash", plain(gathered), truth, HEADS_FIRST),
    )
    pairs = sum(dilated_pairs(length, *branch, heads) for branch in zip(segments, rates))
    return Case(f"dilated {list(segments)} / {list(rates)}", length, heads, 64, contenders, pairs)


def packed_case(lengths, heads=16, sink_tokens=None) -> Case:
    """Documents of these lengths, one after the other; with sinks also under a window."""
    ends = [sum(lengths[:i]) for i in range(len(lengths) + 1)]

    def packed(mask):
        def prepare(device):
            borders = torch.tensor(ends, dtype=torch.int32, device=device)
            arguments = dict(cu_seqlens_q=borders, cu_seqlens_k=borders)
            return lambda *qkv: longattn.attention(*qkv, mask, **arguments), []

        return prepare

    def varlen(device):
        borders = torch.tensor(ends, dtype=torch.int32, device=device)
        arguments = (borders, borders, max(lengths), max(lengths), 0.0, True, False)
        forward = torch.ops.aten._flash_attention_forward
        return lambda *qkv: forward(*qkv, *arguments)[0], []

    causal = gpu_truth.documents(ends, Causal())
    contenders = [
        Contender(OURS, packed(Causal()), causal, PACKED, "ours"),
        Contender("torch flash, varlen", varlen, causal, PACKED),
    ]
    if sink_tokens is not None:
        window = Window(1024, sink_tokens=sink_tokens)
        truth = gpu_truth.documents(ends, window)
        contenders.append(Contender("window + sinks", packed(window), truth, PACKED, "ours"))
    pairs = heads * sum(map(causal_pairs, lengths))
    name = f"packed, {len(lengths)} documents"
    return Case(name, ends[-1], heads, 128, tuple(contenders), pairs)


def score_case(length, heads=16, distances=1024) -> Case:
    """Biases, softcap and sink logits beside a call without; learned ones want gradients."""

    def given(name, truth, **arguments):
        return ours(lambda *qkv: longattn.attention(*qkv, Causal(), **arguments), truth, name)

    def learned(name, truth, make, build):
        def prepare(device):
            values = make(device).requires_grad_()
            return lambda *qkvx: longattn.attention(*qkvx[:3], Causal(), **build(qkvx[3])), [values]

        return Contender(name, prepare, truth, role="ours")

    def vector(device):
        return torch.linspace(0.01, 1, heads, device=device)

    def table(device):
        return torch.zeros(heads, distances, device=device)

    alibi, by_distance = (cases.Biases(kind=kind).truth for kind in ("alibi", "table"))
    sinks = cases.Scores(kind="sink_logits").truth
    contenders = (
        attend(Causal()),
        given("ALiBi", alibi, bias=longattn.Alibi()),
        learned("ALiBi, learned", alibi, vector, lambda x: {"bias": longattn.Alibi(x)}),
        learned("table", by_distance, table, lambda x: {"bias": longattn.RelativeBias(x)}),
        given("softcap", cases.Scores(kind="softcap", softcap=50.0).truth, softcap=50.0),
        learned("sink logits", sinks, vector, lambda x: {"sink_logits": x}),
    )
    pairs = causal_pairs(length) * heads
    return Case("score arguments", length, heads, 128, contenders, pairs)


def documents(total: int, count: int) -> list:
    """Lengths from short to long, their sum `total`; always the same."""
    weights = [1 + i % 7 * (i % 5) for i in range(count)]
    lengths = [max(1, total * weight // sum(weights)) for weight in weights]
    lengths[-1] += total - sum(lengths)
    return lengths


def standard_cases(shrink: int = 1) -> list:
    """In the order of their weight, those that need a compiler last. A test shrinks them."""
    k = 1024 // shrink
    segments = tuple(length // shrink for length in LONGNET[0])
    return [
        dense_case(128, 16 * k),
        window_case(32 * k, 16, k),
        longnet_case(32 * k, segments, LONGNET[1]),
        *position_cases(k),
        score_case(16 * k),
        packed_case(documents(32 * k, 16)),
        packed_case([128 // min(shrink, 16)] * (512 // shrink), heads=8, sink_tokens=4),
        *ring_cases(k),
        window_case(64 * k, 1, k),
        dense_case(64, 16 * k),
        grouped_case(8 * k),
        gathered_case(32 * k, (2 * k, 4 * k, 8 * k), (1, 2, 4)),
        flex_case(32 * k, k, 0),
        flex_case(32 * k, k, 64 // min(shrink, 16)),
    ]
