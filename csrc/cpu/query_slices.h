// SPDX-License-Identifier: BSD-3-Clause
// Cuts the queries that share a dk and dv into slices of about the same work, each of which needs a
// dk and dv only of the keys that it sees: of a window about its own rows, of causal keys those
// up to its end.
#pragma once

#include <vector>

#include "cpu/key_gradients.h"

namespace longattn::cpu {

struct QuerySlice {
  int64_t sequence;
  int32_t kv_head;
  int32_t begin;  // rows of the sequence
  int32_t end;
  SeenKeys keys;
  bool at_home;   // works on dk and dv; all others of its kv head have memory of their own
  int64_t place;  // rows of such memory before this slice's

  int64_t own_rows() const { return at_home ? 0 : keys.size(); }
};

// How many slices the queries of one kv head of a sequence are cut into: 1 where there are enough
// sequences and heads for all cores. Depends on the problem alone, never on the number of threads.
int64_t slices_of(const Problem& problem);

// All slices of the problem, those of a sequence's kv head one after the other. At home is the one
// that sees most keys; none if dk and dv are written.
std::vector<QuerySlice> query_slices(const BackwardProblem& problem);

}  // namespace longattn::cpu
