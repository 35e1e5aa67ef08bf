# SPDX-License-Identifier: BSD-3-Clause
"""flash_attn (2, 3 and 4), xformers and NATTEN, where they are installed. All take
[batch, length, heads, dim].

Their kernels run on CUDA; on a CPU each says so."""

from __future__ import annotations

from bench.contenders.base import Absent, Contender, cuda_only, imported

NEWER_FLASH = {"flash_attn 3": "flash_attn_interface", "flash_attn 4": "flash_attn.cute"}


def windowed(case, window=None, sink_tokens=0, softcap=0.0, alibi_slopes=None) -> tuple:
    """Causal attention, of the last `window` keys if given."""

    def newer_flash(name):
        def prepare():
            return _newer_flash(name, case, window, sink_tokens, softcap, alibi_slopes)

        return Contender(name, prepare, heads_first=False)

    return (
        *map(newer_flash, NEWER_FLASH),
        Contender("flash_attn", lambda: _flash(case, window, sink_tokens, softcap, alibi_slopes),
                  heads_first=False),
        Contender("xformers", lambda: _xformers(case, window, sink_tokens, softcap, alibi_slopes),
                  heads_first=False),
        Contender("NATTEN", lambda: _natten(case, window, sink_tokens, softcap, alibi_slopes),
                  heads_first=False),
    )  # fmt: skip


def _flash(case, window, sink_tokens, softcap, slopes):
    cuda_only("flash_attn", case)
    function = imported("flash_attn").flash_attn_func
    _refuse("flash_attn", sinks=sink_tokens)
    size = (-1, -1) if window is None else (window - 1, 0)
    given = {"window_size": size, "softcap": softcap, "alibi_slopes": slopes}
    return lambda q, k, v, *_: function(q, k, v, causal=True, **given)


def _newer_flash(name, case, window, sink_tokens, softcap, slopes):
    cuda_only(name, case)
    function = imported(NEWER_FLASH[name]).flash_attn_func
    _refuse(name, sinks=sink_tokens, ALiBi=slopes is not None)
    given = {"causal": True}
    if window is not None:
        given["window_size"] = (window - 1, 0)
    if softcap:
        given["softcap"] = softcap

    def attend(q, k, v, *_):
        result = function(q, k, v, **given)
        return result[0] if isinstance(result, tuple) else result  # some versions add lse

    return attend


def _xformers(case, window, sink_tokens, softcap, slopes):
    cuda_only("xformers", case)
    operations = imported("xformers.ops")
    _refuse("xformers", sinks=sink_tokens, softcap=softcap, ALiBi=slopes is not None)
    if case.key_heads != case.q_heads:
        raise Absent("xformers wants grouped heads in a fifth dimension, which is not done here")
    biases = imported("xformers.ops.fmha.attn_bias")
    bias = biases.LowerTriangularMask()
    if window is not None:
        bias = biases.LocalAttentionFromBottomRightMask(window_left=window - 1, window_right=0)
    return lambda q, k, v, *_: operations.memory_efficient_attention(q, k, v, attn_bias=bias)


def _natten(case, window, sink_tokens, softcap, slopes):
    cuda_only("NATTEN", case)
    function = imported("natten").na1d
    _refuse("NATTEN", sinks=sink_tokens, softcap=softcap, ALiBi=slopes is not None)
    if window is None:
        raise Absent("NATTEN is for windows")
    return lambda q, k, v, *_: function(q, k, v, kernel_size=window, is_causal=True)


def _refuse(package: str, **features) -> None:
    for name, wanted in features.items():
        if wanted:
            raise Absent(f"{package} has no {name}")
