// SPDX-License-Identifier: BSD-3-Clause
// Resolves one sequence of a problem: its rows in the tensors, its lengths, its diagonal.
#pragma once

#include "semantics/integers.h"
#include "semantics/problem.h"

namespace longattn {

struct Sequence {
  int64_t batch;     // entry of the tensors
  int64_t q_row;     // first query row in the tensors
  int64_t k_row;     // first key row
  int64_t row_step;  // rows of the tensors between neighbours of the sequence
  int32_t q_len;
  int32_t k_len;
  int64_t diagonal;  // index of the key that stands at the position of query 0 (any sign)
};

inline namespace LONGATTN_ISA {

LONGATTN_HOST_DEVICE int64_t first_segment(const SequenceLayout& layout) {
  return floor_divide(layout.q_start, layout.segment_length);
}

LONGATTN_HOST_DEVICE int64_t segments_of(const SequenceLayout& layout) {
  if (layout.q_len == 0) return 0;
  const int64_t last_position = layout.q_start + layout.q_len - 1;
  return floor_divide(last_position, layout.segment_length) - first_segment(layout) + 1;
}

LONGATTN_HOST_DEVICE int64_t sequences_of(const SequenceLayout& layout) {
  return layout.split == Split::kDilated ? layout.batch * segments_of(layout) : layout.batch;
}

LONGATTN_HOST_DEVICE int64_t head_offset(const SequenceLayout& layout, int32_t head,
                                         int32_t q_heads) {
  return layout.head_offset == HeadOffset::kModulo
             ? head % layout.rate
             : head / ceil_divide(q_heads, layout.rate);
}

// Positions origin, origin + step, ... below `end`, as far as they lie in [start, start + length).
struct ResidueRows {
  int64_t first_position;
  int64_t count;
};

LONGATTN_HOST_DEVICE ResidueRows residue_rows(int64_t origin, int64_t step, int64_t end,
                                              int64_t start, int64_t length) {
  const int64_t first = origin + step * larger(ceil_divide(start - origin, step), 0);
  const int64_t stop = smaller(end, start + length);
  return {first, larger(ceil_divide(stop - first, step), 0)};
}

LONGATTN_HOST_DEVICE Sequence dilated_sequence(const SequenceLayout& layout, int64_t index,
                                               int32_t head, int32_t q_heads) {
  const int64_t segments = segments_of(layout);
  const int64_t begin = (first_segment(layout) + index % segments) * layout.segment_length;
  const int64_t end = begin + layout.segment_length;
  const int64_t origin = begin + head_offset(layout, head, q_heads);
  const ResidueRows q = residue_rows(origin, layout.rate, end, layout.q_start, layout.q_len);
  const ResidueRows k = residue_rows(origin, layout.rate, end, layout.k_start, layout.kv_len);
  return {index / segments,
          q.first_position - layout.q_start,
          k.first_position - layout.k_start,
          layout.rate,
          static_cast<int32_t>(q.count),
          static_cast<int32_t>(k.count),
          (q.first_position - k.first_position) / layout.rate};
}

LONGATTN_HOST_DEVICE Sequence packed_sequence(const SequenceLayout& layout, int64_t index) {
  // Borders are clamped so that bad values cannot lead outside the tensors.
  const int64_t q_begin = clamp(layout.cu_seqlens_q[index], 0, layout.q_len);
  const int64_t q_end = clamp(layout.cu_seqlens_q[index + 1], q_begin, layout.q_len);
  const int64_t k_begin = clamp(layout.cu_seqlens_k[index], 0, layout.kv_len);
  const int64_t k_end = clamp(layout.cu_seqlens_k[index + 1], k_begin, layout.kv_len);
  const int32_t q_len = static_cast<int32_t>(q_end - q_begin);
  const int32_t k_len = static_cast<int32_t>(k_end - k_begin);
  return {0, q_begin, k_begin, 1, q_len, k_len, k_len - q_len};
}

LONGATTN_HOST_DEVICE Sequence sequence_at(const SequenceLayout& layout, int64_t index,
                                          int32_t head, int32_t q_heads) {
  if (layout.split == Split::kDilated) return dilated_sequence(layout, index, head, q_heads);
  if (layout.split == Split::kPacked) return packed_sequence(layout, index);
  return {index,
          0,
          0,
          1,
          static_cast<int32_t>(layout.q_len),
          static_cast<int32_t>(layout.kv_len),
          layout.q_start - layout.k_start};
}

// No sequence has more queries than this; work items are laid out by it.
LONGATTN_HOST_DEVICE int64_t longest_q_len(const SequenceLayout& layout) {
  if (layout.split != Split::kDilated) return layout.q_len;
  return smaller(ceil_divide(layout.segment_length, layout.rate), layout.q_len);
}

}  // namespace LONGATTN_ISA
}  // namespace longattn
