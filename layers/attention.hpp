// Scaled dot-product attention: softmax(Q K^T / sqrt(d_k)) V. Vaswani et al. 2017, arXiv 1706.03762, section 3.2.1.
#pragma once

#include <concepts>
#include <cmath>

#include "framework/framework.hpp"

namespace surgeon {

// What the scores are multiplied by: true is 1/sqrt(d_k), false is 1, a double is itself. Made from exactly bool or
// double, so that `.scale = 1` does not compile by accident.
class Scale {
 public:
  Scale(std::same_as<bool> auto on) : kind_(on ? Kind::inverse_sqrt : Kind::none) {}
  Scale(std::same_as<double> auto factor) : kind_(Kind::factor), factor_(factor) {}
  double factor(std::int64_t d_k) const {
    return kind_ == Kind::none ? 1.0 : kind_ == Kind::factor ? factor_ : 1.0 / std::sqrt(double(d_k));
  }

 private:
  enum class Kind { none, inverse_sqrt, factor } kind_;
  double factor_ = 1.0;
};

struct AttentionOptions {
  Tensor mask = {};              // [Tq, Tk], [B, Tq, Tk], or whatever broadcasts to the scores; boolean or float 0/1; true = may attend
  Scale scale = true;
  bool return_weights = false;   // true: also the weights and scores, as tensors that gradients can be asked for
};

struct AttentionResult {
  Tensor output;    // [B, Tq, d_v]
  Tensor weights;   // [B, Tq, Tk]: rows sum to 1, or to 0 where the mask kills the whole row; empty unless asked for
  Tensor scores;    // [B, Tq, Tk]: what enters softmax, after scale and mask (-inf where masked); empty unless asked for
};

// Q [B, Tq, d_k], K [B, Tk, d_k], V [B, Tk, d_v]; or 4-D [B, H, T, d]. Asking for weights never changes the output
// beyond rounding. A row the mask kills has weights, output and gradients 0; what is masked out never reaches the
// output, be it nan; a nan in what may be attended to stays visible.
// Errors: std::invalid_argument for ranks and sizes that do not fit, d_k = 0, a mask that does not broadcast or holds
// anything but 0 and 1.
AttentionResult attention(const Tensor& Q, const Tensor& K, const Tensor& V, const AttentionOptions& options = {});

}  // namespace surgeon
