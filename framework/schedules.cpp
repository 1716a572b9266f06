// Learning-rate schedules, and what happens to gradients between grad() and step(): norm, clipping, accumulation and
// the refusal of outliers. The update rules are in optim.cpp.
#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "framework/autograd.hpp"
#include "framework/detail/node.hpp"
#include "framework/ops.hpp"
#include "framework/optim.hpp"
#include "framework/detail/require.hpp"

namespace surgeon {

using detail::require;

namespace schedule {

namespace {

void check(const char* name, const char* argument, double value) {
  require(std::isfinite(value) && value >= 0.0, "schedule::", name, ": ", argument, " = ", value,
          " is not a number of at least 0");
}
void check_steps(const char* name, std::int64_t steps) {
  require(steps >= 1, "schedule::", name, ": ", steps, " steps");
}

template <class Formula>
Schedule of_step(Formula formula) {
  return [formula](std::int64_t t) -> double {
    require(t >= 0, "schedule: step ", t, " is before the first");
    return formula(t);
  };
}

double cosine_at(double lr, double low, std::int64_t t, std::int64_t steps) {
  return low + (lr - low) * (1.0 + std::cos(std::numbers::pi * double(t) / double(steps))) / 2.0;
}
double warmup_at(double lr, double start, std::int64_t t, std::int64_t steps) {
  return lr * (start + (1.0 - start) * double(std::min(t, steps)) / double(steps));
}

}  // namespace

Schedule constant(double lr) {
  check("constant", "lr", lr);
  return of_step([=](std::int64_t) { return lr; });
}

Schedule step(double lr, std::int64_t every, double gamma) {
  check("step", "lr", lr);
  check("step", "gamma", gamma);
  check_steps("step", every);
  return of_step([=](std::int64_t t) { return lr * std::pow(gamma, double(t / every)); });
}

Schedule exponential(double lr, double gamma) {
  check("exponential", "lr", lr);
  check("exponential", "gamma", gamma);
  return of_step([=](std::int64_t t) { return lr * std::pow(gamma, double(t)); });
}

Schedule cosine(double lr, std::int64_t steps, double low) {
  check("cosine", "lr", lr);
  check("cosine", "low", low);
  check_steps("cosine", steps);
  return of_step([=](std::int64_t t) { return cosine_at(lr, low, t, steps); });
}

Schedule linear_warmup(double lr, std::int64_t steps, double start) {
  check("linear_warmup", "lr", lr);
  check("linear_warmup", "start", start);
  check_steps("linear_warmup", steps);
  return of_step([=](std::int64_t t) { return warmup_at(lr, start, t, steps); });
}

Schedule warmup_cosine(double lr, std::int64_t warmup, std::int64_t steps, double low, double start) {
  check("warmup_cosine", "lr", lr);
  check("warmup_cosine", "low", low);
  check("warmup_cosine", "start", start);
  require(warmup >= 0 && warmup < steps, "schedule::warmup_cosine: ", warmup, " of ", steps, " steps are warm-up");
  return of_step([=](std::int64_t t) {
    if (t < warmup) return warmup_at(lr, start, t, warmup);
    return cosine_at(lr, low, std::min(t, steps) - warmup, steps - warmup);
  });
}

}  // namespace schedule

// ---- Between grad() and step() -------------------------------------------------------------------------------------

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
    require(is_floating(g.dtype()), "grad_norm: a gradient of dtype ", g.dtype());
    squares += detail::visit_floating(g.dtype(), [&](auto t) { return sum_of_squares(g.values<decltype(t)>()); });
  }
  return std::sqrt(squares);
}

double clip_grad_norm(std::span<Tensor> gradients, double max_norm) {
  require(max_norm >= 0.0, "clip_grad_norm: a norm of at most ", max_norm);
  const double norm = grad_norm(gradients);
  const double factor = max_norm / (norm + 1e-6);
  if (factor >= 1.0) return norm;   // false for nan
  const NoRecord pause;
  for (Tensor& g : gradients)
    if (g.defined()) g = g * factor;
  return norm;
}

void GradientMean::add(std::span<const Tensor> gradients) {
  if (count_ == 0) {
    sums_.assign(gradients.begin(), gradients.end());
  } else {
    require(gradients.size() == sums_.size(), "GradientMean: ", gradients.size(), " gradients after ", sums_.size());
    const NoRecord pause;
    std::vector<Tensor> sums;
    for (std::size_t i = 0; i < sums_.size(); ++i) {
      require(gradients[i].defined() == sums_[i].defined() && gradients[i].shape() == sums_[i].shape(),
              "GradientMean: gradient ", i, " of shape ", gradients[i].shape(), " after ", sums_[i].shape());
      sums.push_back(sums_[i].empty() ? Tensor() : sums_[i] + gradients[i]);
    }
    sums_ = std::move(sums);
  }
  ++count_;
}

std::vector<Tensor> GradientMean::take() {
  require(count_ > 0, "GradientMean: nothing was added");
  const NoRecord pause;
  std::vector<Tensor> means;
  for (const Tensor& sum : sums_) means.push_back(sum.empty() ? Tensor() : sum / double(count_));
  sums_.clear();
  count_ = 0;
  return means;
}

// ---- Outliers ------------------------------------------------------------------------------------------------------

namespace {

double median(std::vector<double> values) {   // the upper one of two
  const auto middle = values.begin() + std::ptrdiff_t(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

OutlierGuard::OutlierGuard(const OutlierOptions& options) : options_(options) {
  require(options.factor >= 1.0, "OutlierGuard: factor = ", options.factor, " is below 1");
  require(options.warmup >= 1 && options.window >= options.warmup, "OutlierGuard: a warm-up of ", options.warmup,
          " norms does not fit into a window of ", options.window);
  require(options.patience >= 1, "OutlierGuard: patience = ", options.patience);
}

bool OutlierGuard::accept(double norm) {
  const auto refuse = [this] { return ++refused_, false; };
  if (!std::isfinite(norm)) return refuse();
  const bool known = std::int64_t(window_.size()) >= options_.warmup;
  if (known && norm > options_.factor * median({window_.begin(), window_.end()})) {
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
              state.size() - 2 <= options_.window, "OutlierGuard: this is no state of it");
  const std::span<const double> numbers = state.values<double>();
  const auto norm = [](double x) { return std::isfinite(x) && x >= 0.0; };
  require(std::all_of(numbers.begin(), numbers.end(), norm) && numbers[0] < 9e15 && numbers[1] < 9e15,
          "OutlierGuard: this is no state of it");
  refused_ = std::int64_t(numbers[0]);
  in_a_row_ = std::int64_t(numbers[1]);
  window_.assign(numbers.begin() + 2, numbers.end());
}

}  // namespace surgeon
