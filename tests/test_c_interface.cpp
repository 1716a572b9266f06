// experiments/surgeon.h as a C program sees it; tests/c_interface.py tries the same from Python.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "layers/layers.hpp"
#include "experiments/surgeon.h"
#include "tests/layer_tools.hpp"

using namespace surgeon;
using namespace surgeon::tests;

namespace {

struct Given {
  Tensor Q, K, V, dO;
  surgeon_problem problem;
  Given() {
    Rng rng(1);
    Q = randn({2, 4, 5, 3}, rng, f64), K = randn({2, 2, 6, 3}, rng, f64), V = randn({2, 2, 6, 2}, rng, f64);
    dO = randn({2, 4, 5, 2}, rng, f64);
    problem = {SURGEON_FLOAT64, 2, 4, 2, 5, 6, 3, 2, numbers(Q), numbers(K), numbers(V), nullptr, 0, 0, nullptr, 0, 0,
               std::nan(""), 1, 0, 0.0};
  }
  static const double* numbers(const Tensor& x) { return x.values<double>().data(); }
};

}  // namespace

TEST_SUITE("c_interface") {

TEST_CASE("surgeon.h: gradients of grouped heads are those of the library, bit for bit") {
  const Given g;
  std::vector<double> dQ(2 * 4 * 5 * 3), dK(2 * 2 * 6 * 3);
  REQUIRE(surgeon_vjp(&g.problem, Given::numbers(g.dO), dQ.data(), dK.data(), nullptr) == 0);
  const Tensor y = attention(g.Q, g.K, g.V, {.causal = true}).output;
  const auto [rightQ, rightK] = grad(y, {g.Q, g.K}, {.cotangent = g.dO});
  CHECK(off(tensor(dQ, g.Q.shape()), rightQ) == 0);
  CHECK(off(tensor(dK, g.K.shape()), rightK) == 0);
}

TEST_CASE("surgeon.h: what it refuses is -1 and a sentence; nothing is written") {
  Given g;
  double out[80] = {7};
  CHECK(surgeon_attention(nullptr, out) == -1);
  CHECK(surgeon_vjp(&g.problem, nullptr, out, nullptr, nullptr) == -1);
  CHECK(std::string(surgeon_error()) == "surgeon: dO is missing");
  g.problem.kv_heads = 3;
  CHECK(surgeon_attention(&g.problem, out) == -1);
  CHECK(std::strstr(surgeon_error(), "do not divide"));
  g.problem.kv_heads = 2, g.problem.Tq = -1;
  CHECK(surgeon_attention(&g.problem, out) == -1);
  g.problem.Tq = 5, g.problem.K = nullptr;
  CHECK(surgeon_attention(&g.problem, out) == -1);
  CHECK(surgeon_set_threads(0) == -1);
  CHECK(out[0] == 7);
}

TEST_CASE("surgeon.h: the doctor says how much room its findings need") {
  const Given g;
  const std::int64_t size = surgeon_doctor(&g.problem, nullptr, nullptr, 0);
  REQUIRE(size > 10);
  std::string json(std::size_t(size), '#');
  CHECK(surgeon_doctor(&g.problem, nullptr, json.data(), json.size() - 1) == size);
  CHECK(json[0] == '#');
  CHECK(surgeon_doctor(&g.problem, nullptr, json.data(), json.size()) == 0);
  CHECK(json.starts_with("{\"findings\": []"));
}

TEST_CASE("borrowed: read where it lies; assign and sums leave the owner's numbers alone") {
  std::vector<double> owner(20, 1.0);
  Tensor x = borrowed(owner.data(), {4, 5});
  CHECK(x.values<double>().data() == owner.data());
  const auto [d] = grad(sum(x * x + x), {x});
  CHECK(d.at({0, 0}) == 3);
  const Tensor shared = reshape(x, {20});
  x.assign(zeros({4, 5}, Dtype::float64));
  CHECK(x.at({1, 1}) == 0);
  CHECK(shared.at({3}) == 1);
  for (double v : owner) CHECK(v == 1);
}

}
