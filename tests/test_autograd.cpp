// The engine: what grad() finds, what it leaves alone, when rules run, and what recording keeps alive.
#include <doctest/doctest.h>

#include <map>
#include <stdexcept>
#include <string>

#include "framework/framework.hpp"

using namespace surgeon;

namespace {

Tensor number(double value) { return full({}, value, Dtype::float64); }

std::map<std::string, int>& calls() {
  static std::map<std::string, int> counts;
  return counts;
}

// x times 2, counting how often its rule runs.
Tensor counted(const char* name, const Tensor& x) {
  return record(name, {x}, (x * 2.0).detach(), [name](const Ins&, Out, Grad g) -> Grads {
    ++calls()[name];
    return {g * 2.0};
  });
}

}  // namespace

TEST_SUITE("autograd") {

TEST_CASE("autograd: gradients of several tensors come back in the order asked, twice the same when asked twice") {
  const Tensor a = number(2.0), b = number(5.0), y = a * a * b;
  const auto [da, db, again] = grad(y, {a, b, a});
  CHECK(da.item() == 20.0);
  CHECK(db.item() == 4.0);
  CHECK(again.item() == 20.0);
  const auto list = grad(y, std::vector<Tensor>{b});
  CHECK(list.size() == 1);
  CHECK(list[0].item() == 4.0);
  CHECK(grad(y, std::vector<Tensor>{}).empty());
}

TEST_CASE("autograd: any tensor on the way can be asked for, y itself included") {
  const Tensor x = number(3.0), u = x * x, v = u + 1.0, y = v * u;
  const auto [dx, du, dv, dy] = grad(y, {x, u, v, y});
  CHECK(dy.item() == 1.0);
  CHECK(dv.item() == 9.0);
  CHECK(du.item() == 10.0 + 9.0);   // through v and directly
  CHECK(dx.item() == 19.0 * 6.0);
}

TEST_CASE("autograd: an intermediate's gradient does not cut off what lies behind it") {
  const Tensor x = number(3.0), u = x * 2.0, y = u * u;
  const auto [du, dx] = grad(y, {u, x});
  CHECK(du.item() == 12.0);
  CHECK(dx.item() == 24.0);
}

TEST_CASE("autograd: a tensor on both sides of an op, and one on many ways, adds up") {
  const Tensor x = number(3.0);
  CHECK(grad(x * x, {x})[0].item() == 6.0);
  CHECK(grad(x - x, {x})[0].item() == 0.0);
  CHECK(grad(x / x, {x})[0].item() == 0.0);
  Tensor y = x;
  for (int i = 0; i < 10; ++i) y = y + y;
  CHECK(grad(y, {x})[0].item() == 1024.0);
}

TEST_CASE("autograd: the cotangent weighs what comes back, and is not changed by the walk") {
  const Tensor x = tensor({1.0, 2.0, 3.0}, {3}), g = tensor({1.0, 0.0, -2.0}, {3});
  const Tensor y = x + x;
  CHECK(grad(y, {x}, {.cotangent = g})[0].at({2}) == -4.0);
  CHECK(g.at({2}) == -2.0);
  CHECK(grad(sum(x), {x})[0].at({1}) == 1.0);
  CHECK(grad(reshape(sum(x), {1, 1}), {x})[0].at({1}) == 1.0);   // one element needs no cotangent, whatever its rank
}

TEST_CASE("autograd: gradients handed out are not changed by later walks") {
  const Tensor x = tensor({1.0, 2.0}, {2}), u = x * 3.0, y = sum(u * u) + sum(u);
  const auto [du, dx] = grad(y, {u, x});
  const double before = du.at({0});
  const auto [du2, dx2] = grad(y, {u, x});
  CHECK(du.at({0}) == before);
  CHECK(du2.at({0}) == before);
  CHECK(dx.at({1}) == dx2.at({1}));
}

TEST_CASE("autograd: what y was not made from is refused, or zeros with allow_unused") {
  const Tensor x = number(1.0), other = tensor({1.f, 2.f}, {2}), later = number(2.0);
  const Tensor y = x * 2.0, child = y * 2.0;
  CHECK_THROWS_AS(grad(y, {other}), std::invalid_argument);
  CHECK_THROWS_AS(grad(y, {child}), std::invalid_argument);
  CHECK_THROWS_AS(grad(y, {stop_gradient(x)}), std::invalid_argument);
  const auto [dx, dother] = grad(y, {x, other}, {.allow_unused = true});
  CHECK(dx.item() == 2.0);
  CHECK(dother.dtype() == Dtype::float32);
  CHECK(dother.shape() == Shape{2});
  CHECK(dother.at({1}) == 0.0);
  CHECK(grad(later, {x}, {.allow_unused = true})[0].item() == 0.0);
}

TEST_CASE("autograd: a way that stops on the way, through sign or a comparison, gives zeros") {
  const Tensor x = tensor({1.0, -2.0}, {2});
  CHECK(grad(sum(sign(x)), {x})[0].at({0}) == 0.0);
  CHECK(grad(sum((x > 0.0).to(Dtype::float64) * x), {x})[0].at({0}) == 1.0);
}

TEST_CASE("autograd: only rules that lead to what was asked run") {
  calls().clear();
  const Tensor a = number(1.0), b = number(2.0);
  const Tensor y = counted("left", a) * counted("right", b);
  (void)grad(y, {a});
  CHECK(calls()["left"] == 1);
  CHECK(calls()["right"] == 0);
  const Tensor u = counted("below", a), z = counted("above", u);
  (void)grad(z, {u});
  CHECK(calls()["above"] == 1);
  CHECK(calls()["below"] == 0);
}

TEST_CASE("autograd: a rule runs once, however many ways lead through it") {
  calls().clear();
  const Tensor x = number(1.0), u = counted("once", x);
  CHECK(grad(u * u + u, {x})[0].item() == 2.0 * (2.0 * 2.0 + 1.0));
  CHECK(calls()["once"] == 1);
}

TEST_CASE("autograd: a rule can ask which inputs are wanted, beyond the 64th too") {
  std::vector<Tensor> xs;
  for (int i = 0; i < 70; ++i) xs.push_back(number(i));
  static std::string wanted;
  const auto rule = [](const Ins& in, Out, Grad g) -> Grads {
    wanted.clear();
    Grads gradients;
    for (std::size_t i = 0; i < in.size(); ++i) {
      wanted += in.wanted(i) ? '1' : '0';
      gradients.push_back(g * double(i));
    }
    return gradients;
  };
  const Tensor y = record("many", Inputs(std::span<const Tensor>(xs)), number(0.0), rule);
  const auto [d3, d69] = grad(y, {xs[3], xs[69]});
  CHECK(d3.item() == 3.0);
  CHECK(d69.item() == 69.0);
  CHECK(wanted.substr(0, 64) == "0001" + std::string(60, '0'));
  CHECK(wanted[69] == '1');
}

TEST_CASE("autograd: broadcasting is undone whatever the rule gives back") {
  const Tensor row = tensor({1.0, 2.0, 3.0}, {3}), column = tensor({1.0, 2.0}, {2, 1}), one = number(1.0);
  const auto [dr, dc, d1] = grad(sum(row * column + one), {row, column, one});
  CHECK(dr.shape() == Shape{3});
  CHECK(dr.at({1}) == 3.0);
  CHECK(dc.shape() == Shape{2, 1});
  CHECK(dc.at({0, 0}) == 6.0);
  CHECK(d1.shape() == Shape{});
  CHECK(d1.item() == 6.0);
  const Tensor nothing = zeros({0, 3}, Dtype::float64);
  CHECK(grad(sum(nothing * row), {row})[0].at({2}) == 0.0);
}

TEST_CASE("autograd: gradients of gradients, to the fourth") {
  const Tensor x = number(2.0);
  Tensor y = x * x * x * x;
  for (double wanted : {32.0, 48.0, 48.0, 24.0}) {
    y = grad(y, {x}, {.create_graph = true})[0];
    CHECK(y.item() == wanted);
  }
}

TEST_CASE("autograd: without create_graph a gradient has no graph") {
  const Tensor x = number(2.0);
  const auto [plain] = grad(x * x * x, {x});
  CHECK_THROWS_AS(grad(plain, {x}), std::invalid_argument);
  CHECK(recording());
}

TEST_CASE("autograd: a gradient with a graph depends on the cotangent too") {
  const Tensor x = number(2.0), g = number(5.0);
  const auto [dx] = grad(x * x, {x}, {.cotangent = g, .create_graph = true});
  const auto [dg] = grad(dx, {g});
  CHECK(dg.item() == 4.0);
}

TEST_CASE("autograd: NoRecord builds no graph, nests, and is undone by exceptions") {
  const Tensor x = number(2.0);
  {
    const NoRecord pause;
    CHECK_FALSE(recording());
    { const NoRecord again; }
    CHECK_FALSE(recording());
    CHECK_THROWS_AS(grad(x * x, {x}), std::invalid_argument);
    const detail::Recording on;
    CHECK(grad(x * x, {x})[0].item() == 4.0);
  }
  try {
    const NoRecord pause;
    throw 1;
  } catch (int) {
  }
  CHECK(recording());
  const Tensor y = x * x;
  const NoRecord pause;
  CHECK(grad(y, {x})[0].item() == 4.0);   // the walk needs no recording
}

TEST_CASE("autograd: an op may be recorded with inputs that are newer than its value") {
  const Tensor value = number(6.0), x = number(3.0);
  const Tensor y = record("late", {x}, value, [](const Ins&, Out, Grad g) -> Grads { return {g * 2.0}; });
  CHECK(grad(y * y, {x})[0].item() == 24.0);
}

TEST_CASE("autograd: integer and boolean inputs take part and get no gradient") {
  const Tensor x = tensor({1.0, 2.0, 3.0}, {3}), index = tensor({2, 2}, {2});
  const Tensor y = sum(gather(x, 0, index));
  CHECK(grad(y, {x})[0].at({2}) == 2.0);
  CHECK(grad(y, {x, index}, {.allow_unused = true})[1].dtype() == Dtype::int64);
}

TEST_CASE("autograd: reading a tensor's old numbers after assign is fine where nothing saved them") {
  Tensor w = tensor({1.0, 2.0}, {2});
  const Tensor x = tensor({3.0, 4.0}, {2});
  const Tensor loss = sum(w * x);
  const auto [dw] = grad(loss, {w});
  w.assign(w.detach() - 0.1 * dw);   // a step of descent
  CHECK(w.at({0}) == doctest::Approx(0.7));
  CHECK_THROWS_AS(grad(loss, {w}), std::invalid_argument);
  CHECK(grad(sum(w * x), {w})[0].at({1}) == 4.0);   // a new graph works
}

TEST_CASE("autograd: fused runs its fast rule at first order and its reference above") {
  calls().clear();
  const auto square = [](const Tensor& x) {
    return fused("square", {x}, (x * x).detach(),
                 [](const Ins& in, Out, Grad g) -> Grads { ++calls()["fast"]; return {g * in[0] * 2.0}; },
                 [](std::span<const Tensor> in) { ++calls()["reference"]; return in[0] * in[0]; });
  };
  const Tensor x = number(3.0);
  CHECK(grad(square(x), {x})[0].item() == 6.0);
  CHECK(calls()["fast"] == 1);
  CHECK(calls()["reference"] == 0);
  const auto [slope] = grad(square(x), {x}, {.create_graph = true});
  CHECK(slope.item() == 6.0);
  CHECK(calls()["reference"] == 1);
  CHECK(grad(slope, {x})[0].item() == 2.0);
}

TEST_CASE("autograd: fused inputs that depend on each other are not counted twice") {
  const Tensor x = number(3.0), u = x * x;
  const Tensor y = fused("product", {x, u}, (x * u).detach(),
                         [](const Ins& in, Out, Grad g) -> Grads { return {g * in[1], g * in[0]}; },
                         [](std::span<const Tensor> in) { return in[0] * in[1]; });
  CHECK(grad(y, {x})[0].item() == 27.0);
  const auto [slope] = grad(y, {x}, {.create_graph = true});
  CHECK(slope.item() == 27.0);
  CHECK(grad(slope, {x})[0].item() == 18.0);
}

TEST_CASE("autograd: the inputs of a graph live as long as it does, and no longer") {
  struct Witness {
    explicit Witness(int& count_) : count(&count_) { ++*count; }
    Witness(const Witness& other) : count(other.count) { ++*count; }
    ~Witness() { --*count; }
    int* count;
  };
  int alive = 0;
  {
    Tensor y;
    {
      const Tensor x = number(2.0);
      y = record("witnessed", {x}, (x * 2.0).detach(),
                 [witness = Witness(alive)](const Ins&, Out, Grad g) -> Grads { return {g}; });
    }
    CHECK(alive == 1);
    y = y * 3.0;
    CHECK(alive == 1);
    const auto [dy] = grad(y * y, {y}, {.create_graph = true});
    CHECK(alive == 1);
  }
  CHECK(alive == 0);
}

}  // TEST_SUITE
