// The attention of a model as specimens: what entered each layer's softmax, what left it, and the gradients of a loss.
//   const AttentionWatch watch;
//   const Tensor loss = cross_entropy(model(tokens), targets);
//   for (const Specimen& s : watch.specimens(model, loss)) ... examine(s) ...
#pragma once

#include <string>
#include <vector>

#include "framework/probe.hpp"
#include "layers/specimen.hpp"
#include "layers/transformer.hpp"

namespace surgeon {

// Watches every MultiHeadAttention that runs on this thread while it lives. It does not ask for weights, so attention
// still runs in one op, with memory that grows with T.
class AttentionWatch {
 public:
  // One specimen for each layer of the last pass, with Q, K, V, output and, with a loss, dO, dQ, dK, dV, and
  // in a block X, if Q and K are projected from it and no more. Q and K are
  // those whose products are taken: rotated, normalised, times a learned scale. (A normalised Q has no dQ here, nor K
  // a dK.) call: what the model was called with, besides its tokens.
  // std::invalid_argument for attention layers of one's own, for weights that are not softmax's, and for dropout;
  // std::out_of_range for a layer that did not run.
  std::vector<Specimen> specimens(const Transformer& model, const Tensor& loss = {},
                                  const ForwardOptions& call = {}) const;
  // Of one layer, which was called with `rules`. scope: the ProbeScope around it, if there is one.
  Specimen specimen(const MultiHeadAttention& layer, const AttentionOptions& rules, const Tensor& loss = {},
                    const std::string& scope = "") const;

 private:
  struct Layer { std::string scope; const MultiHeadAttention* layer; };
  std::vector<Specimen> all(const std::vector<Layer>& layers, const AttentionOptions& rules, const Tensor& loss) const;
  Tensor input_of(const std::string& scope) const;
  Probe Q_{"*Q"}, K_{"*K"}, V_{"*V"}, heads_{"*heads"}, input_{"*attention.input"};
};

}  // namespace surgeon
