// The norm of gradients, clipping, accumulation and the refusal of outliers.
#include "framework/clipping.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "framework/autograd.hpp"
#include "framework/detail/node.hpp"
#include "framework/diagnostics.hpp"
#include "framework/errors.hpp"
#include "framework/ops.hpp"

namespace surgeon {

namespace {

// Eight sums side by side: one after the other would wait for each addition.
template <class T>
double sum_of_squares(std::span<const T> values) {
  double lanes[8] = {};
  const std::size_t whole = values.size() / 8 * 8;
  for (std::size_t i = 0; i < whole; i += 8)
    for (std::size_t lane = 0; lane < 8; ++lane) lanes[lane] += double(values[i + lane]) * double(values[i + lane]);
  for (std::size_t i = whole; i < values.size(); ++i) lanes[i - whole] += double(values[i]) * double(values[i]);
  return std::accumulate(std::begin(lanes), std::end(lanes), 0.0);
}

}  // namespace

double grad_norm(std::span<const Tensor> gradients) {
  double squares = 0.0;
  for (const Tensor& g : gradients) {
    if (g.empty()) continue;
    require(is_floating(g.dtype()), "grad_norm: gradients must be float32 or float64, not ", g.dtype());
    squares += detail::visit_floating(g.dtype(), [&]<class T>(T) { return sum_of_squares(g.values<T>()); });
  }
  return std::sqrt(squares);
}

double clip_grad_norm(std::span<Tensor> gradients, double max_norm) {
  require(max_norm >= 0.0, "clip_grad_norm: max_norm must be at least 0, not ", max_norm);
  const double norm = grad_norm(gradients);
  const double factor = max_norm / (norm + 1e-6);
  if (factor >= 1.0) return norm;   // false for nan
  const NoRecord pause;
  for (Tensor& g : gradients)
    if (g.defined()) g = g * factor;
  return norm;
}

// Weights count relative to the first, so that equal ones cost no digit.
void GradientMean::add(std::span<const Tensor> gradients, double weight) {
  require(weight > 0.0 && std::isfinite(weight), "GradientMean: the weight must be positive and finite, not ", weight);
  if (count_ == 0) {
    sums_.assign(gradients.begin(), gradients.end());
    first_weight_ = weight;
  } else {
    require(gradients.size() == sums_.size(), "GradientMean: ", gradients.size(), " gradients, but ", sums_.size(),
            " before");
    const NoRecord pause;
    const double share = weight / first_weight_;
    std::vector<Tensor> sums;
    for (std::size_t i = 0; i < sums_.size(); ++i) {
      require(gradients[i].defined() == sums_[i].defined() && gradients[i].shape() == sums_[i].shape(),
              "GradientMean: gradient ", i, " has shape ", gradients[i].shape(), ", but had ", sums_[i].shape(),
              " before");
      const Tensor& g = gradients[i];
      sums.push_back(g.empty() ? Tensor() : sums_[i] + (share == 1.0 ? g : g * share));
    }
    sums_ = std::move(sums);
  }
  weights_ += weight / first_weight_;
  ++count_;
}

std::vector<Tensor> GradientMean::take() {
  require(count_ > 0, "GradientMean: no gradients were added");
  const NoRecord pause;
  std::vector<Tensor> means;
  for (const Tensor& sum : sums_) means.push_back(sum.empty() ? Tensor() : sum / weights_);
  *this = GradientMean();
  return means;
}

// ---- Outliers ------------------------------------------------------------------------------------------------------

OutlierGuard::OutlierGuard(const OutlierOptions& options) : options_(options) {
  require(options.factor >= 1.0, "OutlierGuard: factor must be at least 1, not ", options.factor);
  require(options.warmup >= 1 && options.window >= options.warmup, "OutlierGuard: a warm-up of ", options.warmup,
          " norms does not fit into a window of ", options.window);
  require(options.patience >= 1, "OutlierGuard: patience must be at least 1, not ", options.patience);
}

bool OutlierGuard::accept(double norm) {
  const auto refuse = [this] { return ++refused_, false; };
  if (!std::isfinite(norm)) return refuse();
  const bool known = std::int64_t(window_.size()) >= options_.warmup;
  if (known && norm > options_.factor * median(std::vector(window_.begin(), window_.end()))) {
    if (in_a_row_ < options_.patience) return ++in_a_row_, refuse();
    window_.clear();
  }
  in_a_row_ = 0;
  window_.push_back(norm);
  if (std::int64_t(window_.size()) > options_.window) window_.pop_front();
  return true;
}

Tensor OutlierGuard::state() const {
  std::vector<double> numbers{double(refused_), double(in_a_row_)};
  numbers.insert(numbers.end(), window_.begin(), window_.end());
  return tensor(numbers, {std::int64_t(numbers.size())});
}

void OutlierGuard::restore(const Tensor& state) {
  require(state.defined() && state.dtype() == Dtype::float64 && state.rank() == 1 && state.size() >= 2 &&
              state.size() - 2 <= options_.window, "OutlierGuard: this tensor is not one of its states");
  const std::span<const double> numbers = state.values<double>();
  const auto norm = [](double x) { return std::isfinite(x) && x >= 0.0; };
  require(std::all_of(numbers.begin(), numbers.end(), norm) && numbers[0] < 9e15 && numbers[1] < 9e15,
          "OutlierGuard: this tensor is not one of its states");
  refused_ = std::int64_t(numbers[0]);
  in_a_row_ = std::int64_t(numbers[1]);
  window_.assign(numbers.begin() + 2, numbers.end());
}

}  // namespace surgeon
