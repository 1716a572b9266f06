// Row kernels of every instruction set against plain loops; fused ops against their references; the same bits however
// many threads; dead rows, nan and infinities; large offsets. Optimizer kernels too.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "framework/framework.hpp"
#include "framework/kernels/elementwise.hpp"
#include "framework/kernels/optim.hpp"
#include "framework/kernels/rows.hpp"
#include "framework/machine.hpp"

using namespace surgeon;
using kernels::Isa;
using kernels::Rows;

namespace {

using Numbers = std::vector<double>;
constexpr double inf = std::numeric_limits<double>::infinity();
const double nan_value = std::numeric_limits<double>::quiet_NaN();

// ---- What each instruction set of this machine offers

template <class Table>
std::vector<const Table*> present(const Table& baseline, const Table& v3, const Table& v4) {
  std::vector<const Table*> all = {&baseline};
  if (kernels::isa() >= Isa::v3) all.push_back(&v3);
  if (kernels::isa() >= Isa::v4) all.push_back(&v4);
  return all;
}
template <class T> std::vector<const Rows<T>*> all_rows();
template <> std::vector<const Rows<float>*> all_rows<float>() {
  return present(kernels::baseline::rows_float, kernels::v3::rows_float, kernels::v4::rows_float);
}
template <> std::vector<const Rows<double>*> all_rows<double>() {
  return present(kernels::baseline::rows_double, kernels::v3::rows_double, kernels::v4::rows_double);
}

// ---- Plain loops over one row, in long double: what the kernels must equal

using Row = std::vector<long double>;

Row plain_softmax(const Row& x) {
  const long double top = *std::max_element(x.begin(), x.end());
  Row y(x.size());
  long double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += y[i] = expl(x[i] - top);
  for (long double& v : y) v /= sum;
  return y;
}

long double plain_logsumexp(const Row& x) {
  const long double top = *std::max_element(x.begin(), x.end());
  long double sum = 0;
  for (const long double v : x) sum += expl(v - top);
  return top + logl(sum);
}

long double mean_of(const Row& x) {
  long double sum = 0;
  for (const long double v : x) sum += v;
  return sum / static_cast<long double>(x.size());
}

// (x - centre) / deviation, and the gradient through it of p.
struct Normalised {
  Normalised(const Row& x, bool centred, long double eps) : h(x) {
    const long double centre = centred ? mean_of(x) : 0;
    Row squares(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) squares[i] = (x[i] - centre) * (x[i] - centre);
    deviation = sqrtl(mean_of(squares) + eps);
    for (long double& v : h) v = (v - centre) / deviation;
  }
  Row back(const Row& p, bool centred) const {
    Row along(p.size()), dx(p.size());
    for (std::size_t i = 0; i < p.size(); ++i) along[i] = p[i] * h[i];
    const long double level = centred ? mean_of(p) : 0, slope = mean_of(along);
    for (std::size_t i = 0; i < p.size(); ++i) dx[i] = (p[i] - level - h[i] * slope) / deviation;
    return dx;
  }
  Row h;
  long double deviation;
};

long double cdf(long double x) { return erfcl(-x * sqrtl(0.5L)) / 2; }
long double density(long double x) { return expl(-x * x / 2) * 0.398942280401432677939946L; }
long double logistic(long double x) { return 1 / (1 + expl(-x)); }
long double gate(long double x) { return 1.59576912160573071175978L * (x + 0.044715L * x * x * x); }

// ---- Comparing

template <class T> constexpr double tolerance = sizeof(T) == 4 ? 3e-6 : 1e-14;

// The worst difference, relative to 1 or the expected number.
template <class T>
double worst(const std::vector<T>& found, const Row& expected) {
  REQUIRE(found.size() == expected.size());
  double worst = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const long double difference = fabsl(static_cast<long double>(found[i]) - expected[i]);
    worst = std::max(worst, double(difference / std::max(1.0L, fabsl(expected[i]))));
    if (std::isnan(found[i])) return inf;
  }
  return worst;
}

template <class T>
std::vector<T> draw(std::int64_t n, Rng& rng, double scale = 1.0) {
  std::vector<T> x(static_cast<std::size_t>(n));
  for (T& v : x) v = T(scale * rng.normal());
  return x;
}
template <class T> Row row_of(const std::vector<T>& x) { return {x.begin(), x.end()}; }

// Below, at and above the lanes of every instruction set and four times those; and rows of one.
const std::vector<std::int64_t> lengths = {1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 31, 33, 63, 64, 65, 127, 130, 1000};

// Every table, every length: body(kernel, x, g), each of that length.
template <class T, class Body>
void each_kernel(const Body& body) {
  Rng rng(12);
  for (const Rows<T>* kernel : all_rows<T>())
    for (const std::int64_t n : lengths) {
      CAPTURE(n);
      body(*kernel, draw<T>(n, rng, 3.0), draw<T>(n, rng));
    }
}

Numbers numbers(const Tensor& x) {
  const Tensor wide = x.detach().to(Dtype::float64);
  return {wide.values<double>().begin(), wide.values<double>().end()};
}
bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(numbers(a).data(), numbers(b).data(), 8 * std::size_t(a.size())) == 0;
}

const std::array both = {Dtype::float32, Dtype::float64};

// ---- The fused ops, each with inputs to try it on

struct Case {
  std::string name;
  std::vector<Shape> shapes;
  std::function<Tensor(const std::vector<Tensor>&)> op;
};

Tensor targets(std::int64_t n, std::int64_t classes) {   // every third ignored
  std::vector<std::int64_t> index;
  for (std::int64_t i = 0; i < n; ++i) index.push_back(i % 3 == 2 ? -100 : (i * 7 + 1) % classes);
  return tensor(index, {n});
}

std::vector<Case> fused_cases(std::int64_t rows, std::int64_t n) {
  const Shape x = {rows, n}, weight = {n};
  std::vector<Case> cases = {
      {"softmax", {x}, [](auto& in) { return softmax(in[0]); }},
      {"softmax over axis 0", {x}, [](auto& in) { return softmax(in[0], 0); }},
      {"log_softmax", {x}, [](auto& in) { return log_softmax(in[0]); }},
      {"logsumexp", {x}, [](auto& in) { return logsumexp(in[0], -1); }},
      {"logsumexp over axis 0", {x}, [](auto& in) { return logsumexp(in[0], {.axes = {0}, .keepdims = true}); }},
      {"layer_norm", {x, weight, weight}, [](auto& in) { return layer_norm(in[0], in[1], in[2]); }},
      {"rms_norm", {x, weight}, [](auto& in) { return rms_norm(in[0], in[1]); }},
      {"gelu", {x}, [](auto& in) { return gelu(in[0]); }},
      {"gelu by tanh", {x}, [](auto& in) { return gelu(in[0], Gelu::tanh); }},
      {"silu", {x}, [](auto& in) { return silu(in[0]); }}};
  for (const Reduction reduction : {Reduction::mean, Reduction::sum, Reduction::none})
    for (const double smoothing : {0.0, 0.2})
      cases.push_back({"cross_entropy", {x}, [=](auto& in) {
        const CrossEntropyOptions options{.reduction = reduction, .label_smoothing = smoothing};
        return cross_entropy(in[0], targets(rows, n), options);
      }});
  return cases;
}

std::vector<Tensor> inputs_of(const Case& c, Dtype dtype) {
  Rng rng(21);
  std::vector<Tensor> inputs;
  for (const Shape& shape : c.shapes) inputs.push_back(randn(shape, rng, dtype));
  return inputs;
}

std::vector<Tensor> gradients_of(const Case& c, const std::vector<Tensor>& inputs, bool create_graph) {
  const Tensor y = c.op(inputs);
  Rng rng(22);
  return grad(y, inputs, {.cotangent = randn(y.shape(), rng, y.dtype()), .create_graph = create_graph});
}

double largest_difference(const Tensor& a, const Tensor& b) {
  const Numbers x = numbers(a), y = numbers(b);
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i)
    worst = std::max(worst, std::isnan(x[i] - y[i]) ? inf : std::abs(x[i] - y[i]) / std::max(1.0, std::abs(y[i])));
  return worst;
}

// x with every derivative up to the third of a random combination of op(x): all must be numbers.
bool finite_to_third_order(const std::function<Tensor(const Tensor&)>& op, const Tensor& x) {
  Rng rng(31);
  Tensor y = op(x);
  y = where(isnan(y), y, where(abs(y) == inf, zeros_like(y), y));   // -inf is the value of a dead row's log
  for (int order = 1; order <= 3; ++order) {
    const Tensor loss = sum(y * randn(y.shape(), rng, y.dtype()));
    y = grad(loss, {x}, {.create_graph = order < 3})[0];
    for (const double v : numbers(y))
      if (!std::isfinite(v)) return false;
  }
  return true;
}

}  // namespace

TEST_SUITE("kernel_rows") {

TEST_CASE_TEMPLATE("softmax and its relatives equal plain loops", T, float, double) {
  each_kernel<T>([](const Rows<T>& kernel, const std::vector<T>& x, const std::vector<T>& g) {
    const std::int64_t n = std::int64_t(x.size());
    const Row weights = plain_softmax(row_of(x));
    const long double total = plain_logsumexp(row_of(x));
    long double dot = 0, sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) dot += weights[i] * g[i], sum += g[i];
    Row logs(x.size()), softmax_dx(x.size()), log_dx(x.size()), total_dx(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      logs[i] = x[i] - total;
      softmax_dx[i] = weights[i] * (g[i] - dot);
      log_dx[i] = g[i] - weights[i] * sum;
      total_dx[i] = weights[i] * g[0];
    }
    std::vector<T> y(x.size()), z(x.size()), dx(x.size()), one(1);
    kernel.softmax(x.data(), 1, n, y.data());
    CHECK(worst(y, weights) < tolerance<T>);
    kernel.softmax_back(y.data(), g.data(), 1, n, dx.data());
    CHECK(worst(dx, softmax_dx) < tolerance<T>);
    kernel.log_softmax(x.data(), 1, n, z.data());
    CHECK(worst(z, logs) < tolerance<T>);
    kernel.log_softmax_back(z.data(), g.data(), 1, n, dx.data());
    CHECK(worst(dx, log_dx) < 10 * tolerance<T>);   // sums of n numbers of size 1
    kernel.logsumexp(x.data(), 1, n, one.data());
    CHECK(worst(one, {total}) < tolerance<T>);
    kernel.logsumexp_back(x.data(), one.data(), g.data(), 1, n, dx.data());
    CHECK(worst(dx, total_dx) < tolerance<T>);
  });
}

TEST_CASE_TEMPLATE("norms equal plain loops, and add their weights' gradients up", T, float, double) {
  each_kernel<T>([](const Rows<T>& kernel, const std::vector<T>& x, const std::vector<T>& g) {
    Rng rng(5);
    const std::int64_t n = std::int64_t(x.size());
    const std::vector<T> gamma = draw<T>(n, rng), beta = draw<T>(n, rng);
    for (const bool centred : {true, false}) {
      const double eps = 0.01;
      const Normalised plain(row_of(x), centred, eps);
      Row value(x.size()), p(x.size()), dgamma(x.size());
      for (std::size_t i = 0; i < x.size(); ++i) {
        value[i] = plain.h[i] * gamma[i] + (centred ? beta[i] : T(0));
        p[i] = static_cast<long double>(g[i]) * gamma[i];
        dgamma[i] = 1 + g[i] * plain.h[i];
      }
      std::vector<T> y(x.size()), dx(x.size()), found_dgamma(x.size(), T(1)), found_dbeta(x.size(), T(0));
      if (centred) {
        kernel.layer_norm(x.data(), gamma.data(), beta.data(), eps, 1, n, y.data());
        kernel.layer_norm_back(x.data(), gamma.data(), g.data(), eps, 1, n, dx.data(), found_dgamma.data(),
                               found_dbeta.data());
        CHECK(worst(found_dbeta, row_of(g)) == 0);
      } else {
        kernel.rms_norm(x.data(), gamma.data(), eps, 1, n, y.data());
        kernel.rms_norm_back(x.data(), gamma.data(), g.data(), eps, 1, n, dx.data(), found_dgamma.data());
      }
      CHECK(worst(y, value) < tolerance<T>);
      CHECK(worst(dx, plain.back(p, centred)) < 10 * tolerance<T>);   // a row of two may divide by eps alone
      CHECK(worst(found_dgamma, dgamma) < tolerance<T>);
    }
  });
}

TEST_CASE_TEMPLATE("activations equal plain loops", T, float, double) {
  each_kernel<T>([](const Rows<T>& kernel, const std::vector<T>& x, const std::vector<T>& g) {
    const auto check = [&](auto forward, auto back, const auto& value, const auto& slope) {
      std::vector<T> y(x.size()), dx(x.size());
      Row values(x.size()), slopes(x.size());
      for (std::size_t i = 0; i < x.size(); ++i) values[i] = value(x[i]), slopes[i] = g[i] * slope(x[i]);
      forward(x.data(), y.data(), std::int64_t(x.size()));
      back(x.data(), g.data(), dx.data(), std::int64_t(x.size()));
      CHECK(worst(y, values) < 3 * tolerance<T>);   // xsimd's erf in double is good to about 14 digits
      CHECK(worst(dx, slopes) < 3 * tolerance<T>);
    };
    using L = long double;
    check(kernel.gelu, kernel.gelu_back, [](L v) { return v * cdf(v); }, [](L v) { return cdf(v) + v * density(v); });
    check(kernel.silu, kernel.silu_back, [](L v) { return v * logistic(v); },
          [](L v) { return logistic(v) * (1 + v * (1 - logistic(v))); });
    check(kernel.gelu_tanh, kernel.gelu_tanh_back, [](L v) { return v * logistic(gate(v)); }, [](L v) {
      const L s = logistic(gate(v));
      return s + v * s * (1 - s) * 1.59576912160573071175978L * (1 + 3 * 0.044715L * v * v);
    });
  });
}

TEST_CASE_TEMPLATE("cross-entropy of a row equals plain loops, smoothed or not", T, float, double) {
  each_kernel<T>([](const Rows<T>& kernel, const std::vector<T>& x, const std::vector<T>&) {
    const std::int64_t n = std::int64_t(x.size()), target = n / 2;
    const Row weights = plain_softmax(row_of(x));
    for (const double smoothing : {0.0, 0.1, 1.0}) {
      Row dx(weights);
      for (long double& v : dx) v -= smoothing / static_cast<long double>(n);
      dx[std::size_t(target)] -= 1 - static_cast<long double>(smoothing);
      const long double total = plain_logsumexp(row_of(x));
      const long double likely = x[std::size_t(target)], mean = mean_of(row_of(x));
      const long double loss = (1 - smoothing) * (total - likely) + smoothing * (total - mean);
      std::vector<T> found(x.size());
      kernel.cross_entropy_back(x.data(), n, target, smoothing, 1.0, found.data());
      CHECK(worst(found, dx) < tolerance<T>);
      CHECK(worst(std::vector<double>{kernel.cross_entropy(x.data(), n, target, smoothing)}, {loss}) < tolerance<T>);
    }
  });
}

TEST_CASE_TEMPLATE("sums, largest and smallest equal plain loops; nan comes through from any place", T, float, double) {
  each_kernel<T>([](const Rows<T>& kernel, std::vector<T> x, const std::vector<T>&) {
    const std::int64_t n = std::int64_t(x.size());
    T found;
    kernel.sum(x.data(), 1, n, &found);
    CHECK(std::abs(double(found) - double(mean_of(row_of(x)) * n)) < tolerance<T> * 3 * double(n));
    kernel.max(x.data(), 1, n, &found);
    CHECK(found == *std::max_element(x.begin(), x.end()));
    kernel.min(x.data(), 1, n, &found);
    CHECK(found == *std::min_element(x.begin(), x.end()));
    for (std::size_t at = 0; at < x.size(); at += 1 + x.size() / 40) {
      const T before = std::exchange(x[at], T(nan_value));
      kernel.max(x.data(), 1, n, &found);
      CHECK(std::isnan(found));
      kernel.min(x.data(), 1, n, &found);
      CHECK(std::isnan(found));
      x[at] = before;
    }
  });
}

TEST_CASE("exp is within 1.2 ulp where a denormal is due too, 0 below, inf above, nan of nan") {
  const auto each = present(kernels::baseline::elementwise_float, kernels::v3::elementwise_float,
                            kernels::v4::elementwise_float);
  std::vector<float> x;
  for (int i = 0; i <= 400000; ++i) x.push_back(-106.f + 0.000485f * float(i));   // to 88
  std::vector<float> edges = {-106.f, float(-inf), -1e30f, 90.f, float(inf), 1e30f, 0.f, float(nan_value)};
  for (const auto* kernel : each) {
    std::vector<float> y(x.size()), z(edges.size());
    kernel->unary[std::size_t(kernels::Unary::exp)](x.data(), y.data(), std::int64_t(x.size()));
    kernel->unary[std::size_t(kernels::Unary::exp)](edges.data(), z.data(), std::int64_t(z.size()));
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double expected = std::exp(double(x[i]));
      const double ulp = std::ldexp(1.0, std::max(std::ilogb(expected), -126) - 23);
      worst = std::max(worst, std::abs(double(y[i]) - expected) / ulp);
    }
    CHECK(worst < 1.2);
    CHECK(std::vector<float>(z.begin(), z.end() - 1) ==
          std::vector<float>{0, 0, 0, float(inf), float(inf), float(inf), 1});
    CHECK(std::isnan(z.back()));
  }
}

TEST_CASE("a fused op's value and gradient are its reference's, in both dtypes") {
  for (const auto& shape : std::vector<std::array<std::int64_t, 2>>{{4, 10}, {1, 1}, {70, 65}, {3, 130}, {130, 3}})
    for (const Case& c : fused_cases(shape[0], shape[1]))
      for (const Dtype dtype : both) {
        CAPTURE(c.name);
        CAPTURE(shape[1]);
        const std::vector<Tensor> inputs = inputs_of(c, dtype);
        const auto fast = gradients_of(c, inputs, false), slow = gradients_of(c, inputs, true);
        for (std::size_t i = 0; i < fast.size(); ++i)
          CHECK(largest_difference(fast[i], slow[i]) < (dtype == Dtype::float32 ? 5e-5 : 1e-12));
      }
}

TEST_CASE("any number of threads gives the same bits, values and gradients") {
  for (const Case& c : fused_cases(3000, 67))
    for (const Dtype dtype : both) {
      CAPTURE(c.name);
      const std::vector<Tensor> inputs = inputs_of(c, dtype);
      const auto results = [&](int threads) {
        const ThreadsGuard guard(threads);
        std::vector<Tensor> all = gradients_of(c, inputs, false);
        all.push_back(c.op(inputs));
        return all;
      };
      const auto one = results(1);
      for (const int threads : {2, 3}) {
        const auto several = results(threads);
        for (std::size_t i = 0; i < one.size(); ++i) CHECK(same_bits(one[i], several[i]));
      }
    }
}

TEST_CASE("reductions and transposes: any number of threads gives the same bits") {
  Rng rng(2);
  const Tensor x = randn({500, 1003}, rng), flat = randn({500000}, rng);
  const auto results = [&](int threads) {
    const ThreadsGuard guard(threads);
    return std::vector<Tensor>{sum(x, 0), sum(x, 1), sum(flat), max(flat), min(x, 1), transpose(x, 0, 1)};
  };
  const auto one = results(1);
  for (const int threads : {2, 3}) {
    const auto several = results(threads);
    for (std::size_t i = 0; i < one.size(); ++i) CHECK(same_bits(one[i], several[i]));
  }
}

TEST_CASE("ten million ones add up exactly, along either axis and in pieces") {
  const std::int64_t n = 10000000;
  const std::vector<float> ones(std::size_t(n), 1.f);
  float total = 0;
  kernels::sum_rows(ones.data(), 1, n, &total);
  CHECK(total == float(n));
  std::vector<float> columns(5), rows(10);
  kernels::sum_columns(ones.data(), 1, n / 5, 5, columns.data());
  CHECK(columns == std::vector<float>(5, float(n / 5)));
  kernels::sum_rows(ones.data(), 10, n / 10, rows.data());
  CHECK(rows == std::vector<float>(10, float(n / 10)));
}

TEST_CASE("sums of columns: of nothing 0, of batches each its own") {
  std::vector<double> x(2 * 3 * 4), y(8, -1.0);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = double(i);
  kernels::sum_columns(x.data(), 2, 3, 4, y.data());
  CHECK(y == Numbers{12, 15, 18, 21, 48, 51, 54, 57});
  kernels::sum_columns(x.data(), 2, 0, 4, y.data());
  CHECK(y == Numbers(8, 0.0));
  double none = -1;
  kernels::sum_rows(x.data(), 1, 0, &none);
  CHECK(none == 0.0);
}

TEST_CASE_TEMPLATE("transposes put every element in its place, of any size", T, unsigned char, float, double) {
  for (const auto& [batch, rows, cols] : std::vector<std::array<std::int64_t, 3>>{
           {1, 1, 1}, {2, 3, 5}, {1, 16, 16}, {3, 17, 33}, {1, 100, 7}, {2, 64, 130}, {0, 4, 4}, {1, 0, 3}}) {
    std::vector<T> x(std::size_t(batch * rows * cols)), y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = T(i % 251);
    kernels::transpose(x.data(), batch, rows, cols, sizeof(T), y.data());
    bool placed = true;
    for (std::int64_t b = 0; b < batch; ++b)
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < cols; ++c)
          placed &= y[std::size_t((b * cols + c) * rows + r)] == x[std::size_t((b * rows + r) * cols + c)];
    CHECK(placed);
  }
}

TEST_CASE("a row of -inf: zeros, and gradients exactly 0, whatever comes from above") {
  for (const Dtype dtype : both)
    for (const std::int64_t n : {1, 3, 10, 70}) {
      Rng rng(3);
      const Tensor finite = randn({1, n}, rng, dtype), dead = full({1, n}, -inf, dtype);
      const Tensor x = concat({finite, dead, finite}, 0), g = full({3, n}, nan_value, dtype);
      const auto middle = [](const Tensor& t) { return numbers(slice(t, 0, 1, 2)); };
      CHECK(middle(softmax(x)) == Numbers(std::size_t(n), 0.0));
      CHECK(middle(log_softmax(x)) == Numbers(std::size_t(n), -inf));
      CHECK(logsumexp(x, -1).at({1}) == -inf);
      CHECK(middle(grad(softmax(x), {x}, {.cotangent = g})[0]) == Numbers(std::size_t(n), 0.0));
      CHECK(middle(grad(log_softmax(x), {x}, {.cotangent = g})[0]) == Numbers(std::size_t(n), 0.0));
      CHECK(middle(grad(logsumexp(x, -1), {x}, {.cotangent = full({3}, nan_value, dtype)})[0]) ==
            Numbers(std::size_t(n), 0.0));
      CHECK(finite_to_third_order([](const Tensor& t) { return softmax(t); }, x));
      CHECK(finite_to_third_order([](const Tensor& t) { return log_softmax(t); }, x));
      CHECK(finite_to_third_order([](const Tensor& t) { return logsumexp(t, -1); }, x));
    }
}

TEST_CASE("some -inf in a row: weight 0, and finite derivatives to third order") {
  const Tensor x = tensor({0.5, -inf, 1.5, -inf, -inf, 2.0}, {2, 3});
  CHECK(numbers(softmax(x))[1] == 0.0);
  CHECK(finite_to_third_order([](const Tensor& t) { return softmax(t); }, x));
  CHECK(finite_to_third_order([](const Tensor& t) { return softmax(t, 0); }, x));
  CHECK(finite_to_third_order([](const Tensor& t) { return logsumexp(t, -1); }, x));
}

TEST_CASE("+inf or nan anywhere in a row makes all of it nan, and no other row") {
  for (const Dtype dtype : both)
    for (const std::int64_t n : {2, 10, 70})
      for (const double bad : {inf, nan_value})
        for (const double other : {0.0, -inf})
          for (const std::int64_t at : {std::int64_t{0}, n / 2, n - 1}) {
            std::vector<double> values(std::size_t(2 * n), other);
            for (std::int64_t i = n; i < 2 * n; ++i) values[std::size_t(i)] = double(i);
            values[std::size_t(at)] = bad;
            const Tensor x = tensor(values, {2, n}).to(dtype);
            for (const Tensor& y : {softmax(x), log_softmax(x)}) {
              const Numbers found = numbers(y);
              const auto second = found.begin() + n;
              CHECK(std::all_of(found.begin(), second, [](double v) { return std::isnan(v); }));
              CHECK(std::all_of(second, found.end(), [](double v) { return std::isfinite(v); }));
            }
            CHECK((bad == inf ? logsumexp(x, -1).at({0}) == inf : std::isnan(logsumexp(x, -1).at({0}))));
          }
}

TEST_CASE("a weight that is denormal is not a dead one") {
  const Tensor y = softmax(tensor({0.f, -100.f}, {2}));
  CHECK(y.at({1}) == doctest::Approx(std::exp(-100.0)).epsilon(0.05));
  CHECK(softmax(tensor({0.0, -740.0}, {2})).at({1}) > 0.0);
}

TEST_CASE("scores of 1e4 and 1e30 stay finite where the answer is") {
  for (const double big : {1e4, 1e30})
    for (const Dtype dtype : both) {
      const Tensor x = tensor({big, 0.0, -big}, {1, 3}).to(dtype);
      CHECK(numbers(softmax(x)) == Numbers{1, 0, 0});
      CHECK(logsumexp(x, -1).item() == doctest::Approx(big));
      CHECK(cross_entropy(x, tensor({0}, {1})).item() == 0.0);
      CHECK(cross_entropy(x, tensor({1}, {1})).item() == doctest::Approx(big));
    }
}

TEST_CASE("layer_norm of a row around 1e6 is that of the row around 0") {
  Rng rng(7);
  for (const std::int64_t n : {3, 10, 128, 1000}) {
    std::vector<double> offset, centred;
    for (std::int64_t i = 0; i < n; ++i) {
      centred.push_back(std::round(8 * rng.normal()) / 8);   // exact in float32 at either place
      offset.push_back(centred.back() + 1e6);
    }
    Rng weights(8);
    const Tensor gamma = randn({n}, weights, Dtype::float64), beta = randn({n}, weights, Dtype::float64);
    const Tensor g = randn({1, n}, weights, Dtype::float64);
    for (const Dtype dtype : both) {
      const auto run = [&](const std::vector<double>& values) {
        const std::vector<Tensor> in = {tensor(values, {1, n}).to(dtype), gamma.to(dtype), beta.to(dtype)};
        const Tensor y = layer_norm(in[0], in[1], in[2]);
        std::vector<Tensor> all = grad(y, in, {.cotangent = g.to(dtype)});
        all.push_back(y);
        return all;
      };
      const auto there = run(offset), here = run(centred);
      for (std::size_t i = 0; i < there.size(); ++i)
        CHECK(largest_difference(there[i], here[i]) < (dtype == Dtype::float32 ? 2e-5 : 1e-12));
    }
  }
}

TEST_CASE("gelu keeps its digits in the lower tail, and its gradient far out") {
  for (const double x : {-3.0, -5.0, -9.0, -12.5}) {
    const double expected = x * 0.5 * std::erfc(-x * std::sqrt(0.5));
    CHECK(gelu(tensor({float(x)}, {1})).item() == doctest::Approx(expected).epsilon(1e-4));
  }
  for (const Gelu kind : {Gelu::exact, Gelu::tanh})
    for (const float x : {-1e20f, -200.f, 200.f, 1e20f}) {
      const Tensor at = tensor({x}, {1});
      CHECK(gelu(at, kind).item() == doctest::Approx(x > 0 ? x : 0.f));
      CHECK(grad(gelu(at, kind), {at})[0].item() == (x > 0 ? 1.0 : 0.0));
    }
}

TEST_CASE("cross_entropy: what is ignored counts for nothing, smoothed or not") {
  Rng rng(9);
  const Tensor logits = randn({5, 4}, rng, Dtype::float64);
  const Tensor kept = concat({slice(logits, 0, 0, 2), slice(logits, 0, 3)}, 0);
  for (const double smoothing : {0.0, 0.3}) {
    const CrossEntropyOptions options{.label_smoothing = smoothing};
    const CrossEntropyOptions third{.ignore_index = 3, .label_smoothing = smoothing};
    const double expected = cross_entropy(kept, tensor({1, 0, 2, 2}, {4}), options).item();
    CHECK(cross_entropy(logits, tensor({1, 0, -100, 2, 2}, {5}), options).item() == doctest::Approx(expected));
    CHECK(cross_entropy(logits, tensor({1, 0, 3, 2, 2}, {5}), third).item() == doctest::Approx(expected));
    const Tensor none = tensor({-100, -100, -100, -100, -100}, {5});
    const Tensor loss = cross_entropy(logits, none, options);
    CHECK(std::isnan(loss.item()));
    for (const bool create_graph : {false, true})
      CHECK(numbers(grad(loss, {logits}, {.create_graph = create_graph})[0]) == Numbers(20, 0.0));
  }
}

TEST_CASE("what has no meaning is refused in one sentence") {
  const Tensor x = zeros({2, 5}), v = zeros({5});
  const Tensor target = tensor({0, 0}, {2});
  CHECK_THROWS_WITH_AS(cross_entropy(x, tensor({1, 5}, {2})),
                       "cross_entropy: target 5 at position 1 is out of range for 5 classes", std::out_of_range);
  CHECK_THROWS_WITH_AS(cross_entropy(x, tensor({1, -1}, {2})),
                       "cross_entropy: target -1 at position 1 is out of range for 5 classes", std::out_of_range);
  CHECK_THROWS_WITH_AS(cross_entropy(x, x), "cross_entropy: targets must be int64, not float32", std::invalid_argument);
  CHECK_THROWS_WITH_AS(cross_entropy(x, tensor({1}, {1})),
                       "cross_entropy: targets of shape [1] do not fit logits of shape [2, 5]", std::invalid_argument);
  CHECK_THROWS_AS(cross_entropy(x, target, {.label_smoothing = 1.5}), std::invalid_argument);
  CHECK_THROWS_AS(cross_entropy(x, target, {.label_smoothing = nan_value}), std::invalid_argument);
  CHECK_THROWS_WITH_AS(softmax(zeros({3, 0})), "softmax: axis -1 of [3, 0] has size 0", std::invalid_argument);
  CHECK(softmax(zeros({0, 3})).shape() == Shape{0, 3});
  CHECK_THROWS_AS(softmax(x, 2), std::out_of_range);
  CHECK_THROWS_WITH_AS(softmax(target), "softmax: needs float32 or float64, not int64", std::invalid_argument);
  CHECK_THROWS_WITH_AS(layer_norm(x, v, v, 0.0), "layer_norm: eps must be positive, not 0", std::invalid_argument);
  CHECK_THROWS_AS(layer_norm(x, v, v, nan_value), std::invalid_argument);
  CHECK_THROWS_WITH_AS(layer_norm(x, zeros({4}), v),
                       "layer_norm: for x of shape [2, 5], gamma must have shape [5], not [4]", std::invalid_argument);
  CHECK_THROWS_WITH_AS(rms_norm(x, zeros({5}, Dtype::float64)), "rms_norm: gamma is float64, but x is float32",
                       std::invalid_argument);
  CHECK_THROWS_AS(logsumexp(x, {0, 0}), std::invalid_argument);
  CHECK_THROWS_AS(logsumexp(zeros({2, 0}), -1), std::invalid_argument);
}

TEST_CASE_TEMPLATE("optimizer steps: every instruction set agrees, and no cut changes a bit", T, float, double) {
  using kernels::Optim;
  const auto tables = [] {
    if constexpr (sizeof(T) == 4)
      return present(kernels::baseline::optim_float, kernels::v3::optim_float, kernels::v4::optim_float);
    else return present(kernels::baseline::optim_double, kernels::v3::optim_double, kernels::v4::optim_double);
  }();
  Rng rng(10);
  const std::int64_t n = 203;
  const std::vector<T> g = draw<T>(n, rng), start = draw<T>(n, rng), mean = draw<T>(n, rng, 0.1);
  std::vector<T> square = draw<T>(n, rng);
  for (T& v : square) v *= v;
  const kernels::AdamStep adam{0.99, 0.01, 0.9, 0.999, 1e-8, 0.02, 0.3};
  const kernels::SgdStep sgd{.lr = 0.1, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true};
  const auto stepped = [&](const Optim<T>& kernel, std::int64_t cut) {
    std::vector<T> p = start, m = mean, v = square, largest = square, q = start, b = mean;
    for (const auto& [from, to] : {std::array{std::int64_t{0}, cut}, std::array{cut, n}}) {
      kernel.adam(adam, to - from, g.data() + from, m.data() + from, v.data() + from, largest.data() + from,
                  p.data() + from);
      kernel.sgd(sgd, to - from, g.data() + from, b.data() + from, q.data() + from);
    }
    for (const auto& part : {m, v, largest, q, b}) p.insert(p.end(), part.begin(), part.end());
    return p;
  };
  const std::vector<T> expected = stepped(*tables[0], n);
  for (const Optim<T>* kernel : tables) {
    const std::vector<T> whole = stepped(*kernel, n);
    CHECK(worst(whole, row_of(expected)) < tolerance<T>);
    for (const std::int64_t cut : {1, 5, 16, 100}) CHECK(stepped(*kernel, cut) == whole);
  }
}

}  // TEST_SUITE
