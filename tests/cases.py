# SPDX-License-Identifier: BSD-3-Clause
"""The cases that every tier runs: frozen values in named lists, shared by tests and benchmarks.

Tiles are about 64 queries x 128 keys, so lengths stand around those numbers on purpose.
"""

import dataclasses
from typing import Optional

from longattn.masks import Band, Causal, Full, Groups, Mask, Prefix, Window


@dataclasses.dataclass(frozen=True)
class Case:
    """One call of `attention`; packed sequences, and no batch, if there are `q_lengths`."""

    name: str
    mask: Mask
    q_len: int = 0
    kv_len: Optional[int] = None  # None: q_len
    batch: int = 1
    q_heads: int = 2
    kv_heads: Optional[int] = None  # None: q_heads
    head_dim: int = 32
    value_dim: Optional[int] = None  # None: head_dim
    q_lengths: tuple = ()
    kv_lengths: tuple = ()  # empty: q_lengths
    q_start: Optional[int] = None
    k_start: int = 0
    softmax_scale: Optional[float] = None
    loudness: float = 1.0  # factor on q: large logits

    def __str__(self):
        return self.name

    @property
    def packed(self) -> bool:
        return bool(self.q_lengths)

    @property
    def sequences(self) -> tuple:
        """(q_len, kv_len) of each sequence; a batch counts as that many equal sequences."""
        if self.packed:
            return tuple(zip(self.q_lengths, self.kv_lengths or self.q_lengths, strict=True))
        return ((self.q_len, self.q_len if self.kv_len is None else self.kv_len),) * self.batch

    @property
    def q_shape(self) -> tuple:
        return self._leading(0) + (self.q_heads, self.head_dim)

    @property
    def k_shape(self) -> tuple:
        return self._leading(1) + (self.kv_heads or self.q_heads, self.head_dim)

    @property
    def v_shape(self) -> tuple:
        return self.k_shape[:-1] + (self.value_dim or self.head_dim,)

    def positions(self, sequence: int) -> tuple:
        """(first query position, first key position) of one sequence."""
        q_len, kv_len = self.sequences[sequence]
        start = self.k_start + kv_len - q_len if self.q_start is None else self.q_start
        return start, self.k_start

    def _leading(self, side: int) -> tuple:
        if self.packed:
            return (sum(lengths[side] for lengths in self.sequences),)
        return (self.batch, (self.q_len, self.q_len if self.kv_len is None else self.kv_len)[side])


@dataclasses.dataclass(frozen=True)
class Dilated:
    """One call of `dilated_attention`."""

    name: str
    segment_lengths: tuple
    dilation_rates: tuple
    q_len: int
    kv_len: Optional[int] = None
    batch: int = 1
    q_heads: int = 4
    kv_heads: Optional[int] = None
    head_dim: int = 16
    causal: bool = True
    head_offset: str = "mod"
    q_start: Optional[int] = None
    k_start: int = 0

    def __str__(self):
        return self.name

    @property
    def q_shape(self) -> tuple:
        return (self.batch, self.q_len, self.q_heads, self.head_dim)

    @property
    def k_shape(self) -> tuple:
        kv_len = self.q_len if self.kv_len is None else self.kv_len
        return (self.batch, kv_len, self.kv_heads or self.q_heads, self.head_dim)


REGULAR = [
    Case("full", Full(), 128, batch=2),
    Case("causal", Causal(), 256, batch=2),
    Case("window", Window(64), 256),
    Case("window with sinks", Window(64, sink_tokens=4), 256),
    Case("band", Band(64, 32), 256),
    Case("band open to the left", Band(None, 16), 128),
    Case("band open to the right", Band(16, None), 128),
    Case("groups", Groups(64), 256),
    Case("groups, not causal", Groups(64, causal=False), 256),
    Case("groups, shifted", Groups(64, shift=32), 256),
    Case("prefix", Prefix(96), 256),
    Case("grouped heads", Causal(), 128, q_heads=6, kv_heads=2),
    Case("one key head", Window(32), 128, q_heads=5, kv_heads=1),
    Case("head_dim 64", Causal(), 192, head_dim=64),
    Case("head_dim 128", Causal(), 192, head_dim=128, q_heads=4, kv_heads=1),
    Case("packed", Causal(), q_lengths=(64, 128, 64), q_heads=4, kv_heads=2),
]

RAGGED = [
    Case("prime causal", Causal(), 131, batch=2, q_heads=3),
    Case("prime full", Full(), 67, 139, batch=2),
    Case("one over a tile", Window(65), 129),
    Case("one under a tile", Window(127, sink_tokens=1), 255),
    Case("few queries", Causal(), 7, 301, q_heads=4, kv_heads=2),
    Case("few keys", Full(), 301, 7),
    Case("window of one", Window(1), 70),
    Case("window of one with sinks", Window(1, sink_tokens=3), 150),
    Case("sinks over a tile", Window(9, sink_tokens=131), 301),
    Case("sinks beyond the end", Window(2, sink_tokens=500), 83),
    Case("window beyond the end", Window(1000), 83),
    Case("narrow band", Band(3, 5), 197),
    Case("band with sinks", Band(3, 5, sink_tokens=6), 197),
    Case("band with sinks to the right", Band(0, None, sink_tokens=7), 73, 91),
    Case("odd groups", Groups(7, shift=3), 100),
    Case("odd groups, not causal", Groups(37, shift=5, causal=False), 151),
    Case("groups of one", Groups(1), 67),
    Case("negative shift", Groups(50, shift=-13), 163),
    Case("groups and the one before", Groups(40, back=1), 173, q_heads=4, kv_heads=2),
    Case("groups back, per head", Groups((9, 33), shift=(4, 0), back=(3, 0)), 149),
    Case("groups back, not causal", Groups(30, shift=7, causal=False, back=2), 97, 151),
    Case("groups back of a shard", Groups(48, shift=5, back=1), 90, 90, q_start=1030, k_start=989),
    Case("more groups back than there are", Groups(16, back=100) & Window(50), 131),
    Case("packed groups back", Groups(16, back=1), q_lengths=(33, 65), kv_lengths=(40, 65)),
    Case("group beyond the end", Groups(400, shift=390, causal=False), 149),
    Case("prefix inside a tile", Prefix(5), 143),
    Case("prefix beyond the end", Prefix(500), 71),
    Case("prefix of nothing", Prefix(0), 71),
    Case("sizes per head", Window((1, 40, 300), sink_tokens=(0, 3, 0)), 167, q_heads=3),
    Case("bands per head", Band((None, 5, 70, 0), (0, None, 2, 0)), 149, q_heads=4, kv_heads=2),
    Case("groups per head", Groups((16, 16, 33, 33), shift=(0, 8, 0, 16)), 131, q_heads=4),
    Case("prefix per head", Prefix((0, 70)), 131),
    Case("many heads", Window((1, 2, 9, 30) * 32), 33, q_heads=128, kv_heads=32, head_dim=4),
    Case("window and groups", Window(20) & Groups(50, shift=7), 173),
    Case("window and prefix", Band(30, None) & Prefix(40), 173),
    Case("sinks and groups", Window(10, sink_tokens=4) & Groups(64, causal=False), 173),
    Case("two windows", Window(40, sink_tokens=2) & Band(20, 3, sink_tokens=2), 149),
    Case("two groups", Groups(48) & Groups(60, shift=6, causal=False), 181),
    Case("queries in the middle", Causal(), 40, 190, q_start=77, q_heads=4, kv_heads=2),
    Case("window in the middle", Window(30, sink_tokens=5), 70, 200, q_start=100),
    Case("shard of keys", Window(90, sink_tokens=20), 64, 100, q_start=300, k_start=250),
    Case("shard with the sinks", Window(9, sink_tokens=20), 64, 100, q_start=300, k_start=10),
    Case("groups of a shard", Groups(48, shift=5), 90, 90, q_start=1030, k_start=1007),
    Case("prefix of a shard", Prefix(1040), 70, 90, q_start=1000, k_start=1007),
    Case("positions over 2**31", Window(33), 90, q_start=2**35 + 11, k_start=2**35),
    Case("head_dim 1", Causal(), 75, head_dim=1),
    Case("head_dim 3", Causal(), 75, head_dim=3, value_dim=1),
    Case("head_dim 17", Window(50), 131, head_dim=17, value_dim=33),
    Case("head_dim 80", Causal(), 97, head_dim=80),
    Case("head_dim 96 to 48", Full(), 70, 131, head_dim=96, value_dim=48),
    Case("head_dim 40 to 136", Causal(), 97, head_dim=40, value_dim=136),
    Case("head_dim 255", Causal(), 66, head_dim=255, value_dim=127, q_heads=1),
    Case("head_dim 256", Causal(), 130, head_dim=256, q_heads=2, kv_heads=1),
    Case("packed, primes", Causal(), q_lengths=(61, 1, 7, 131, 2)),
    Case("packed window", Window(16, sink_tokens=2), q_lengths=(70, 3, 90)),
    Case("packed groups", Groups(16, shift=8), q_lengths=(33, 65), q_heads=4, kv_heads=2),
    Case("packed, other keys", Causal(), q_lengths=(5, 64, 1), kv_lengths=(70, 64, 129)),
    Case("packed, full", Full(), q_lengths=(30, 9), kv_lengths=(9, 140), batch=7, value_dim=24),
    Case("given scale", Causal(), 67, softmax_scale=0.3),
    Case("negative scale", Causal(), 67, softmax_scale=-0.2),
    Case("large logits", Causal(), 135, loudness=12.0),
    Case("large logits, sinks", Window(16, sink_tokens=2), 135, loudness=30.0, head_dim=64),
]

CORNER = [
    Case("one of everything", Causal(), 1, q_heads=1, head_dim=1),
    Case("decode", Causal(), 1, 333, batch=2, q_heads=8, kv_heads=2, head_dim=64),
    Case("decode window", Window(64, sink_tokens=4), 1, 333, q_heads=8, kv_heads=1),
    Case("decode two", Window(64), 2, 257, q_heads=4, kv_heads=2),
    Case("one key", Full(), 65, 1),
    Case("no queries", Causal(), 0, 65),
    Case("no keys", Full(), 65, 0),
    Case("nothing", Causal(), 0, 0),
    Case("no batch", Causal(), 5, 5, batch=0),
    Case("more queries than keys", Causal(), 140, 50),
    Case("more queries than keys, sinks", Window(3, sink_tokens=2), 140, 50),
    Case("keys all ahead", Causal(), 70, 130, q_start=-200),
    Case("keys all ahead of sinks", Window(4, sink_tokens=9), 70, 130, q_start=-200),
    Case("keys all behind", Window(5), 70, 130, q_start=500),
    Case("only sinks left", Window(5, sink_tokens=1), 70, 130, q_start=500),
    Case("some rows see nothing", Window(5), 70, 60, q_start=30, q_heads=4, kv_heads=2),
    Case("first rows see nothing", Band(0, 3), 150, 100, q_start=-60),
    Case("one head sees nothing", Window((1, 300)), 66, 66, q_start=200),
    Case("rows between groups", Groups(32, causal=False), 130, 10, q_start=0, k_start=40),
    Case("prefix and nothing", Band(2, None) & Prefix(3), 90, 20, q_start=0),
    Case("scale zero", Causal(), 67, softmax_scale=0.0),
    Case("packed, empty ones", Causal(), q_lengths=(0, 5, 0, 66, 0), kv_lengths=(7, 5, 0, 0, 0)),
    Case("packed, nothing", Causal(), q_lengths=(0, 0)),
    Case("packed, rows that see nothing", Window(3), q_lengths=(9, 70), kv_lengths=(4, 20)),
]

SMALL = REGULAR + RAGGED + CORNER  # what the tests run

# A compact set for places that repeat everything: every ISA, every thread count.
COMPACT = [
    case
    for case in SMALL
    if case.name
    in {
        "window with sinks",
        "one key head",
        "head_dim 17",
        "head_dim 40 to 136",
        "head_dim 256",
        "bands per head",
        "band with sinks",
        "groups per head",
        "prefix of a shard",
        "packed, other keys",
        "large logits, sinks",
        "decode",
        "some rows see nothing",
        "packed, empty ones",
    }
]

DILATED = [
    Dilated("one branch, dense", (64,), (1,), 64),
    Dilated("doubling", (16, 32, 64), (1, 2, 4), 128, batch=2),
    Dilated("not causal", (16, 32, 64), (1, 2, 4), 128, causal=False),
    Dilated("blocks", (16, 32, 64), (1, 2, 4), 128, head_offset="blocks"),
    Dilated("blocks, uneven", (8, 24), (2, 4), 75, q_heads=6, head_offset="blocks"),
    Dilated("rates that do not divide", (8, 16, 31), (3, 6, 12), 100, q_heads=5),
    Dilated("rates that do not divide, not causal", (8, 31), (3, 12), 100, causal=False),
    Dilated("rate over the segment", (4, 50), (7, 3), 61, q_heads=8),
    Dilated("uncovered queries", (40,), (5,), 97, q_heads=3),
    Dilated("the same branch twice", (16, 16), (2, 2), 70),
    Dilated("prime", (13, 29), (1, 3), 149, batch=2, q_heads=3, head_dim=24),
    Dilated("segment beyond the end", (16, 4096), (1, 4), 90),
    Dilated("grouped heads", (16, 64), (1, 2), 131, q_heads=6, kv_heads=2),
    Dilated("one key head", (16, 64), (2, 3), 131, q_heads=6, kv_heads=1),
    Dilated("decode", (32, 128), (1, 4), 1, 301, batch=2),
    Dilated("few queries", (32, 128), (1, 4), 9, 301, causal=False),
    Dilated("shard", (64, 128), (2, 4), 90, 120, q_start=230, k_start=201),
    Dilated("more queries than keys", (16, 32), (1, 2), 90, 50),
    Dilated("segments of one", (1, 8), (1, 2), 33),
    Dilated("no queries", (16, 32), (1, 2), 0, 50),
    Dilated("no keys", (16, 32), (1, 2), 40, 0),
]

# Sizes for benchmarks; the tests only check that these are well formed.
_LARGE = dict(batch=1, q_heads=8, kv_heads=8, head_dim=64)
PERF = [
    Case("causal 4k", Causal(), 4096, **_LARGE),
    Case("full 2k", Full(), 2048, **_LARGE),
    Case("window 512 of 16k", Window(512), 16384, **_LARGE),
    Case("window 512 and 4 sinks of 16k", Window(512, sink_tokens=4), 16384, **_LARGE),
    Case("groups of 1k in 16k", Groups(1024), 16384, **_LARGE),
    Case("prefix 1k of 4k", Prefix(1024), 4096, **_LARGE),
    Case("causal 2k, head_dim 128", Causal(), 2048, q_heads=8, kv_heads=2, head_dim=128),
    Case("decode 16k", Causal(), 1, 16384, batch=4, q_heads=32, kv_heads=8, head_dim=128),
    Case("packed 8 x 1k", Causal(), q_lengths=(1024,) * 8, q_heads=8, kv_heads=8, head_dim=64),
]
PERF_DILATED = [
    Dilated("longnet 16k", (2048, 4096, 8192, 16384), (1, 2, 4, 8), 16384, q_heads=8, head_dim=64)
]
