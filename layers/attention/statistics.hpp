// What rows of scores come to, one number for each query: attention's return_stats.
#pragma once

#include <functional>

#include "layers/attention.hpp"

namespace surgeon::detail {

// Of scores [..., Tq, Tk] that exist, for whoever asks for derivatives by them.
AttentionStats statistics_of(const Tensor& scores);

// Of scores that nobody keeps: a few queries at a time. scores_of gives the scores of some rows of Q against all keys,
// with the options (bias) and visible keys of those rows. shape: that of all scores.
using ScoresOf =
    std::function<Tensor(const Tensor& Q, const Tensor& K, const Tensor& visible, const AttentionOptions&)>;
AttentionStats statistics_by_rows(const Tensor& Q, const Tensor& K, const Shape& shape, const AttentionOptions& options,
                                  const ScoresOf& scores_of);

}  // namespace surgeon::detail
