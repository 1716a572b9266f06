// Scaled dot-product attention: softmax(Q K^T / sqrt(d_k)) V, Vaswani et al. 2017, arXiv 1706.03762, section 3.2.1;
// and every other score rule. With q . k the product of a query and a key, the score that enters softmax is
//     bias + cap(factor * (norm(q) . norm(k))),   -inf where the mask forbids.
#pragma once

#include <cmath>
#include <concepts>
#include <optional>

#include "framework/framework.hpp"

namespace surgeon {

// What q . k is multiplied by. Made from exactly bool, double or Tensor, so that `.scale = 1` does not compile by
// accident.
//   false               1
//   true                1/sqrt(d_k)                Vaswani 2017
//   2.5                 2.5
//   a tensor            learned: one number, or one per head ([heads] for 4-D inputs, [batch] for 3-D ones)
//   Scale::inverse()    1/d_k                      muP: Yang 2022, arXiv 2203.03466, definition 4.1
//   Scale::log_n()      ln(Tk)/sqrt(d_k)           Chiang & Cholak 2022, arXiv 2202.12172, section 5.3
class Scale {
 public:
  Scale(std::same_as<bool> auto on) : kind_(on ? Kind::inverse_sqrt : Kind::none) {}
  Scale(std::same_as<double> auto factor) : kind_(Kind::number), number_(factor) {}
  Scale(Tensor learned) : kind_(Kind::learned), learned_(std::move(learned)) {}
  static Scale inverse() { return Scale(Kind::inverse); }
  static Scale log_n() { return Scale(Kind::log_n); }

  // n: the number of keys. std::invalid_argument for a learned scale, which is no one number.
  double factor(std::int64_t d_k, std::int64_t n = 1) const;
  const Tensor& learned() const { return learned_; }   // empty unless the scale is a tensor

 private:
  enum class Kind { none, inverse_sqrt, number, learned, inverse, log_n } kind_;
  explicit Scale(Kind kind) : kind_(kind) {}
  double number_ = 1.0;
  Tensor learned_;
};

// How q and k are normalised before their product; rms(x) = sqrt(mean x^2 + 1e-12), |x| = sqrt(d_k) rms(x).
//   l2    q/|q|, k/|k|: the product is a cosine; give the gain as scale. Henry 2020, arXiv 2010.04245
//   rms   q/rms(q), k/rms(k), then the usual 1/sqrt(d_k): scores have variance 1 for any size of q and k.
//         Dehghani 2023, arXiv 2302.05442, with RMSNorm for LayerNorm and without its gain
enum class QkNorm { none, l2, rms };

// How scores become weights.
//   softmax      exp(s_j) / sum_i exp(s_i)
//   off_by_one   exp(s_j) / (1 + sum_i exp(s_i)): a head may attend to nothing. Miller 2023, "Attention is off by one"
//   sigmoid      1 / (1 + exp(-(s_j + b))), b = -ln(Tk) unless given. Ramapuram 2024, arXiv 2409.04431
enum class Weighting { softmax, off_by_one, sigmoid };

struct AttentionOptions {
  // [Tq, Tk], [B, Tq, Tk], or what else broadcasts to the scores; for 4-D inputs [Tq, Tk] or 4-D. Boolean or float 0/1;
  // true = may attend.
  Tensor mask = {};
  Scale scale = true;
  bool return_weights = false;   // true: also the weights and scores, as tensors that gradients can be asked for
  bool causal = false;           // query i sees keys 0 .. i + Tk - Tq: the last query sees all of them
  std::int64_t window = 0;       // > 0: only keys less than `window` places away. Beltagy 2020, arXiv 2004.05150
  Tensor bias = {};              // added to the scores; broadcasts to them (masks.hpp: alibi_bias)
  double soft_cap = 0.0;         // > 0: cap(s) = soft_cap * tanh(s / soft_cap). Gemma 2, arXiv 2408.00118, section 2
  QkNorm qk_norm = QkNorm::none;
  Weighting weighting = Weighting::softmax;
  std::optional<double> sigmoid_bias = {};
  double dropout = 0.0;          // of weights, with numbers from `rng`; the weights returned are those before it
  Rng* rng = nullptr;            // without one nothing is dropped: that is how a model is evaluated
};

struct AttentionResult {
  Tensor output;    // [B, Tq, d_v]
  Tensor weights;   // [B, Tq, Tk]: rows sum to 1, or to 0 where the mask kills the whole row; empty unless asked for
  Tensor scores;    // [B, Tq, Tk]: what enters softmax, after scale and mask (-inf where masked); empty unless asked
};

// Q [B, Tq, d_k], K [B, Tk, d_k], V [B, Tk, d_v]; or 4-D [B, heads, T, d], where K and V may have fewer heads that
// divide Q's: query head h reads key head h / (heads / kv_heads) (grouped queries: Ainslie 2023, arXiv 2305.13245).
// Asking for weights never changes the output beyond rounding. A row the mask kills has weights, output and gradients
// 0; what is masked out never reaches output or gradients, be it nan; a nan in what may be attended stays visible.
// Errors: std::invalid_argument for ranks and sizes that do not fit, d_k = 0, no key at all, a mask that does not
// broadcast or holds anything but 0 and 1, options outside their range.
// Probes: scores, weights.
AttentionResult attention(const Tensor& Q, const Tensor& K, const Tensor& V, const AttentionOptions& options = {});

namespace detail {
// The same with heads side by side: Q [B, Tq, heads * d_k], K [B, Tk, kv_heads * d_k], V [B, Tk, kv_heads * d_v] ->
// output [B, Tq, heads * d_v], scores and weights [B * heads, Tq, Tk], head index fastest. Masks as for 4-D inputs.
AttentionResult attention_of_heads(const Tensor& Q, const Tensor& K, const Tensor& V, std::int64_t heads,
                                   std::int64_t kv_heads, const AttentionOptions& options);
}  // namespace detail

}  // namespace surgeon
