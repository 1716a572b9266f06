// Linear algebra: what the decompositions promise, their derivatives to second order, and what has no derivative.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "framework/framework.hpp"
#include "framework/linalg.hpp"
#include "framework/machine.hpp"
#include "tests/values.hpp"

using namespace surgeon;
using linalg::Norm;
using tests::list;

namespace {

const double infinity = std::numeric_limits<double>::infinity(), not_a_number = std::nan("");

// ---- Points --------------------------------------------------------------------------------------------------------

Tensor normal(const Shape& shape, std::uint64_t seed = 1) {
  Rng rng(seed);
  return randn(shape, rng, Dtype::float64);
}
Tensor flipped(const Tensor& a) { return transpose(a, -1, -2); }
Tensor row(const Tensor& x) {   // [..., n] -> [..., 1, n]
  Shape shape = x.shape();
  shape.insert(shape.end() - 1, 1);
  return reshape(x, shape);
}
Tensor diagonal(const std::vector<double>& values) {
  const std::int64_t n = std::ssize(values);
  return eye(n, Dtype::float64) * tensor(values, {n});
}
// Singular values k + 1, ..., 2 with gaps of 1, k = min(m, n).
Tensor spaced(const Shape& shape, std::uint64_t seed) {
  const auto [U, S, Vh] = linalg::svd(normal(shape, seed));
  return matmul(U * arange(double(S.shape(-1)) + 1, 1, -1, Dtype::float64), Vh).detach();
}
Tensor positive_definite(const Shape& shape, std::uint64_t seed) {
  const Tensor x = normal(shape, seed);
  return (matmul(x, x, {.transpose_b = true}) + 2.0 * eye(shape.back(), Dtype::float64)).detach();
}

double difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  return a.size() ? max(abs(a.to(Dtype::float64) - b.to(Dtype::float64))).item() : 0.0;
}
bool is_identity(const Tensor& a, double tolerance) {
  return a.size() == 0 || difference(a, zeros_like(a) + eye(a.shape(-1), a.dtype())) < tolerance;
}

template <class Error = std::invalid_argument>
std::string thrown(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing";
}

// ---- The table of gradients ----------------------------------------------------------------------------------------

struct Row {
  std::string name;
  Function f;
  std::vector<Tensor> inputs;
};
using In = const std::vector<Tensor>&;
#define GIVES(...) [=](In in) -> Tensor { return __VA_ARGS__; }

Tensor flat(const Tensor& x) { return reshape(x, {-1}); }
Tensor all_of(const linalg::SvdResult& r) { return concat({flat(r.U), flat(r.S), flat(r.Vh)}, 0); }

void decompositions(std::vector<Row>& rows) {
  std::uint64_t seed = 10;
  for (const Shape& shape : {Shape{3, 3}, Shape{4, 2}, Shape{2, 4}, Shape{2, 3, 2}, Shape{2, 1, 3, 3}, Shape{1, 1},
                             Shape{1, 3}, Shape{6, 5}}) {
    const Tensor x = spaced(shape, ++seed);
    rows.push_back({"svd", GIVES(all_of(linalg::svd(in[0]))), {x}});
    rows.push_back({"svd, U", GIVES(linalg::svd(in[0]).U), {x}});
    rows.push_back({"svd, S", GIVES(linalg::svd(in[0]).S), {x}});
    rows.push_back({"svd, Vh", GIVES(linalg::svd(in[0]).Vh), {x}});
    rows.push_back({"singular_values", GIVES(linalg::singular_values(in[0])), {x}});
  }
  for (const Shape& shape : {Shape{3, 3}, Shape{2, 2, 2}, Shape{1, 1}, Shape{5, 5}}) {
    const Tensor x = spaced(shape, ++seed);   // not symmetric: the symmetric part counts
    rows.push_back({"eigh, values", GIVES(linalg::eigh(in[0]).values), {x}});
    rows.push_back({"eigh, vectors", GIVES(linalg::eigh(in[0]).vectors), {x}});
    rows.push_back({"eigh, as a function", [](In in) {
                      const auto [w, V] = linalg::eigh(in[0]);
                      return matmul(V * row(tanh(w)), V, {.transpose_b = true});
                    }, {x}});
    rows.push_back({"cholesky", GIVES(linalg::cholesky(in[0])), {positive_definite(shape, seed)}});
  }
}

void systems(std::vector<Row>& rows) {
  std::uint64_t seed = 50;
  for (const Shape& shape : {Shape{3, 3}, Shape{2, 2, 2}, Shape{1, 1}, Shape{2, 1, 4, 4}}) {
    const Tensor x = spaced(shape, ++seed);
    rows.push_back({"inverse", GIVES(linalg::inverse(in[0])), {x}});
    rows.push_back({"slogdet", GIVES(linalg::slogdet(in[0]).logabsdet), {x}});
    rows.push_back({"slogdet, sign", GIVES(linalg::slogdet(in[0]).sign), {x}});
    for (std::int64_t n : {-2, -1, 0, 1, 2, 3, 5})
      rows.push_back({"matrix_power " + std::to_string(n), GIVES(linalg::matrix_power(in[0] / 2.0, n)), {x}});
  }
  using Pair = std::pair<Shape, Shape>;
  for (const auto& [a, b] : {Pair{{3, 3}, {3, 2}}, Pair{{3, 3}, {3}}, Pair{{2, 3, 3}, {3}}, Pair{{2, 3, 3}, {2, 3, 1}},
                             Pair{{3, 3}, {2, 3, 2}}, Pair{{2, 1, 2, 2}, {3, 2, 2}}, Pair{{1, 1}, {1, 4}}})
    rows.push_back({"solve", GIVES(linalg::solve(in[0], in[1])), {spaced(a, ++seed), normal(b, seed)}});
  rows.push_back({"solve of one matrix", GIVES(linalg::solve(in[0], in[0] * in[0])), {spaced({3, 3}, 77)}});
}

void norms(std::vector<Row>& rows) {
  const Tensor vectors = tensor({0.5, -1.2, 2.0, 0.3, 0.9, -0.4}, {2, 3});
  for (Norm kind : {Norm::two, Norm::one, Norm::infinity}) {
    rows.push_back({"norm of vectors", GIVES(linalg::norm(in[0], kind)), {vectors}});
    rows.push_back({"norm of vectors, kept", GIVES(in[0] / linalg::norm(in[0], kind, {.keepdims = true})), {vectors}});
    rows.push_back({"norm of a vector", GIVES(linalg::norm(in[0], kind)), {reshape(vectors, {6})}});
  }
  std::uint64_t seed = 80;
  for (Norm kind : {Norm::frobenius, Norm::spectral, Norm::nuclear})
    for (const Shape& shape : {Shape{3, 3}, Shape{2, 4}, Shape{2, 3, 2}, Shape{1, 1}}) {
      const Tensor x = spaced(shape, ++seed);
      rows.push_back({"norm of matrices", GIVES(linalg::norm(in[0], kind)), {x}});
      rows.push_back({"norm of matrices, kept", GIVES(in[0] / linalg::norm(in[0], kind, {.keepdims = true})), {x}});
    }
}

void empties(std::vector<Row>& rows) {
  for (const Shape& shape : {Shape{0, 0}, Shape{0, 2, 2}, Shape{2, 0, 0}}) {
    const Tensor x = zeros(shape, Dtype::float64);
    rows.push_back({"svd of nothing", GIVES(all_of(linalg::svd(in[0]))), {x}});
    rows.push_back({"eigh of nothing", GIVES(linalg::eigh(in[0]).vectors + linalg::eigh(in[0]).vectors), {x}});
    rows.push_back({"cholesky of nothing", GIVES(linalg::cholesky(in[0])), {x}});
    rows.push_back({"inverse of nothing", GIVES(linalg::inverse(in[0])), {x}});
    rows.push_back({"slogdet of nothing", GIVES(linalg::slogdet(in[0]).logabsdet), {x}});
    rows.push_back({"solve of nothing", GIVES(linalg::solve(in[0], in[1])), {x, x}});
    rows.push_back({"matrix_power of nothing", GIVES(linalg::matrix_power(in[0], 3)), {x}});
    for (Norm kind : {Norm::two, Norm::one, Norm::infinity, Norm::frobenius, Norm::spectral, Norm::nuclear})
      rows.push_back({"norm of nothing", GIVES(linalg::norm(in[0], kind)), {x}});
  }
  rows.push_back({"svd of no rows", GIVES(all_of(linalg::svd(in[0]))), {zeros({0, 3}, Dtype::float64)}});
  rows.push_back({"solve for no columns", GIVES(linalg::solve(in[0], in[1])),
                  {spaced({2, 2}, 5), zeros({2, 0}, Dtype::float64)}});
}

const std::vector<Row>& table() {
  static const std::vector<Row> made = [] {
    std::vector<Row> rows;
    for (const auto group : {decompositions, systems, norms, empties}) group(rows);
    for (Row& row : rows)
      for (std::size_t i = 0; i < row.inputs.size(); ++i)
        row.name += (i ? " x " : " ") + to_string(row.inputs[i].shape());
    return rows;
  }();
  return made;
}

}  // namespace

TEST_SUITE("linalg") {

// ---- Derivatives ---------------------------------------------------------------------------------------------------

TEST_CASE("linalg: every derivative agrees with differences, to second order") {
  CHECK(table().size() > 100);
  for (const Row& row : table()) {
    const GradcheckResult result = gradcheck(row.f, row.inputs, {.order = 2});
    CHECK_MESSAGE(result.passed, row.name, ": ", result.message);
  }
}

TEST_CASE("linalg: every single element of every gradient agrees with its difference") {
  for (const Row& row : table()) {
    const GradcheckResult result = gradcheck(row.f, row.inputs, {.every_element = true});
    CHECK_MESSAGE(result.passed, row.name, ": ", result.message);
  }
}

TEST_CASE("linalg: values and gradients in float32 are those in float64, rounded") {
  for (const Row& row : table()) {
    INFO(row.name);
    std::vector<Tensor> narrow, wide;
    for (const Tensor& x : row.inputs) {
      narrow.push_back(x.to(Dtype::float32));
      wide.push_back(narrow.back().to(Dtype::float64));
    }
    const Tensor y = row.f(narrow), y64 = row.f(wide);
    REQUIRE(y.dtype() == Dtype::float32);
    CHECK(difference(y, y64) <= 1e-5 * (1.0 + (y64.size() ? max(abs(y64)).item() : 0.0)));
    const Tensor g = normal(y.shape(), 3).to(Dtype::float32);
    const auto of_y = grad(y, narrow, {.cotangent = g});
    const auto of_y64 = grad(y64, wide, {.cotangent = g.to(Dtype::float64)});
    for (std::size_t i = 0; i < of_y.size(); ++i)
      CHECK(difference(of_y[i], of_y64[i]) <= 1e-4 * (1.0 + (of_y64[i].size() ? max(abs(of_y64[i])).item() : 0.0)));
  }
}

// ---- What the decompositions promise -------------------------------------------------------------------------------

TEST_CASE("svd: U diag(S) Vh is the matrix, with orthonormal vectors, S descending and the signs fixed") {
  for (Dtype dtype : {Dtype::float32, Dtype::float64})
    for (const Shape& shape : {Shape{5, 5}, Shape{7, 3}, Shape{3, 7}, Shape{2, 3, 4, 6}, Shape{64, 64}, Shape{1, 4}}) {
      INFO(to_string(shape));
      const double tolerance = dtype == Dtype::float32 ? 1e-5 : 1e-13;
      const Tensor a = normal(shape, 4).to(dtype);
      const auto [U, S, Vh] = linalg::svd(a);
      CHECK(difference(matmul(U * row(S), Vh), a) < tolerance * 20);
      CHECK(is_identity(matmul(U, U, {.transpose_a = true}), tolerance));
      CHECK(is_identity(matmul(Vh, Vh, {.transpose_b = true}), tolerance));
      CHECK(sum((slice(S, -1, 0, -1) < slice(S, -1, 1))).item() == 0);
      CHECK(min(max(U, -2) + min(U, -2)).item() >= 0);
      CHECK(difference(linalg::singular_values(a), S) < tolerance * 20);
    }
}

TEST_CASE("eigh: V diag(w) V^T is the symmetric part, w ascending") {
  for (const Shape& shape : {Shape{4, 4}, Shape{2, 3, 5, 5}, Shape{40, 40}}) {
    const Tensor a = normal(shape, 5);
    const auto [w, V] = linalg::eigh(a);
    CHECK(difference(matmul(V * row(w), V, {.transpose_b = true}), 0.5 * (a + flipped(a))) < 1e-12);
    CHECK(is_identity(matmul(V, V, {.transpose_a = true}), 1e-13));
    CHECK(min(slice(w, -1, 1) - slice(w, -1, 0, -1)).item() >= 0);
  }
}

TEST_CASE("cholesky: L L^T is the matrix, and L is exactly lower triangular") {
  const Tensor a = positive_definite({3, 6, 6}, 2), L = linalg::cholesky(a);
  CHECK(difference(matmul(L, L, {.transpose_b = true}), a) < 1e-13);
  CHECK(difference(L, tril(L)) == 0);
}

TEST_CASE("solve and inverse: a x = b for every shape of b, and a inverse(a) = 1") {
  const Tensor a = spaced({3, 5, 5}, 3), b = normal({3, 5, 2}, 4), v = normal({5}, 5);
  CHECK(difference(matmul(a, linalg::solve(a, b)), b) < 1e-13);
  CHECK(linalg::solve(a, v).shape() == Shape{3, 5});
  CHECK(difference(linalg::solve(a, v), reshape(linalg::solve(a, reshape(v, {5, 1})), {3, 5})) == 0);
  CHECK(linalg::solve(reshape(a, {3, 1, 5, 5}), normal({4, 5, 2})).shape() == Shape{3, 4, 5, 2});
  CHECK(is_identity(matmul(a, linalg::inverse(a)), 1e-13));
}

TEST_CASE("slogdet: sign and logarithm of determinants that are known, without overflow") {
  const Tensor exchange = tensor({0.0, 1.0, 1.0, 0.0}, {2, 2}), singular = tensor({1.0, 2.0, 2.0, 4.0}, {2, 2});
  const auto [sign, logabsdet] = linalg::slogdet(stack({exchange, diagonal({2, 3}), singular}, 0));
  CHECK(list(sign) == std::vector<double>{-1, 1, 0});
  CHECK(list(logabsdet)[0] == 0);
  CHECK(list(logabsdet)[1] == doctest::Approx(std::log(6.0)));
  CHECK(list(logabsdet)[2] == -infinity);
  CHECK(linalg::slogdet(1e100 * eye(50, Dtype::float64)).logabsdet.item() == doctest::Approx(5000 * std::log(10.0)));
}

TEST_CASE("matrix_power: products, the inverse's for n < 0, the identity for 0") {
  const Tensor a = spaced({2, 3, 3}, 9), b = linalg::inverse(a);
  CHECK(difference(linalg::matrix_power(a, 5), matmul(matmul(matmul(matmul(a, a), a), a), a)) < 1e-11);
  CHECK(difference(linalg::matrix_power(a, -3), matmul(matmul(b, b), b)) < 1e-13);
  CHECK(is_identity(linalg::matrix_power(a, 0), 0x1p-1074));
}

TEST_CASE("norm: kinds of norm of vectors and matrices that are known") {
  const Tensor v = tensor({3.0, -4.0, 0.0, 1.0}, {2, 2});
  CHECK(list(linalg::norm(v, Norm::two)) == std::vector<double>{5, 1});
  CHECK(list(linalg::norm(v, Norm::one)) == std::vector<double>{7, 1});
  CHECK(list(linalg::norm(v, Norm::infinity)) == std::vector<double>{4, 1});
  CHECK(linalg::norm(v, Norm::frobenius).item() == doctest::Approx(std::sqrt(26.0)));
  CHECK(linalg::norm(diagonal({3, -5, 1}), Norm::spectral).item() == doctest::Approx(5));
  CHECK(linalg::norm(diagonal({3, -5, 1}), Norm::nuclear).item() == doctest::Approx(9));
  CHECK(linalg::norm(v, Norm::two, {.keepdims = true}).shape() == Shape{2, 1});
  CHECK(linalg::norm(normal({4, 2, 3}), Norm::nuclear, {.keepdims = true}).shape() == Shape{4, 1, 1});
}

TEST_CASE("norm: squares that overflow or underflow do not spoil it, and infinity and nan come through") {
  CHECK(linalg::norm(full({4}, 1e200, Dtype::float64), Norm::two).item() == doctest::Approx(2e200));
  CHECK(linalg::norm(full({4}, 1e-200, Dtype::float64), Norm::two).item() == doctest::Approx(2e-200));
  CHECK(linalg::norm(full({2, 2}, 1e30), Norm::frobenius).item() == doctest::Approx(2e30));
  CHECK(linalg::norm(tensor({infinity, 1.0}, {2}), Norm::two).item() == infinity);
  CHECK(std::isnan(linalg::norm(tensor({not_a_number, 1.0}, {2}), Norm::two).item()));
  CHECK(std::isnan(linalg::norm(tensor({not_a_number, 1.0}, {2}), Norm::infinity).item()));
}

TEST_CASE("norm: at 0 the value and both derivatives are 0, also for one zero row among others") {
  for (Norm kind : {Norm::two, Norm::one, Norm::infinity, Norm::frobenius, Norm::spectral, Norm::nuclear}) {
    INFO(int(kind));
    const Tensor x = zeros({3, 3}, Dtype::float64), v = normal({3, 3});
    const auto f = [=](In in) { return sum(linalg::norm(in[0], kind)); };
    CHECK(f({x}).item() == 0);
    CHECK(list(grad(f({x}), {x})[0]) == std::vector<double>(9, 0.0));
    CHECK(list(hvp(f, {x}, {v})[0]) == std::vector<double>(9, 0.0));
  }
  const Tensor x = tensor({0.0, 0.0, 3.0, 4.0}, {2, 2}), y = linalg::norm(x, Norm::two);
  CHECK(list(grad(sum(y), {x})[0]) == std::vector<double>{0, 0, 0.6, 0.8});
  CHECK(tests::all_finite(hvp([](In in) { return sum(linalg::norm(in[0], Norm::two)); }, {x}, {ones_like(x)})[0]));
}

TEST_CASE("linalg: a batch gives each matrix's own result, bit for bit, for any number of threads") {
  const Tensor a = normal({200, 24, 24}, 6);
  const linalg::SvdResult alone = [&] { const ThreadsGuard one(1); return linalg::svd(a); }();
  const ThreadsGuard four(4);
  const linalg::SvdResult together = linalg::svd(a);
  CHECK(list(together.U) == list(alone.U));
  CHECK(list(together.Vh) == list(alone.Vh));
  const Tensor one = reshape(slice(a, 0, 7, 8), {24, 24});
  CHECK(list(linalg::svd(one).U) == list(slice(alone.U, 0, 7, 8)));
}

// ---- What has no derivative ----------------------------------------------------------------------------------------

TEST_CASE("svd: equal singular values have gradients; their vectors refuse, and name both") {
  const Tensor a = diagonal({2, 2, 1});
  CHECK(list(grad(sum(linalg::singular_values(a)), {a})[0]) == list(eye(3)));
  CHECK(list(grad(sum(linalg::svd(a).S), {a})[0]) == list(eye(3)));
  const Tensor g = normal({3, 3});
  const std::string ending = " has the singular values 2 and 2, so close that their vectors have no derivative";
  const std::string message = "svd: the matrix" + ending;
  CHECK(thrown([&] { (void)grad(linalg::svd(a).U, {a}, {.cotangent = g}); }) == message);
  CHECK(thrown([&] { (void)grad(linalg::svd(a).Vh, {a}, {.cotangent = g}); }) == message);
  CHECK(thrown([&] { (void)jvp([](In in) { return linalg::svd(in[0]).U; }, {a}, {g}); }) == message);
  const Tensor batch = stack({diagonal({3, 2, 1}), a}, 0);
  CHECK(thrown([&] { (void)grad(sum(linalg::svd(batch).U), {batch}); }) ==
        "svd: matrix [1] of the batch [2]" + ending);
}

TEST_CASE("svd: vectors that the loss does not use need no derivative") {
  const Tensor a = diagonal({3, 1, 1});
  const auto first = [](In in) { return slice(linalg::svd(in[0]).U, 1, 0, 1); };
  CHECK(tests::all_finite(grad(first({a}), {a}, {.cotangent = normal({3, 1})})[0]));
  CHECK(gradcheck([](In in) { return linalg::norm(in[0], Norm::spectral); }, {a}, {.order = 2}));
  CHECK(gradcheck([](In in) { return slice(linalg::singular_values(in[0]), 0, 0, 1); }, {a}, {.order = 2}));
}

TEST_CASE("svd: a singular value of 0 stops the vectors that it leaves undetermined, and no others") {
  const Tensor tall = tensor({1.0, 0.0, 0.0, 0.0, 0.0, 0.0}, {3, 2});
  CHECK(thrown([&] { (void)grad(sum(linalg::svd(tall).U), {tall}); }) ==
        "svd: the matrix has the singular value 0, so close to 0 that its vectors have no derivative");
  CHECK(tests::all_finite(grad(linalg::svd(tall).Vh, {tall}, {.cotangent = normal({2, 2})})[0]));
  const Tensor square = diagonal({2, 1, 0});
  const GradcheckResult result = gradcheck([](In in) { return linalg::svd(in[0]).U; }, {square}, {.order = 2});
  CHECK_MESSAGE(result.passed, result.message);
  CHECK(list(grad(sum(linalg::svd(square).S), {square})[0]) == list(diagonal({1, 1, 0})));   // as |x| at 0
}

TEST_CASE("eigh: equal eigenvalues refuse a function of the matrix, whose vectors' gradients do not tell it") {
  const Tensor one = eye(3, Dtype::float64);
  CHECK(list(grad(sum(linalg::eigh(one).values), {one})[0]) == list(one));
  const auto exponential = [](const Tensor& a) {
    const auto [w, V] = linalg::eigh(a);
    return matmul(V * exp(w), V, {.transpose_b = true});
  };
  CHECK(thrown([&] { (void)grad(exponential(one), {one}, {.cotangent = normal({3, 3})}); }) ==
        "eigh: the matrix has the eigenvalues 1 and 1, so close that their vectors have no derivative");
}

TEST_CASE("linalg: equal to rounding counts as equal, and a gap of 1e-6 does not") {
  Rng rng(8);
  const Tensor Q = linalg::svd(randn({3, 3}, rng, Dtype::float64)).U.detach();
  const auto turned = [&](double gap) {
    return matmul(Q * tensor({1.0, 1.0 + gap, 2.0}, {3}), Q, {.transpose_b = true});
  };
  const auto pull = [](const Tensor& a) { return grad(sum(linalg::eigh(a).vectors), {a})[0]; };
  CHECK_THROWS_AS((void)pull(turned(0)), std::invalid_argument);
  CHECK(tests::all_finite(pull(turned(1e-6))));
}

// ---- Refusals ------------------------------------------------------------------------------------------------------

TEST_CASE("linalg: singular and indefinite matrices are refused, with their place in the batch") {
  const Tensor singular = tensor({1.0, 2.0, 2.0, 4.0}, {2, 2}), fine = eye(2, Dtype::float64);
  const Tensor batch = reshape(stack({fine, fine, singular, singular}, 0), {2, 2, 2, 2});
  CHECK(thrown([&] { linalg::inverse(singular); }) == "inverse: the matrix is singular");
  CHECK(thrown([&] { linalg::inverse(batch); }) == "inverse: matrix [1, 0] of the batch [2, 2] is singular");
  CHECK(thrown([&] { linalg::solve(batch, ones({2}, Dtype::float64)); }) ==
        "solve: matrix [1, 0] of the batch [2, 2] is singular");
  CHECK(thrown([&] { linalg::matrix_power(singular, -1); }) == "inverse: the matrix is singular");
  CHECK(thrown([&] { linalg::cholesky(-fine); }) == "cholesky: the matrix is not positive definite");
  CHECK(thrown([&] { linalg::cholesky(stack({fine, singular - fine}, 0)); }) ==
        "cholesky: matrix [1] of the batch [2] is not positive definite");
  CHECK(thrown([&] { (void)grad(linalg::slogdet(singular).logabsdet, {singular}); }) ==
        "inverse: the matrix is singular");
}

TEST_CASE("linalg: nan and infinity in a matrix are refused with their place; nan on a right side comes through") {
  const Tensor bad = tensor({1.0, 0.0, 0.0, 1.0, 1.0, not_a_number, 0.0, 1.0}, {2, 2, 2});
  const std::string where = ": matrix [1] of the batch [2] has nan at [0, 1]";
  CHECK(thrown([&] { linalg::svd(bad); }) == "svd" + where);
  CHECK(thrown([&] { linalg::singular_values(bad); }) == "singular_values" + where);
  CHECK(thrown([&] { linalg::eigh(bad); }) == "eigh" + where);
  CHECK(thrown([&] { linalg::inverse(bad); }) == "inverse" + where);
  CHECK(thrown([&] { linalg::cholesky(bad); }) == "cholesky" + where);
  CHECK(thrown([&] { linalg::slogdet(bad); }) == "slogdet" + where);
  CHECK(thrown([&] { linalg::solve(bad, bad); }) == "solve" + where);
  CHECK(thrown([&] { linalg::svd(tensor({1.0, 0.0, 0.0, infinity}, {2, 2})); }) == "svd: the matrix has inf at [1, 1]");
  const Tensor x = linalg::solve(eye(2, Dtype::float64), tensor({1.0, not_a_number, 2.0, 3.0}, {2, 2}));
  CHECK(x.at({0, 0}) == 1);
  CHECK(std::isnan(x.at({0, 1})));
  const Tensor a = diagonal({3, 2});
  CHECK(tests::all_nan(grad(linalg::svd(a).U, {a}, {.cotangent = full({2, 2}, not_a_number, Dtype::float64)})[0]));
}

TEST_CASE("linalg: bad calls and the sentences they get") {
  const Tensor a = ones({2, 3}), v = ones({3}), square = eye(3);
  CHECK(thrown([&] { linalg::svd(v); }) == "svd: needs a matrix or a batch of them, not shape [3]");
  CHECK(thrown([&] { linalg::svd(Tensor()); }) == "svd: an empty tensor has no values");
  CHECK(thrown([&] { linalg::svd(tensor({1, 2}, {1, 2})); }) == "svd: needs float32 or float64, not int64");
  CHECK(thrown([&] { linalg::eigh(a); }) == "eigh: needs square matrices, not [2, 3]");
  CHECK(thrown([&] { linalg::inverse(a); }) == "inverse: needs square matrices, not [2, 3]");
  CHECK(thrown([&] { linalg::cholesky(a); }) == "cholesky: needs square matrices, not [2, 3]");
  CHECK(thrown([&] { linalg::slogdet(a); }) == "slogdet: needs square matrices, not [2, 3]");
  CHECK(thrown([&] { linalg::matrix_power(a, 2); }) == "matrix_power: needs square matrices, not [2, 3]");
  CHECK(thrown([&] { linalg::solve(a, v); }) == "solve: needs square matrices, not [2, 3]");
  CHECK(thrown([&] { linalg::solve(square, a); }) == "solve: [3, 3] and [2, 3]: sizes 3 and 2 differ");
  CHECK(thrown([&] { linalg::solve(square, v.to(Dtype::float64)); }) ==
        "solve: float32 with float64 (dtypes never promote: use .to)");
  CHECK(thrown([&] { linalg::solve(ones({2, 3, 3}), ones({4, 3, 1})); }) ==
        "solve: [2, 3, 3] and [4, 3, 1]: batch sizes 2 and 4 do not broadcast");
  CHECK(thrown([&] { linalg::norm(full({}, 1.0), Norm::two); }) == "norm: a scalar has no axis to take the norm along");
  CHECK(thrown([&] { linalg::norm(v, Norm::nuclear); }) == "norm: needs a matrix or a batch of them, not shape [3]");
}

}
