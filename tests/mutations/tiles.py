# SPDX-License-Identifier: BSD-3-Clause
"""Bugs in tiles of shared memory, and in which tiles are visited."""

from mutations.mutation import (
    FORWARD,
    KEY_GRADIENT,
    KEY_WALK,
    NAN,
    WRONG,
    Mutation,
)

TILES = [
    Mutation(
        "copies are not swizzled",
        "cuda/tiles/copy.h",
        "tile.address(first_row, chunk)",
        "tile.address(0, chunk) + first_row * Tile::kChunks * kChunkBytes",
        "causal",
        WRONG,
    ),
    Mutation(
        "left operands are read without swizzle",
        "cuda/tiles/matmul.h",
        "tile.address(first_row + lane % 16, step * 2 + lane / 16)",
        "tile.address(0, step * 2 + lane / 16)"
        " + (first_row + lane % 16) * Tile::kChunks * kChunkBytes",
        "causal",
        WRONG,
    ),
    Mutation(
        "transposed operands are read without swizzle",
        "cuda/tiles/matmul.h",
        "right.address(step * 16 + lane % 16, column / 8 + lane / 16)",
        "right.address(0, column / 8 + lane / 16)"
        " + (step * 16 + lane % 16) * RightTile::kChunks * kChunkBytes",
        "wide",
        WRONG,
    ),
    Mutation(
        "registers of an operand change places",
        "cuda/tiles/matmul.h",
        "sums.values[2 * step + i / 2]",
        "sums.values[2 * step + i % 2]",
        "causal",
        WRONG,
    ),
    Mutation(
        "rows beyond the sequence are copied",
        "cuda/tiles/copy.h",
        "row < valid_rows",
        "valid_rows > 0",
        "packed",
        NAN,
    ),
    Mutation(
        "dims beyond head_dim are copied",
        "cuda/tiles/copy.h",
        "chunk * kChunkElements < rows.dim ? rows.count : 0",
        "rows.count",
        "window",
        NAN,
    ),
    Mutation(
        "keys are counted as queries",
        "cuda/tiles/tensor_rows.h",
        "sequence.k_len - first_key",
        "sequence.q_len - first_key",
        "packed",
        NAN,
    ),
]

SCHEDULE = [
    Mutation(
        "keys of the next sequence count",
        "semantics/sequence.h",
        "layout.cu_seqlens_k[index + 1]",
        "layout.cu_seqlens_k[smaller(index + 2, layout.batch)]",
        "packed",
        NAN,
    ),
    Mutation(
        "packed sequences share slots",
        "cuda/schedule/work.h",
        "clamp(rows.cu_seqlens[sequence], 0, rows.longest) / rows.tile + sequence",
        "clamp(rows.cu_seqlens[sequence], 0, rows.longest) / rows.tile",
        "packed",
        NAN,
    ),
    Mutation(
        "packed sequences lack a slot",
        "cuda/schedule/work.h",
        "rows.longest / rows.tile + layout.batch",
        "rows.longest / rows.tile + layout.batch - 1",
        "packed",
        WRONG,
    ),
    Mutation(
        "the list of key tiles is one short",
        "cuda/schedule/key_tile_list.h",
        "return tile_count(tiles_);",
        "return tile_count(tiles_) - 1;",
        "causal",
        WRONG,
    ),
    Mutation(
        "tiles of sinks are counted twice",
        "cuda/schedule/key_tile_list.h",
        "tiles_.band.begin + index - sinks",
        "tiles_.band.begin + index",
        "window",
        WRONG,
    ),
    Mutation(
        "partial tiles pass for full ones",
        "cuda/schedule/key_tile_list.h",
        "is_full(tiles_.band, tile)",
        "true",
        "causal",
        WRONG,
    ),
    Mutation("nothing is hidden", FORWARD, "!keys.full", "false", "causal", WRONG),
    Mutation(
        "sinks are hidden",
        "cuda/tiles/visibility.h",
        "lies_in(key, row.floor, row.sink_end)",
        "false",
        "window",
        WRONG,
    ),
    Mutation(
        "the range of query tiles is one short",
        KEY_GRADIENT,
        "return {interval.begin, interval.end, interval};",
        "return {interval.begin, interval.end - 1, interval};",
        "causal",
        WRONG,
    ),
    Mutation(
        "heads of a group are scattered",
        KEY_WALK,
        "kv_head_of(problem, head)",
        "head % problem.kv_heads",
        "grouped heads",
        WRONG,
    ),
]
