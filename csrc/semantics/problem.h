// SPDX-License-Identifier: BSD-3-Clause
// One attention problem as plain data: where tensors lie, how rows form sequences, who sees whom.
#pragma once

#include <cstdint>

#include "semantics/band.h"
#include "semantics/biases/bias.h"
#include "semantics/portable.h"

namespace longattn {

// A tensor [batch, rows, heads, dim]; strides count elements, dim is contiguous.
struct TensorView {
  void* data;
  int64_t batch_stride;
  int64_t row_stride;
  int64_t head_stride;
};

// One number per query: [batch, heads, rows], rows contiguous (packed: [heads, rows], batch 0).
struct RowView {
  void* data;
  int64_t batch_stride;
  int64_t head_stride;
};

enum class Split : int32_t {
  kBatch,    // every batch entry is one sequence
  kPacked,   // sequences lie one after the other; cu_seqlens holds their borders
  kDilated,  // LongNet: a segment's rows with one residue modulo the rate are one sequence
};

enum class HeadOffset : int32_t {
  kModulo,  // head h starts at row h mod rate (paper)
  kBlocks,  // head h starts at row h / ceil(heads / rate) (torchscale)
};

// How the rows of the tensors form sequences.
struct SequenceLayout {
  Split split;
  int64_t batch;  // batch entries; packed: sequences
  int64_t q_len;  // rows of a batch entry; packed: of the whole tensor
  int64_t kv_len;
  int64_t q_start;  // global position of query row 0; unused when packed
  int64_t k_start;
  const int32_t* cu_seqlens_q;  // [batch + 1], packed only
  const int32_t* cu_seqlens_k;
  int64_t segment_length;  // dilated only, as are the next two
  int64_t rate;
  HeadOffset head_offset;
};

struct Problem {
  TensorView q;  // [batch, q_len, q_heads, head_dim]
  TensorView k;  // [batch, kv_len, kv_heads, head_dim]
  TensorView v;  // [batch, kv_len, kv_heads, value_dim]
  SequenceLayout layout;
  const BandTable* bands;
  int32_t q_heads;
  int32_t kv_heads;
  int32_t head_dim;
  int32_t value_dim;
  double softmax_scale;
  double softcap;  // scores become softcap * tanh(score / softcap) before the bias; 0: they stay
  Bias bias;
};

struct ForwardProblem : Problem {
  TensorView out;  // [batch, q_len, q_heads, value_dim]: input dtype; merging: the accumulator's
  RowView lse;     // accumulator dtype
  // out and lse hold a partial of the same queries: merge with it in place. Where lse is -inf, out
  // is not read.
  bool merge;
  // [q_heads], accumulator dtype, or null: the logit of a further key whose value is 0. Not with
  // merge: there the partial that out and lse begin with holds it.
  const void* sink_logits;
};

// What scores would have gained from a bias, by distance: summed over queries and keys of a head.
// Sequences are dealt out to shares in turn; a share is summed up in one order, the shares are left
// to the caller.
struct BiasGradient {
  void* data;      // [shares, q_heads, span], accumulator dtype, added to; null: not wanted
  int64_t shares;
  int64_t span;
  int64_t first_distance;  // of entry 0
};

// What an engine wants to be given for a backward pass, in numbers of the accumulator's dtype.
struct BackwardSizes {
  int64_t workspace;
  int64_t bias_shares;  // of the bias gradient, where it is wanted
};

struct BackwardProblem : Problem {
  TensorView dout;  // like out
  RowView lse;      // of the whole softmax, of which this problem may be a part
  RowView delta;    // rowsum(dout * out) - dlse
  // Added to, in the accumulator's dtype; or, if `writes`, written in that of q, k and v.
  TensorView dq;
  TensorView dk;
  TensorView dv;
  BiasGradient bias_gradient;
  void* workspace;  // as large as the engine asked for; not initialised
  int64_t workspace_size;
  bool writes;  // then sequences cover all rows; the CPU engine only
};

struct RowDotProblem {
  TensorView dout;   // [batch, q_len, q_heads, value_dim]
  TensorView out;    // likewise
  RowView dlse;      // may be null: no gradient arrives at lse
  RowView delta;     // written: rowsum(dout * out) - dlse
  int64_t batch;
  int64_t q_len;
  int32_t q_heads;
  int32_t value_dim;
  bool out_is_accumulator;  // dtype of out: the accumulator's, else that of dout
};

inline namespace LONGATTN_ISA {

// The address function: the one place where a row becomes a pointer.
template <class T>
LONGATTN_HOST_DEVICE T* row_pointer(const TensorView& view, int64_t batch, int64_t row,
                                    int64_t head) {
  return static_cast<T*>(view.data) + batch * view.batch_stride + row * view.row_stride +
         head * view.head_stride;
}

template <class T>
LONGATTN_HOST_DEVICE T* row_pointer(const RowView& view, int64_t batch, int64_t row,
                                    int64_t head) {
  return static_cast<T*>(view.data) + batch * view.batch_stride + head * view.head_stride + row;
}

LONGATTN_HOST_DEVICE int32_t kv_head_of(const Problem& problem, int32_t q_head) {
  return q_head / (problem.q_heads / problem.kv_heads);
}

}  // namespace LONGATTN_ISA
}  // namespace longattn
