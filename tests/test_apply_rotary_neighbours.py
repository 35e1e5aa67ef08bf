# SPDX-License-Identifier: BSD-3-Clause
"""apply_rotary beside what stands around it: Hugging Face's, other layouts, a cache, attention."""

import math

import pytest
import torch

import inputs
import longattn
from longattn import RotaryEmbedding, reference


def test_hugging_face_rotates_alike():
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    rope = RotaryEmbedding(64)
    q, k = (inputs.random((2, 50, heads, 64), torch.float32, heads) for heads in (4, 2))
    angles = torch.outer(torch.arange(50).float(), rope.inv_freq.float())
    cosine, sine = (f(torch.cat([angles, angles], -1))[None] for f in (torch.cos, torch.sin))
    theirs = llama.apply_rotary_pos_emb(q, k, cosine, sine, unsqueeze_dim=2)
    for our, their in zip(longattn.apply_rotary(q, k, rope), theirs):
        torch.testing.assert_close(our, their, rtol=1e-5, atol=2e-5)


def test_layouts_differ_by_a_permutation():
    q, k = (inputs.random((1, 9, 2, 12), torch.float64, name) for name in "qk")
    permutation = torch.arange(12).reshape(2, 6).T.flatten()  # 0, 6, 1, 7, ...
    halves = longattn.apply_rotary(q, k, RotaryEmbedding(12))
    neighbours = longattn.apply_rotary(
        q[..., permutation], k[..., permutation], RotaryEmbedding(12, interleaved=True)
    )
    for one, other in zip(halves, neighbours):
        torch.testing.assert_close(one[..., permutation], other, rtol=0, atol=1e-15)


def test_attention_sees_a_rotated_cache_as_the_whole():
    """Keys that were rotated when they came, and a query at the end: as if all came at once."""
    rope = RotaryEmbedding(16)
    q, k, v = (inputs.random((1, 30, 2, 16), torch.float64, name) for name in "qkv")
    whole = longattn.attention(*longattn.apply_rotary(q, k, rope), v, longattn.Causal())
    _, cache = longattn.apply_rotary(q[:, :29], k[:, :29], rope)
    last_q, last_k = longattn.apply_rotary(q[:, 29:], k[:, 29:], rope, torch.tensor([29]))
    step = longattn.attention(last_q, torch.cat([cache, last_k], 1), v, longattn.Causal())
    torch.testing.assert_close(step, whole[:, 29:], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("key_norm, scale", [(True, 1.0), ("both", 4 * math.log(64))], ids=str)
def test_normalised_attention_takes_its_own_scale(key_norm, scale):
    """KeyNorm: scale 1; CosA: cosines times 4 ln n."""
    rope = RotaryEmbedding(16)
    q, k, v = (inputs.random((1, 30, 2, 16), torch.float64, "cosa", name) for name in "qkv")
    new_q, new_k = longattn.apply_rotary(q, k, rope, key_norm=key_norm)
    out = longattn.attention(new_q, new_k, v, longattn.Causal(), softmax_scale=scale)
    keys = torch.nn.functional.normalize(k, dim=-1)
    queries = torch.nn.functional.normalize(q, dim=-1) if key_norm == "both" else q
    expected = reference.attention(
        *reference.apply_rotary(queries, keys, rope), v, longattn.Causal(), softmax_scale=scale
    )
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
