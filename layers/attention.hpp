// Scaled dot-product attention: softmax(Q K^T / sqrt(d_k)) V, Vaswani et al. 2017, arXiv 1706.03762, section 3.2.1;
// and the other rules for turning products into scores, and scores into weights. The score that enters softmax is
//     bias + cap(factor * (norm(q) . norm(k))),   or -inf where the mask forbids it.
#pragma once

#include <cmath>
#include <concepts>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "framework/framework.hpp"

namespace surgeon {

// The factor of q . k. Made from a bool, a double or a Tensor and nothing else: `.scale = 1` could mean either of the
// first two, so it does not compile, and the compiler says what to write.
//   false               1
//   true                1/sqrt(d_k)                Vaswani 2017
//   2.5                 2.5
//   a tensor            learned: one number, or one per head ([heads] for 4-D inputs, [batch] for 3-D inputs)
//   Scale::inverse()    1/d_k                      muP: Yang 2022, arXiv 2203.03466, definition 4.1
//   Scale::log_n()      ln(Tk)/sqrt(d_k)           Chiang & Cholak 2022, arXiv 2202.12172, section 5.3
class Scale {
 public:
  Scale(std::same_as<bool> auto on) : kind_(on ? Kind::inverse_sqrt : Kind::none) {}
  Scale(std::same_as<double> auto factor) : kind_(Kind::number), number_(factor) {}
  template <class Number>
    requires(std::is_arithmetic_v<Number> && !std::same_as<Number, bool> && !std::same_as<Number, double>)
  Scale(Number) {   // not deleted: of a deleted one clang only says that the options do not convert
    static_assert(sizeof(Number) == 0, "write .scale = true for 1/sqrt(d_k), false for 1, or a double: .scale = 2.0");
  }
  Scale(Tensor learned) : kind_(Kind::learned), learned_(std::move(learned)) {}
  static Scale inverse() { return Scale(Kind::inverse); }
  static Scale log_n() { return Scale(Kind::log_n); }

  // n: the number of keys. std::invalid_argument for a learned scale, which is a tensor.
  double factor(std::int64_t d_k, std::int64_t n = 1) const;
  bool counts_keys() const { return kind_ == Kind::log_n; }   // whether it changes with the number of keys
  const Tensor& learned() const { return learned_; }   // empty unless the scale is a tensor

 private:
  enum class Kind { none, inverse_sqrt, number, learned, inverse, log_n } kind_;
  explicit Scale(Kind kind) : kind_(kind) {}
  double number_ = 1.0;
  Tensor learned_;
};

// How q and k are normalised before their product; rms(x) = sqrt(mean x^2 + 1e-12), |x| = sqrt(d_k) rms(x).
//   l2    q/|q|, k/|k|: the product is a cosine; set the gain with `scale`. Henry 2020, arXiv 2010.04245
//   rms   q/rms(q), k/rms(k), then the usual 1/sqrt(d_k): scores have variance 1 whatever the size of q and k.
//         Dehghani 2023, arXiv 2302.05442, but with RMSNorm in place of LayerNorm, and no gain
enum class QkNorm { none, l2, rms };

// How scores become weights.
//   softmax      exp(s_j) / sum_i exp(s_i)
//   off_by_one   exp(s_j) / (1 + sum_i exp(s_i)): a head may attend to nothing. Miller 2023, "Attention is off by one"
//   sigmoid      1 / (1 + exp(-(s_j + b))), b = -ln(Tk) unless given. Ramapuram 2024, arXiv 2409.04431
enum class Weighting { softmax, off_by_one, sigmoid };

struct AttentionOptions {
  // Boolean, or float 0 and 1; true = may attend. [Tq, Tk], [B, Tq, Tk] or any other shape that broadcasts to the
  // scores; for 4-D inputs [Tq, Tk] or a 4-D shape.
  Tensor mask = {};
  Scale scale = true;
  bool return_weights = false;   // also return weights and scores, as tensors whose gradients can be asked for
  bool return_stats = false;     // also return AttentionStats; needs Weighting::softmax
  bool causal = false;           // query i sees keys 0 .. i + Tk - Tq: the last query sees all of them
  std::int64_t window = 0;       // > 0: only keys fewer than `window` places away. Beltagy 2020, arXiv 2004.05150
  Tensor bias = {};              // added to the scores; broadcasts to them (masks.hpp: alibi_bias)
  double soft_cap = 0.0;         // > 0: cap(s) = soft_cap * tanh(s / soft_cap). Gemma 2, arXiv 2408.00118, section 2
  QkNorm qk_norm = QkNorm::none;
  Weighting weighting = Weighting::softmax;
  std::optional<double> sigmoid_bias = {};
  double dropout = 0.0;          // the probability of dropping a weight; the weights returned are those before dropout
  Rng* rng = nullptr;            // the random numbers for dropout; without them nothing is dropped, as in evaluation
};

// One number for each query, [B, Tq] or [B, heads, Tq] (MultiHeadAttention: [B * heads, Tq]), of its row of scores s
// and weights p = softmax(s), before dropout. They are computed in float64 from the scores of a few queries at a time;
// [Tq, Tk] is never held, so memory grows with T. They can be differentiated to any order: on the way back each block
// of scores is computed again, so memory still grows with T, but under create_graph the new graph holds all blocks. A
// query that may attend to nothing has largest and logsumexp -inf, entropy and jacobian 0, and gradients 0.
struct AttentionStats {
  Tensor largest;     // max s; its gradient goes to the first of equals
  Tensor logsumexp;   // ln sum exp s
  Tensor entropy;     // -sum p ln p, in nats
  Tensor jacobian;    // Frobenius norm of diag(p) - p p^T, the derivative of p by s
};

// auto [output, weights, scores] = ...; the statistics are .stats.
struct AttentionResult {
  Tensor output;    // [B, Tq, d_v]
  Tensor weights;   // [B, Tq, Tk]: rows sum to 1, or to 0 where the mask hides every key
  Tensor scores;    // [B, Tq, Tk]: what enters softmax, after scale and mask (-inf where masked)
  AttentionStats stats = {};
                    // weights, scores and stats are empty unless asked for
};

// Q [B, Tq, d_k], K [B, Tk, d_k], V [B, Tk, d_v]; or 4-D [B, heads, T, d], where K and V may have fewer heads that
// divide Q's: query head h reads key head h / (heads / kv_heads) (grouped queries: Ainslie 2023, arXiv 2305.13245).
// Asking for weights never changes the output beyond rounding. A query that may attend to nothing has weights, output
// and gradients 0. What is masked out never reaches output or gradients, even when it is nan; a nan in what may be
// attended to is never hidden.
// std::invalid_argument for ranks and sizes that do not fit together, d_k = 0, no keys, a mask that does not broadcast
// or holds anything but 0 and 1, and options outside their range.
// Probes: scores, weights.
AttentionResult attention(const Tensor& Q, const Tensor& K, const Tensor& V, const AttentionOptions& options = {});

namespace detail {
// The same with heads side by side: Q [B, Tq, heads * d_k], K [B, Tk, kv_heads * d_k], V [B, Tk, kv_heads * d_v] ->
// output [B, Tq, heads * d_v], scores and weights [B * heads, Tq, Tk], head index fastest. Masks as for 4-D inputs. The
// caller has checked the sizes of Q, K and V.
AttentionResult attention_of_heads(const Tensor& Q, const Tensor& K, const Tensor& V, std::int64_t heads,
                                   std::int64_t kv_heads, const AttentionOptions& options);
// Queries or keys [..., d_k] under any rule but QkNorm::none.
Tensor normalised(const Tensor& x, QkNorm norm);
// [n, Tk]: what causal and window leave of n of the Tq queries, from `first` on; true = may attend.
Tensor visible_by_place(const AttentionOptions& options, std::int64_t Tq, std::int64_t Tk, std::int64_t first,
                        std::int64_t n);
}  // namespace detail

// For structured bindings: three names bind to output, weights and scores, whatever else a result has.
template <std::size_t I, class Result>
  requires std::same_as<std::remove_cvref_t<Result>, AttentionResult>
auto&& get(Result&& result) {
  if constexpr (I == 0) return (std::forward<Result>(result).output);
  else if constexpr (I == 1) return (std::forward<Result>(result).weights);
  else return (std::forward<Result>(result).scores);
}

}  // namespace surgeon

template <>
struct std::tuple_size<surgeon::AttentionResult> : std::integral_constant<std::size_t, 3> {};
template <std::size_t I>
struct std::tuple_element<I, surgeon::AttentionResult> {
  using type = surgeon::Tensor;
};
