// Numbers at the edge: long sums, huge and tiny values, infinities and nan. What ops.hpp states of them is held here.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "framework/framework.hpp"
#include "tests/values.hpp"

using namespace surgeon;
using namespace surgeon::tests;

namespace {

const double inf = std::numeric_limits<double>::infinity();
const double not_a_number = std::numeric_limits<double>::quiet_NaN();
const Dtype both[] = {Dtype::float32, Dtype::float64};

Tensor numbers(const std::vector<double>& values, Dtype dtype) {
  return tensor(values, {std::int64_t(values.size())}).to(dtype);
}

Tensor gradient(const Tensor& y, const Tensor& x) { return grad(sum(y), {x}, {.allow_unused = true})[0]; }

}  // namespace

TEST_SUITE("numbers") {

// ---- Powers --------------------------------------------------------------------------------------------------------

TEST_CASE("pow of tensors: derivatives at base 0 and exponent 0 are PyTorch's") {
  const auto same = [](double a, double b) {
    return std::isfinite(b) ? a == doctest::Approx(b) : std::isnan(b) ? std::isnan(a) : a == b;
  };
  for (const Dtype dtype : both) {
    const Tensor x = numbers({0, 0, 0, 2, -2, 0, 3, -2, 0}, dtype), p = numbers({0, 2, -1, 0, 0, 1, 2, 3, 0.5}, dtype);
    const std::vector<double> by_base{0, 0, -inf, 0, 0, 1, 6, 12, inf};
    const std::vector<double> by_exponent{0, 0, -inf, std::log(2), not_a_number, 0, 9 * std::log(3), not_a_number, 0};
    const auto gradients = grad(sum(pow(x, p)), {x, p});
    for (std::int64_t i = 0; i < 9; ++i) {
      CAPTURE(i);
      CHECK(same(gradients[0].at({i}), by_base[std::size_t(i)]));
      CHECK(same(gradients[1].at({i}), by_exponent[std::size_t(i)]));
    }
  }
}

// ---- Long sums -----------------------------------------------------------------------------------------------------

TEST_CASE("numbers: a sum of ten million float32 ones is ten million, in every direction") {
  constexpr std::int64_t n = 10'000'000;
  const Tensor x = ones({n});
  CHECK(sum(x).item() == double(n));
  CHECK(mean(x).item() == 1.0);
  CHECK(sum(reshape(x, {n, 1}), 0).item() == double(n));
  CHECK(sum(reshape(x, {1, n}), -1).item() == double(n));
  const Tensor columns = sum(reshape(x, {n / 5, 5}), 0);
  for (std::int64_t j = 0; j < 5; ++j) CHECK(columns.at({j}) == double(n / 5));
  CHECK(cumsum(x, 0).at({n - 1}) == double(n));
  CHECK(var(x).item() == 0.0);
  const Tensor one = full({}, 1.0);
  CHECK(grad(sum(one * x), {one})[0].item() == double(n));   // broadcasting undone is a sum too
}

TEST_CASE("numbers: a long float32 sum of 0.1 is right to the last digit or two") {
  constexpr std::int64_t n = 1'000'000;
  const Tensor x = full({n}, 0.1);
  const double exact = double(0.1f) * double(n);
  CHECK(std::abs(sum(x).item() / exact - 1.0) < 2e-7);
  CHECK(std::abs(sum(reshape(x, {n / 4, 4}), 0).at({0}) / (exact / 4) - 1.0) < 2e-7);
}

// ---- Large values --------------------------------------------------------------------------------------------------

TEST_CASE("numbers: softmax, log_softmax and logsumexp are finite and right at 1e4 and 1e30, in both dtypes") {
  for (Dtype dtype : both)
    for (double size : {1e4, 1e30, -1e4, -1e30}) {
      INFO(to_string(dtype), " ", size);
      const Tensor x = numbers({size, 0.0, size, -size}, dtype);
      using List = std::vector<double>;
      const List p = size > 0 ? List{0.5, 0.0, 0.5, 0.0} : List{0, 0, 0, 1};
      CHECK(list(softmax(x)) == p);
      CHECK(list(softmax(reshape(x, {4, 1}), 0)) == p);
      CHECK(all_finite(log_softmax(x)));
      const double two = size > 0 ? std::log(2.0) : 0.0;   // equal largest scores
      CHECK(logsumexp(x).item() == doctest::Approx(std::abs(size) + two).epsilon(1e-6));
      CHECK(all_finite(gradient(softmax(x) * numbers({1, 2, 3, 4}, dtype), x)));
      CHECK(all_finite(gradient(log_softmax(x) * numbers({1, 2, 3, 4}, dtype), x)));
      CHECK(all_finite(gradient(logsumexp(x), x)));
    }
}

TEST_CASE("numbers: cross_entropy is finite at 1e4 and 1e30, with finite gradients") {
  const Tensor target = tensor({0, 1}, {2});
  for (Dtype dtype : both)
    for (double size : {1e4, 1e30})
      for (double smoothing : {0.0, 0.1}) {
        const Tensor logits = reshape(numbers({size, 0.0, -size, size, 0.0, -size}, dtype), {2, 3});
        const Tensor loss = cross_entropy(logits, target, {.reduction = Reduction::none, .label_smoothing = smoothing});
        CHECK(all_finite(loss));
        if (smoothing == 0.0) {
          CHECK(loss.at({0}) == 0.0);
          CHECK(loss.at({1}) == doctest::Approx(size));
        }
        CHECK(all_finite(gradient(loss, logits)));
      }
}

TEST_CASE("numbers: layer_norm and var take an offset of 1e6 away exactly") {
  const Tensor small = reshape(arange(64, Dtype::float32) * 0.5, {2, 32});   // 1e6 + k / 2 is exact in float32
  const Tensor gamma = ones({32}), beta = zeros({32});
  const Tensor plain = layer_norm(small, gamma, beta), offset = layer_norm(small + 1e6, gamma, beta);
  CHECK(max(abs(plain - offset)).item() < 2e-6);
  CHECK(var(small + 1e6).item() == doctest::Approx(var(small).item()).epsilon(1e-6));
  const Tensor x = small + 1e6, w = stop_gradient(sin(small));
  const auto slope = [&](const Tensor& z) { return gradient(layer_norm(z, gamma, beta) * w, z); };
  CHECK(max(abs(slope(x) - slope(small))).item() < 2e-6);
  CHECK(max(abs(layer_norm(full({2, 8}, 1e6), ones({8}), zeros({8})))).item() == 0.0);   // nothing but offset
}

TEST_CASE("numbers: the saturating functions reach their limits and keep finite slopes") {
  for (Dtype dtype : both) {
    const Tensor x = numbers({-1e30, -1e4, 1e4, 1e30}, dtype);
    CHECK(list(sigmoid(x)) == std::vector<double>{0, 0, 1, 1});
    CHECK(list(tanh(x)) == std::vector<double>{-1, -1, 1, 1});
    CHECK(list(erf(x)) == std::vector<double>{-1, -1, 1, 1});
    CHECK(list(softplus(x)) == list(relu(x)));
    CHECK(list(silu(x)) == list(relu(x)));
    CHECK(list(gelu(x)) == list(relu(x)));
    CHECK(list(gelu(numbers({-1e4, 1e4}, dtype), Gelu::tanh)) == list(relu(numbers({-1e4, 1e4}, dtype))));
    for (auto f : {sigmoid, tanh, erf, softplus, silu})
      CHECK(all_finite(gradient(f(x), x)));
    CHECK(all_finite(gradient(gelu(x), x)));
    CHECK(list(gradient(softplus(x), x)) == std::vector<double>{0, 0, 1, 1});
  }
}

TEST_CASE("numbers: exp, log, sqrt and division follow IEEE") {
  for (Dtype dtype : both) {
    const Tensor x = numbers({-inf, 0.0, inf}, dtype);
    CHECK(list(exp(x)) == std::vector<double>{0, 1, inf});
    CHECK(list(log(numbers({0.0, 1.0, inf}, dtype))) == std::vector<double>{-inf, 0, inf});
    CHECK(list(sqrt(numbers({0.0, 4.0, inf}, dtype))) == std::vector<double>{0, 2, inf});
    CHECK(all_nan(log(numbers({-1.0, -inf}, dtype))));
    CHECK(all_nan(sqrt(numbers({-1.0}, dtype))));
    CHECK(list(numbers({1.0, -1.0}, dtype) / numbers({0.0}, dtype)) == std::vector<double>{inf, -inf});
    CHECK(all_nan(numbers({0.0}, dtype) / 0.0));
    CHECK(exp(numbers({1000.0}, dtype)).item() == inf);
    CHECK(exp(numbers({-1000.0}, dtype)).item() == 0.0);
  }
}

// ---- nan in, nan out -----------------------------------------------------------------------------------------------

TEST_CASE("numbers: one nan reaches every result it belongs to, and no other") {
  for (Dtype dtype : both)
    for (std::int64_t length : {3, 40})
      for (std::int64_t where_nan : {std::int64_t{0}, length / 2, length - 1}) {
        std::vector<double> values(std::size_t(2 * length), 1.0);
        for (std::size_t k = 0; k < values.size(); ++k) values[k] = std::sin(double(k));
        values[std::size_t(where_nan)] = not_a_number;   // in the first of two rows
        const Tensor x = reshape(numbers(values, dtype), {2, length});
        INFO(to_string(dtype), " [2, ", length, "] nan at ", where_nan);
        for (const Tensor& y : {sum(x, -1), mean(x, -1), max(x, -1), min(x, -1), var(x, -1), logsumexp(x, -1)}) {
          CHECK(std::isnan(y.at({0})));
          CHECK(std::isfinite(y.at({1})));
        }
        const Tensor gamma = ones({length}, dtype), beta = zeros({length}, dtype);
        for (const Tensor& y : {softmax(x), log_softmax(x), layer_norm(x, gamma, beta), rms_norm(x, gamma)}) {
          CHECK(all_nan(slice(y, 0, 0, 1)));
          CHECK(all_finite(slice(y, 0, 1, 2)));
        }
        const Tensor columns = max(x, 0);
        for (std::int64_t j = 0; j < length; ++j) CHECK(std::isnan(columns.at({j})) == (j == where_nan));
        CHECK(argmax(x, 1).at({0}) == double(where_nan));
      }
}

TEST_CASE("numbers: cumsum is nan from the first nan on, and inf - inf is nan") {
  for (Dtype dtype : both) {
    const auto y = list(cumsum(numbers({1, 2, not_a_number, 4}, dtype), 0));
    CHECK(y[0] == 1.0);
    CHECK(y[1] == 3.0);
    CHECK(std::isnan(y[2]));
    CHECK(std::isnan(y[3]));
    const auto z = list(cumsum(numbers({-inf, 1, inf, 1}, dtype), 0));
    CHECK(z[1] == -inf);
    CHECK(std::isnan(z[2]));
    CHECK(std::isnan(z[3]));
  }
}

TEST_CASE("numbers: elementwise functions pass nan on") {
  for (Dtype dtype : both) {
    const Tensor x = full({20}, not_a_number, dtype), one = ones({20}, dtype);
    for (auto f : {abs, exp, log, sqrt, tanh, sigmoid, relu, silu, softplus, erf, sin, cos}) CHECK(all_nan(f(x)));
    for (const Tensor& y : {gelu(x), gelu(x, Gelu::tanh), clamp(x, -1.0, 1.0), maximum(x, one), maximum(one, x),
                            minimum(x, one), minimum(one, x), pow(x, 2.0), pow(x, 2.5), -x, x + 1.0, x * one})
      CHECK(all_nan(y));
  }
}

TEST_CASE("numbers: what a mask or a condition hides does not count, in value or in gradient") {
  const Tensor hide = tensor({true, false}, {2});
  for (double bad : {not_a_number, inf, -inf}) {
    const Tensor x = numbers({bad, 2.0}, Dtype::float64), zero = zeros({2}, Dtype::float64);
    CHECK(list(masked_fill(x, hide, 0.0)) == std::vector<double>{0, 2});
    CHECK(list(gradient(masked_fill(x, hide, 0.0) * x.detach(), x)) != list(zero));
    CHECK(list(gradient(masked_fill(x, hide, 0.0), x)) == std::vector<double>{0, 1});
    CHECK(list(where(hide, zero, x)) == std::vector<double>{0, 2});
    CHECK(list(gradient(where(hide, zero, x), x)) == std::vector<double>{0, 1});
    CHECK(list(tril(reshape(numbers({1, bad, 3, 4}, Dtype::float64), {2, 2}))) == std::vector<double>{1, 0, 3, 4});
    // The gradient stops at the mask even when what comes back is bad.
    const Tensor y = masked_fill(numbers({1.0, 2.0}, Dtype::float64), hide, 5.0);
    const Tensor z = numbers({1.0, 2.0}, Dtype::float64);
    CHECK(grad(masked_fill(z, hide, 5.0), {z}, {.cotangent = x})[0].at({0}) == 0.0);
    CHECK(all_finite(y));
  }
}

// ---- -inf ----------------------------------------------------------------------------------------------------------

TEST_CASE("numbers: a slice of -inf has softmax 0, log_softmax -inf, logsumexp -inf; all gradients 0") {
  for (Dtype dtype : both)
    for (std::int64_t length : {1, 3, 40})
      for (bool create_graph : {false, true}) {
        const Tensor x = concat({full({1, length}, -inf, dtype), zeros({1, length}, dtype)}, 0);
        const auto top = [](const Tensor& y) { return list(slice(y, 0, 0, 1)); };
        const auto top_gradient = [&](const Tensor& y) {
          const Tensor g = reshape(arange(1.0, 2.0 + double(y.size()), 1.0, dtype), {-1});
          return top(grad(y, {x}, {.cotangent = reshape(slice(g, 0, 0, y.size()), y.shape()),
                                   .create_graph = create_graph})[0]);
        };
        const std::vector<double> none(std::size_t(length), 0.0);
        CHECK(top(softmax(x)) == none);
        CHECK(top(log_softmax(x)) == std::vector<double>(std::size_t(length), -inf));
        CHECK(top(logsumexp(x, -1)) == std::vector<double>{-inf});
        CHECK(top_gradient(softmax(x)) == none);
        CHECK(top_gradient(log_softmax(x)) == none);
        CHECK(top_gradient(logsumexp(x, -1)) == none);
      }
}

TEST_CASE("numbers: -inf beside finite scores weighs 0 and has gradient 0; +inf gives nan") {
  for (Dtype dtype : both) {
    const Tensor x = numbers({-inf, 1.0, 1.0}, dtype), w = numbers({5.0, 1.0, 3.0}, dtype);
    CHECK(list(softmax(x)) == std::vector<double>{0, 0.5, 0.5});
    CHECK(list(gradient(softmax(x) * w, x)) == std::vector<double>{0, -0.5, 0.5});
    CHECK(logsumexp(x).item() == doctest::Approx(1.0 + std::log(2.0)));
    CHECK(gradient(logsumexp(x), x).at({0}) == 0.0);
    CHECK(gradient(logsumexp(x), x).at({1}) == doctest::Approx(0.5));
    CHECK(all_nan(softmax(numbers({inf, 1.0}, dtype))));
    CHECK(max(numbers({-inf, -inf}, dtype)).item() == -inf);
    CHECK(list(gradient(max(numbers({-inf, 1.0}, dtype)), x)) == std::vector<double>{0, 0, 0});
  }
}

TEST_CASE("numbers: second derivatives of softmax beside -inf are finite too") {
  const Tensor x = numbers({-inf, 1.0, 0.5}, Dtype::float64), v = numbers({1.0, 2.0, -1.0}, Dtype::float64);
  const Function f = [](const auto& in) { return sum(softmax(in[0]) * softmax(in[0])); };
  CHECK(all_finite(hvp(f, {x}, {v})[0]));
  CHECK(hvp(f, {x}, {v})[0].at({0}) == 0.0);
}

TEST_CASE("numbers: cross_entropy ignores what it is told to, and all ignored with mean is nan") {
  const Tensor logits = numbers({1, 2, 3, 4}, Dtype::float64), rows = reshape(logits, {2, 2});
  const Tensor ignored = tensor({-100, -100}, {2});
  CHECK(std::isnan(cross_entropy(rows, ignored).item()));
  CHECK(cross_entropy(rows, ignored, {.reduction = Reduction::sum}).item() == 0.0);
  const Tensor bad = reshape(numbers({not_a_number, 2, 3, 4}, Dtype::float64), {2, 2});
  const Tensor loss = cross_entropy(bad, tensor({-100, 1}, {2}));   // the nan row is ignored
  CHECK(std::isfinite(loss.item()));
  for (bool create_graph : {false, true})
    CHECK(list(slice(grad(loss, {bad}, {.create_graph = create_graph})[0], 0, 0, 1)) == std::vector<double>{0, 0});
}

TEST_CASE("numbers: a slice whose gradient underflows is 0, not nan") {
  const Tensor x = numbers({0.0, -200.0}, Dtype::float32);
  CHECK(list(softmax(x)) == std::vector<double>{1, 0});
  CHECK(list(gradient(softmax(x) * numbers({1, 5}, Dtype::float32), x)) == std::vector<double>{0, 0});
}

TEST_CASE("numbers: the gradient of logsumexp sums to 1 however large its arguments") {
  for (const double x : {0.0, 1e3, 1e6, 1e8})
    for (const Dtype dtype : {Dtype::float32, Dtype::float64}) {
      const Tensor row = full({3}, x, dtype);
      CHECK(sum(grad(logsumexp(row), {row})[0]).item() == doctest::Approx(1.0).epsilon(1e-6));
      const auto [recorded] = grad(logsumexp(row), {row}, {.create_graph = true});
      CHECK(sum(recorded).item() == doctest::Approx(1.0).epsilon(1e-6));
    }
}

TEST_CASE("numbers: rows whose squares overflow are normalised as others are") {
  const Tensor ramp = tensor({1.0, -2.0, 4.0, 0.5}, {1, 4});
  for (const auto& [dtype, unit] : {std::pair{Dtype::float32, 1e25}, {Dtype::float64, 1e200}}) {
    const Tensor x = (ramp * unit).to(dtype), gamma = ones({4}, dtype), beta = zeros({4}, dtype);
    const auto near = [&](const Tensor& a, const Tensor& b) {
      return max(abs(a.to(Dtype::float64) - b.to(Dtype::float64))).item() < 1e-5;
    };
    CHECK(near(rms_norm(x, gamma, 1e-12), rms_norm(ramp, ones({4}, Dtype::float64), 1e-12)));
    CHECK(near(layer_norm(x, gamma, beta, 1e-12), layer_norm(ramp, ones({4}, Dtype::float64), zeros({4}, Dtype::float64), 1e-12)));
    const Tensor g = tensor({0.3, 0.1, -0.7, 1.1}, {1, 4}).to(dtype);
    const auto [d] = grad(rms_norm(x, gamma, 1e-12), {x}, {.cotangent = g});
    CHECK(all_finite(d));
  }
}

TEST_CASE("numbers: sums at one place do not stop at 2^24") {
  const std::int64_t n = (1 << 24) + 1000;
  const Tensor places = zeros({n}, Dtype::int64), numbers = ones({n});
  CHECK(scatter_add({1}, 0, places, numbers).item() == double(n));
  const Tensor weight = ones({1, 1});
  CHECK(grad(sum(embedding(weight, places)), {weight})[0].item() == double(n));
  const Tensor x = ones({1});
  CHECK(grad(sum(gather(x, 0, places)), {x})[0].item() == double(n));
}

TEST_CASE("numbers: gelu keeps its digits far out to the left") {
  const Tensor x = tensor({-8.0, -5.0}, {2});
  // x erfc(-x / sqrt 2) / 2 by 50 digits
  const std::vector<double> expected = {-8 * 6.220960574271784e-16, -5 * 2.866515718791939e-07};
  const std::vector<double> found = list(gelu(x));
  for (std::size_t i = 0; i < 2; ++i) CHECK(found[i] == doctest::Approx(expected[i]).epsilon(1e-12));
}

}  // TEST_SUITE
