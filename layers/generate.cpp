#include "layers/generate.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "framework/errors.hpp"

namespace surgeon {

namespace {

void check(const Transformer& model, const Tensor& tokens, std::int64_t n, const GenerateOptions& options) {
  require_value("generate", tokens);
  require(tokens.dtype() == Dtype::int64 && tokens.rank() == 2 && tokens.shape(1) >= 1, "generate: tokens ",
          tokens.dtype(), " ", tokens.shape(), " must be int64 [batch, T] with T at least 1");
  require(n >= 0, "generate: n = ", n, " must not be negative");
  require(n <= model.config.context - tokens.shape(1), "generate: ", tokens.shape(1), " tokens and ", n,
          " more would exceed the context of ", model.config.context);
  require(model.config.head, "generate: the model has no head, so it gives no logits");
  require(std::isfinite(options.temperature) && options.temperature >= 0.0, "generate: temperature = ",
          options.temperature, " must be positive, or 0 for the likeliest token");
  require(options.top_k >= 0, "generate: top_k = ", options.top_k, " must be positive, or 0 for all tokens");
}

// One token, drawn with probability softmax(logits / temperature) among the k likeliest.
std::int64_t draw(std::span<const double> logits, std::int64_t k, double temperature, Rng& rng) {
  std::vector<std::int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto at = [&](std::int64_t i) { return logits[static_cast<std::size_t>(i)]; };
  require(std::none_of(logits.begin(), logits.end(), [](double x) { return std::isnan(x); }),
          "generate: a logit is nan");
  if (k > 0 && k < std::ssize(order)) {
    const auto likelier = [&](auto a, auto b) { return at(a) > at(b) || (at(a) == at(b) && a < b); };
    std::nth_element(order.begin(), order.begin() + k, order.end(), likelier);
    order.resize(static_cast<std::size_t>(k));
    std::sort(order.begin(), order.end());   // the order of the sum must not depend on the library's algorithm
  }
  const double largest = *std::max_element(logits.begin(), logits.end());
  require(std::isfinite(largest), "generate: the largest logit is ", largest);
  std::vector<double> sums;
  for (double sum = 0.0; const std::int64_t i : order)
    sums.push_back(sum += std::exp((at(i) - largest) / temperature));
  const auto drawn = std::upper_bound(sums.begin(), sums.end(), rng.uniform() * sums.back());
  return order[static_cast<std::size_t>(std::min(drawn - sums.begin(), std::ssize(sums) - 1))];
}

// logits [B, vocabulary] -> tokens [B, 1]
Tensor next_tokens(const Tensor& logits, const GenerateOptions& options) {
  const std::int64_t batch = logits.shape(0), vocabulary = logits.shape(1);
  if (!options.rng || options.temperature == 0.0) return reshape(argmax(logits, -1), {batch, 1});
  const Tensor wide = logits.to(Dtype::float64);
  std::vector<std::int64_t> drawn;
  for (std::int64_t b = 0; b < batch; ++b)
    drawn.push_back(draw(wide.values<double>().subspan(static_cast<std::size_t>(b * vocabulary),
                                                       static_cast<std::size_t>(vocabulary)),
                         options.top_k, options.temperature, *options.rng));
  return tensor(drawn, {batch, 1});
}

}  // namespace

Tensor generate(const Transformer& model, const Tensor& tokens, std::int64_t n, const GenerateOptions& options) {
  check(model, tokens, n, options);
  const NoRecord pause;
  const bool steps = model.can_step();
  TransformerCache cache;
  std::vector<Tensor> all{tokens};
  for (std::int64_t i = 0; i < n; ++i) {
    const Tensor logits = steps ? model.step(all.back(), cache) : model(concat(all, 1));   // [B, T, vocabulary]
    all.push_back(next_tokens(reshape(slice(logits, 1, -1), {tokens.shape(0), logits.shape(2)}), options));
  }
  return concat(all, 1);
}

}  // namespace surgeon
