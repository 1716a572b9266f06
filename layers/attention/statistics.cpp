#include "layers/attention/statistics.hpp"

#include <algorithm>
#include <limits>

#include "framework/diagnostics.hpp"
#include "framework/recompute.hpp"
#include "layers/attention/inputs.hpp"

namespace surgeon::detail {

namespace {

constexpr double minus_infinity = -std::numeric_limits<double>::infinity();

// ||J||^2 = p_w^2 (rest^2 + squares) + sum over the others of p_j^2 ((1 - p_j)^2 + p_w^2 + squares - p_j^2). w is the
// winner, rest and squares are sums over the others: every term is positive, so no digits cancel.
Tensor jacobian_of(const Tensor& p, const Tensor& winner) {
  const Tensor others = masked_fill(p, winner, 0.0), top = sum(masked_fill(p, !winner, 0.0), Over{{-1}, true});
  const Tensor square = others * others, squares = sum(square, Over{{-1}, true});
  const Tensor rest = sum(others, Over{{-1}, true}), away = 1.0 - others;
  const Tensor all =
      sum(top * top * (rest * rest + squares), -1) + sum(square * (away * away + top * top + squares - square), -1);
  const Tensor zero = all == 0.0;   // the root has no derivative there; it is 0 on both sides
  return masked_fill(sqrt(masked_fill(all, zero, 1.0)), zero, 0.0);
}

// [4, ..., Tq] in ops: what derivatives go through.
Tensor in_plain_ops(const Tensor& scores) {
  const Tensor p = softmax(scores), logs = masked_fill(log_softmax(scores), p == 0.0, 0.0);
  const Tensor winner = one_hot(argmax(scores, -1), scores.shape(-1), scores.dtype()) == 1.0;
  const Tensor total = logsumexp(scores, -1), dead = total == minus_infinity;
  const Tensor largest = masked_fill(sum(masked_fill(scores, !winner, 0.0), -1), dead, minus_infinity);
  return stack({largest, total, -sum(p * logs, -1), jacobian_of(p, winner)}, 0);
}

Tensor value_of(const Tensor& scores) {
  const NoRecord pause;
  const std::vector<ScoreRow> rows = score_rows(scores);
  std::vector<double> all;
  for (double ScoreRow::*part : {&ScoreRow::largest, &ScoreRow::logsumexp, &ScoreRow::entropy, &ScoreRow::jacobian})
    for (const ScoreRow& row : rows) all.push_back(row.*part);
  Shape shape = scores.shape();
  shape.back() = 4;
  std::rotate(shape.begin(), shape.end() - 1, shape.end());
  return tensor(all, shape).to(scores.dtype());
}

Tensor stacked_statistics(const Tensor& scores) {
  constexpr const char* name = "attention_stats";
  return record(name, {scores}, value_of(scores), [](const Ins& in, Out, Grad g) -> Grads {
    const bool goes_on = recording();   // the way back is itself differentiated
    const Recording on;
    Grads found = pull_reference(name, in, g, [](std::span<const Tensor> x) { return in_plain_ops(x[0]); });
    return {goes_on ? found[0] : found[0].detach()};
  });
}

AttentionStats apart(const Tensor& all) { return {all[0], all[1], all[2], all[3]}; }

// How many queries at a time: about 2^20 scores, all heads together.
std::int64_t block_of(const Shape& shape) {
  const std::int64_t Tq = std::max<std::int64_t>(shape[shape.size() - 2], 1);
  const std::int64_t scores_of_a_query = std::max<std::int64_t>(count(shape) / Tq, 1);
  return std::clamp<std::int64_t>((1 << 20) / scores_of_a_query, 8, std::max<std::int64_t>(Tq, 8));
}

}  // namespace

AttentionStats statistics_of(const Tensor& scores) { return apart(stacked_statistics(scores)); }

AttentionStats statistics_by_rows(const Tensor& Q, const Tensor& K, const Shape& shape, const AttentionOptions& options,
                                  const ScoresOf& scores_of) {
  const std::int64_t Tq = Q.shape(-2), step = block_of(shape);
  std::vector<Tensor> blocks;   // [4, ..., n] each
  for (std::int64_t first = 0; first < Tq || blocks.empty(); first += step) {
    const std::int64_t n = std::min(step, Tq - first);
    AttentionOptions here = options;
    if (options.bias.defined()) here.bias = rows_of(options.bias, first, n);
    const Tensor visible = visible_to(options, shape, first, n);
    const auto block = [scores_of, here, visible](const std::vector<Tensor>& x) {
      return stacked_statistics(scores_of(x[0], x[1], visible, here));
    };
    const std::vector<Tensor> inputs{slice(Q, -2, first, first + n), K};
    blocks.push_back(recording() && Tq > step ? recompute(block, inputs) : block(inputs));
  }
  return apart(blocks.size() == 1 ? blocks[0] : concat(blocks, -1));
}

}  // namespace surgeon::detail
