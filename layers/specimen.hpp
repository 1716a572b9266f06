// One attention as somebody else computed it: its inputs, and whatever of its insides and gradients was kept.
#pragma once

#include <string>

#include "layers/attention.hpp"

namespace surgeon {

// Heads lie apart, [B, heads, T, d]; K and V may have fewer heads, which divide those of Q. dX is the derivative of the
// loss by X. Only Q, K and V are needed.
struct Specimen {
  std::string name = {};   // of the layer
  Tensor Q = {}, K = {}, V = {};
  Tensor X = {};   // what Q, K and V are made of, [B, T, d_model]
  Tensor mask = {}, bias = {};   // as attention's, 4-D or [Tq, Tk]
  Tensor output = {}, weights = {};   // [B, heads, Tq, d_v] and [B, heads, Tq, Tk]
  Tensor dO = {};   // by the output: the upstream gradient
  Tensor dP = {}, dS = {};   // by the weights and by the scores (what enters softmax)
  Tensor dQ = {}, dK = {}, dV = {};
  Scale scale = true;
  bool causal = false;
  std::int64_t window = 0;
  double soft_cap = 0.0;
  Weighting weighting = Weighting::softmax;

  std::int64_t batch() const { return Q.shape(0); }
  std::int64_t heads() const { return Q.shape(1); }
  std::int64_t kv_heads() const { return K.shape(1); }
  std::int64_t Tq() const { return Q.shape(2); }
  std::int64_t Tk() const { return K.shape(2); }
  AttentionOptions options() const;   // mask and bias included
};

// std::invalid_argument, naming the tensor, unless all shapes fit together and all numbers have one floating dtype.
void check(const Specimen& specimen);

// One sequence, with all its heads; and everything in float64.
Specimen one_sequence(const Specimen& specimen, std::int64_t sequence);
Specimen in_float64(const Specimen& specimen);

// One head of one sequence, every tensor 2-D: K and V (and their gradients) are those that the head reads. A gradient
// of K or V that several heads share is left out: no head's own part is in it.
Specimen one_head(const Specimen& specimen, std::int64_t sequence, std::int64_t head);

// Of each query of each head, [B, heads, Tq], with memory that grows with T.
AttentionStats statistics(const Specimen& specimen);

// One key head of one sequence with all the query heads that read it: their queries, and what belongs to them, lie one
// after another. `mask` has all that hides, causal rule and window included, [queries, Tk], or is empty.
Specimen one_group(const Specimen& specimen, std::int64_t sequence, std::int64_t kv_head);

Tensor heads_apart(const Tensor& x, std::int64_t heads);   // [B, T, heads * d] -> [B, heads, T, d]

// Where queries may attend, mask, causal rule and window together: broadcasts to the scores of a specimen or of one of
// its heads; empty: everywhere.
Tensor visible_in(const Specimen& specimen);

}  // namespace surgeon
