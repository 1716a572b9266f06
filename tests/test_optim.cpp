// Optimizers and schedules against PyTorch 1.13's trajectories (golden/optim.json), and the contract of optim.hpp.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>

#include "framework/framework.hpp"
#include "framework/linalg.hpp"
#include "framework/optim.hpp"
#include "tests/golden/golden.hpp"

using namespace surgeon;
using surgeon::tests::Json;

namespace {

const Json& golden() {
  static const Json cases = tests::golden_cases("optim.json");
  return cases;
}

// The problem of make_optim_golden.py.
Parameters start() {
  return {{"W", tensor({-1.0, -0.5, 0.0, 0.5, 1.0, 1.5}, {2, 3})}, {"b", tensor({1.0, 0.0, -1.0}, {3})}};
}
Tensor gradient_of(const Tensor& parameter, std::int64_t t) {
  std::vector<double> g;
  for (double x : parameter.values<double>())
    g.push_back(x * x * x / 2 - x + std::cos(0.7 * double(t) + double(g.size())));
  return tensor(g, parameter.shape());
}
std::vector<Tensor> gradients_of(const Parameters& parameters, std::int64_t t, bool skip = false) {
  std::vector<Tensor> gradients;
  for (const auto& [name, parameter] : parameters)
    gradients.push_back(skip && name == "b" && t % 3 == 0 ? Tensor() : gradient_of(parameter, t));
  return gradients;
}

std::unique_ptr<Optimizer> make(const std::string& kind, const Parameters& parameters, const Json& o) {
  Group apart = no_decay_on_vectors();
  apart.lr_factor = 0.5;
  const std::vector<Group> groups(o.value("groups", false) ? 1 : 0, apart);
  const double lr = o.value("lr", 1e-3), beta1 = o.value("beta1", 0.9), beta2 = o.value("beta2", 0.999);
  const double eps = o.value("eps", 1e-8), decay = o.value("weight_decay", kind == "adamw" ? 1e-2 : 0.0);
  const bool amsgrad = o.value("amsgrad", false);
  if (kind == "adam")
    return std::make_unique<Adam>(parameters, AdamOptions{lr, beta1, beta2, eps, decay, amsgrad}, groups);
  if (kind == "adamw")
    return std::make_unique<AdamW>(parameters, AdamWOptions{lr, beta1, beta2, eps, decay, amsgrad}, groups);
  return std::make_unique<Sgd>(parameters, SgdOptions{.lr = lr, .momentum = o.value("momentum", 0.0),
                                                      .dampening = o.value("dampening", 0.0),
                                                      .nesterov = o.value("nesterov", false), .weight_decay = decay},
                               groups);
}

double largest_difference(const Tensor& x, const std::vector<double>& expected) {
  double largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i)
    largest = std::max(largest, std::abs(x.values<double>()[i] - expected[i]) / std::max(1.0, std::abs(expected[i])));
  return largest;
}

Schedule schedule_of(const std::string& name, const std::vector<double>& a) {
  if (name == "constant") return schedule::constant(a[0]);
  if (name == "step") return schedule::step(a[0], std::int64_t(a[1]), a[2]);
  if (name == "exponential") return schedule::exponential(a[0], a[1]);
  if (name == "cosine") return schedule::cosine(a[0], std::int64_t(a[1]), a[2]);
  if (name == "linear_warmup" && a.size() == 2) return schedule::linear_warmup(a[0], std::int64_t(a[1]));
  if (name == "linear_warmup") return schedule::linear_warmup(a[0], std::int64_t(a[1]), a[2]);
  return schedule::warmup_cosine(a[0], std::int64_t(a[1]), std::int64_t(a[2]), a[3], a[4]);
}

bool equal(const Parameters& a, const Parameters& b) {
  for (const auto& [name, tensor] : a) {
    const auto x = tensor.values<double>(), y = b[name].values<double>();
    if (!std::equal(x.begin(), x.end(), y.begin(), y.end())) return false;
  }
  return true;
}
Parameters copy_of(const Parameters& parameters) {
  Parameters copies;
  for (const auto& [name, parameter] : parameters) copies.add(name, parameter.detach());
  return copies;
}

}  // namespace

TEST_SUITE("optim") {
  TEST_CASE("optim: trajectories are PyTorch's to 1e-12") {
    for (const Json& one : golden()["optimizers"]) {
      const Parameters parameters = start();
      const auto optimizer = make(one["kind"], parameters, one["options"]);
      const bool skip = one["options"].value("skip", false);
      std::int64_t t = 0;
      for (const Json& reached : one["trajectory"]) {
        for (; t < reached["step"]; ++t) optimizer->step(gradients_of(parameters, t, skip));
        CAPTURE(one["name"].get<std::string>());
        CAPTURE(t);
        CHECK(largest_difference(parameters["W"], reached["W"]) < 1e-12);
        CHECK(largest_difference(parameters["b"], reached["b"]) < 1e-12);
      }
    }
  }

  TEST_CASE("optim: schedules are PyTorch's to 1e-12") {
    for (const Json& one : golden()["schedules"]) {
      const Schedule rate = schedule_of(one["name"], one["arguments"]);
      std::int64_t t = 0;
      for (double expected : one["rates"]) {
        CAPTURE(one.dump());
        CAPTURE(t);
        CHECK(std::abs(rate(t++) - expected) < 1e-12);
      }
    }
  }

  TEST_CASE("optim: a schedule set at each step is the learning rate of that step") {
    const Parameters parameters{{"x", tensor({0.0}, {1})}};
    Sgd optimizer(parameters);
    const Schedule rate = schedule::exponential(1.0, 0.5);
    for (std::int64_t t = 0; t < 4; ++t) {
      optimizer.set_lr(rate(t));
      optimizer.step({tensor({-1.0}, {1})});
    }
    CHECK(parameters["x"].item() == 1.0 + 0.5 + 0.25 + 0.125);
  }

  TEST_CASE("optim: after its last step warmup_cosine stays at the low rate") {
    const Schedule rate = schedule::warmup_cosine(1.0, 10, 50, 0.1);
    CHECK(rate(9) < 1.0);
    CHECK(rate(10) == 1.0);
    CHECK(rate(50) == doctest::Approx(0.1).epsilon(1e-15));
    CHECK(rate(5000) == rate(50));
    CHECK(schedule::warmup_cosine(1.0, 0, 50)(0) == 1.0);
  }

  TEST_CASE("optim: schedules refuse what has no meaning") {
    CHECK_THROWS_AS(schedule::constant(-1.0), std::invalid_argument);
    CHECK_THROWS_AS(schedule::step(0.1, 0), std::invalid_argument);
    CHECK_THROWS_AS(schedule::cosine(0.1, 0), std::invalid_argument);
    CHECK_THROWS_AS(schedule::exponential(std::nan(""), 0.9), std::invalid_argument);
    CHECK_THROWS_AS(schedule::warmup_cosine(0.1, 50, 50), std::invalid_argument);
    CHECK_THROWS_AS(schedule::constant(0.1)(-1), std::invalid_argument);
  }

  TEST_CASE("optim: float32 follows float64 to its own digits") {
    const Parameters wide = start();
    Parameters narrow;
    for (const auto& [name, parameter] : wide) narrow.add(name, parameter.to(Dtype::float32));
    AdamW a(wide, {.lr = 0.05}), b(narrow, {.lr = 0.05});
    for (std::int64_t t = 0; t < 50; ++t) {
      std::vector<Tensor> gradients = gradients_of(wide, t), rounded;
      for (const Tensor& g : gradients) rounded.push_back(g.to(Dtype::float32));
      a.step(gradients);
      b.step(rounded);
    }
    for (std::int64_t i = 0; i < 3; ++i) CHECK(narrow["b"].at({i}) == doctest::Approx(wide["b"].at({i})).epsilon(1e-5));
  }

  TEST_CASE("optim: a large parameter is updated alike in every element, whatever the threads") {
    const std::int64_t n = 200'003;
    const Parameters parameters{{"x", ones({n})}};
    Adam optimizer(parameters, {.amsgrad = true});
    for (int t = 0; t < 3; ++t) optimizer.step({full({n}, 0.5)});
    const auto x = parameters["x"].values<float>();
    CHECK(std::all_of(x.begin(), x.end(), [&](float v) { return v == x[0]; }));
    CHECK(x[0] == doctest::Approx(1.0 - 3e-3));
  }

  TEST_CASE("optim: a wrong gradient is refused by name before anything changes") {
    const Parameters parameters = start();
    AdamW optimizer(parameters);
    const std::vector<Tensor> good = gradients_of(parameters, 0);
    CHECK_THROWS_WITH_AS(optimizer.step({good[0]}), "AdamW: 1 gradients for 2 parameters", std::invalid_argument);
    CHECK_THROWS_WITH_AS(optimizer.step({good[0], good[0]}),
                         "AdamW: the gradient of b is float64 [2, 3], but the parameter is float64 [3]",
                         std::invalid_argument);
    CHECK_THROWS_AS(optimizer.step({good[0], good[1].to(Dtype::float32)}), std::invalid_argument);
    CHECK(equal(parameters, start()));
    CHECK(optimizer.state()["step"].at({0}) == 0);
  }

  TEST_CASE("optim: options out of range are refused") {
    const Parameters parameters = start();
    CHECK_THROWS_WITH_AS(Sgd(parameters, {.lr = -0.1}), "Sgd: lr must be a finite number of at least 0, not -0.1",
                         std::invalid_argument);
    CHECK_THROWS_AS(Sgd(parameters, {.nesterov = true}), std::invalid_argument);
    CHECK_THROWS_AS(Sgd(parameters, {.momentum = 0.9, .dampening = 0.1, .nesterov = true}), std::invalid_argument);
    CHECK_THROWS_AS(Adam(parameters, {.beta1 = 1.0}), std::invalid_argument);
    CHECK_THROWS_AS(Adam(parameters, {.eps = -1e-8}), std::invalid_argument);
    CHECK_THROWS_AS(AdamW(parameters, {.weight_decay = std::nan("")}), std::invalid_argument);
    CHECK_THROWS_AS(Sgd(Parameters{{"index", zeros({2}, Dtype::int64)}}), std::invalid_argument);
    Sgd optimizer(parameters);
    CHECK_THROWS_AS(optimizer.set_lr(std::nan("")), std::invalid_argument);
    CHECK(optimizer.lr() == 1e-3);
  }

  TEST_CASE("optim: a tied tensor is stepped once") {
    const Tensor table = tensor({1.0}, {1});
    Sgd optimizer(Parameters{{"embedding", table}, {"head", table}}, {.lr = 1.0});
    optimizer.step({tensor({0.25}, {1}), tensor({0.25}, {1})});
    CHECK(table.item() == 0.75);
  }

  TEST_CASE("optim: a gradient that is a parameter is read before it is overwritten") {
    const Tensor a = full({100}, 1.0, Dtype::float64), b = full({100}, 2.0, Dtype::float64);
    Sgd optimizer(Parameters{{"a", a}, {"b", b}}, {.lr = 1.0});
    optimizer.step({b, a});   // of the loss sum(a b)
    CHECK(a.at({7}) == -1.0);
    CHECK(b.at({7}) == 1.0);
  }

  TEST_CASE("optim: a step makes older graphs stale, and leaves copies alone") {
    const Tensor x = full({100}, 3.0, Dtype::float64), copy = x.detach();
    const Tensor y = sum(x * x);
    Sgd(Parameters{{"x", x}}, {.lr = 1.0}).step({ones({100}, Dtype::float64)});
    CHECK(copy.at({5}) == 3.0);
    CHECK_THROWS_AS(grad(y, {x}), std::invalid_argument);
  }

  TEST_CASE("optim: restoring a state goes on bit for bit") {
    for (const Json& one : golden()["optimizers"]) {
      const Parameters straight = start(), stopped = start();
      const auto a = make(one["kind"], straight, one["options"]);
      auto b = make(one["kind"], stopped, one["options"]);
      for (std::int64_t t = 0; t < 10; ++t) {
        if (t == 5) {
          const Parameters state = b->state(), weights = copy_of(stopped);
          b->step(gradients_of(stopped, 99));   // a snapshot does not change
          b = make(one["kind"], stopped, one["options"]);
          b->restore(state);
          assign_all(stopped, weights);
        }
        a->step(gradients_of(straight, t));
        b->step(gradients_of(stopped, t));
      }
      CAPTURE(one["name"].get<std::string>());
      CHECK(equal(straight, stopped));
    }
  }

  TEST_CASE("optim: a state that does not fit is refused and changes nothing") {
    const Parameters parameters = start();
    Adam optimizer(parameters);
    optimizer.step(gradients_of(parameters, 0));
    const Parameters before = copy_of(optimizer.state());
    CHECK_THROWS_WITH_AS(optimizer.restore(Sgd(parameters, {.momentum = 0.9}).state()),
                         "Adam's state: exp_avg.W is missing", std::invalid_argument);
    CHECK_THROWS_AS(optimizer.restore(Adam(parameters, {.amsgrad = true}).state()), std::invalid_argument);
    Parameters negative;
    for (const auto& [name, value] : before)
      negative.add(name, name == "step" ? full(value.shape(), -1, Dtype::int64) : zeros_like(value));
    CHECK_THROWS_AS(optimizer.restore(negative), std::invalid_argument);
    CHECK(optimizer.state()["step"].at({1}) == 1);
    CHECK(optimizer.state()["exp_avg.W"].at({0, 0}) == before["exp_avg.W"].at({0, 0}));
  }

  TEST_CASE("optim: clip_grad_norm is PyTorch's") {
    for (const Json& one : golden()["clips"]) {
      std::vector<Tensor> gradients;
      for (const std::vector<double> g : one["gradients"]) gradients.push_back(tensor(g, {std::int64_t(g.size())}));
      gradients.emplace_back();   // a parameter without a gradient counts for nothing
      const double norm = clip_grad_norm(gradients, one["max_norm"]);
      CHECK(norm == doctest::Approx(one["norm"].get<double>()).epsilon(1e-14));
      for (std::size_t i = 0; i < 2; ++i) CHECK(largest_difference(gradients[i], one["clipped"][i]) < 1e-12);
    }
  }

  TEST_CASE("optim: clipping leaves the caller's other handles alone") {
    const Tensor g = full({3}, 2.0, Dtype::float64);
    std::vector<Tensor> gradients{g, g};   // one tensor twice must not be scaled twice
    clip_grad_norm(gradients, 1.0);
    CHECK(g.at({0}) == 2.0);
    CHECK(grad_norm(gradients) == doctest::Approx(1.0));
  }

  TEST_CASE("optim: a norm over float32 is summed in float64") {
    const std::vector<Tensor> gradients{full({1'000'003}, 0.1)};
    // Eight running sums of 125,000 squares each: every addition rounds by up to 1.1e-16, here all to the same side.
    CHECK(grad_norm(gradients) == doctest::Approx(double(0.1f) * std::sqrt(1'000'003.0)).epsilon(1.4e-11));
    CHECK(std::isnan(grad_norm(std::vector{tensor({1.0, std::nan("")}, {2})})));
    CHECK_THROWS_AS(grad_norm(std::vector{tensor({1, 2}, {2})}), std::invalid_argument);
  }

  TEST_CASE("optim: the mean of accumulated gradients is that of the large batch") {
    GradientMean mean;
    CHECK_THROWS_AS(mean.take(), std::invalid_argument);
    mean.add(std::vector{tensor({1.0, 2.0}, {2}), Tensor()});
    mean.add(std::vector{tensor({3.0, 6.0}, {2}), Tensor()});
    CHECK_THROWS_AS(mean.add(std::vector{tensor({1.0}, {1}), Tensor()}), std::invalid_argument);
    CHECK(mean.count() == 2);
    const std::vector<Tensor> taken = mean.take();
    CHECK(taken[0].at({0}) == 2.0);
    CHECK(taken[0].at({1}) == 4.0);
    CHECK(taken[1].empty());
    CHECK(mean.count() == 0);
  }

  TEST_CASE("optim: outliers are refused by the documented rule") {
    OutlierGuard guard({.factor = 10, .window = 8, .warmup = 4, .patience = 2});
    CHECK(guard.accept(1e9));          // nothing is known yet
    CHECK_FALSE(guard.accept(std::nan("")));
    CHECK_FALSE(guard.accept(std::numeric_limits<double>::infinity()));
    for (int i = 0; i < 8; ++i) CHECK(guard.accept(1.0 + 0.1 * i));
    CHECK(guard.accept(9.0));
    CHECK_FALSE(guard.accept(20.0));
    CHECK(guard.accept(1.0));
    CHECK_FALSE(guard.accept(20.0));
    CHECK_FALSE(guard.accept(20.0));
    CHECK(guard.accept(20.0));         // the third in a row is the new level
    CHECK(guard.accept(21.0));
    CHECK(guard.refused() == 5);
  }

  TEST_CASE("optim: a restored guard decides as the one that was saved") {
    OutlierGuard a({.window = 5, .warmup = 3}), b({.window = 5, .warmup = 3});
    for (double norm : {1.0, 2.0, 3.0, 500.0}) a.accept(norm);
    b.restore(a.state());
    for (double norm : {4.0, 25.0, 10.0, 90.0}) CHECK(a.accept(norm) == b.accept(norm));
    CHECK(a.refused() == b.refused());
    CHECK_THROWS_AS(b.restore(tensor({1.0}, {1})), std::invalid_argument);
    CHECK_THROWS_AS(b.restore(tensor({1.0, -1.0}, {2})), std::invalid_argument);
  }
TEST_CASE("optim: Adam without eps leaves a parameter alone that has had no gradient yet") {
  const Tensor p = tensor({1.0, 2.0}, {2});
  Adam adam({{"p", p}}, {.eps = 0.0});
  adam.step({tensor({0.0, 0.5}, {2})});
  CHECK(p.at({0}) == 1.0);
  CHECK(p.at({1}) < 2.0);
}

TEST_CASE("optim: Lion moves by the sign of a mixture and keeps another") {
  const Tensor p = tensor({1.0, -1.0, 0.5}, {3});
  Lion lion({{"p", p}}, {.lr = 0.1, .beta1 = 0.9, .beta2 = 0.5, .weight_decay = 0.1});
  lion.step({tensor({2.0, -3.0, 0.0}, {3})});   // m = 0: the sign of g; then m = g / 2
  CHECK(p.at({0}) == doctest::Approx(0.99 - 0.1));
  CHECK(p.at({1}) == doctest::Approx(-0.99 + 0.1));
  CHECK(p.at({2}) == doctest::Approx(0.495));
  lion.step({tensor({-1.0, 0.0, 0.0}, {3})});   // 0.9 * 1 - 0.1 * 1 > 0
  CHECK(p.at({0}) == doctest::Approx(0.89 * 0.99 - 0.1));
}

TEST_CASE("optim: Muon's steps of a matrix have singular values near 1; vectors move as under AdamW") {
  Rng rng(3);
  for (const Shape& shape : {Shape{6, 4}, Shape{4, 6}}) {
    const Tensor W = zeros(shape, Dtype::float64), b = zeros({3}, Dtype::float64);
    Muon muon({{"W", W}, {"b", b}}, {.lr = 0.1, .vector_lr = 0.01});
    muon.step({randn(shape, rng, Dtype::float64), tensor({1.0, -2.0, 4.0}, {3})});
    const double size = std::sqrt(std::max(1.0, double(shape[0]) / double(shape[1])));
    const Tensor steps = linalg::singular_values(W / (0.1 * size));
    CHECK(min(steps).item() > 0.5);
    CHECK(max(steps).item() < 1.3);
    CHECK(b.at({0}) == doctest::Approx(-0.01));   // the first step of Adam is lr sign(g)
    CHECK(b.at({1}) == doctest::Approx(0.01));
  }
}

TEST_CASE("optim: an average of weights follows them, without a graph") {
  const Tensor w = tensor({1.0}, {1});
  WeightAverage average({{"w", w}}, 0.75);
  Tensor(w).assign(tensor({5.0}, {1}));
  average.update();
  CHECK(average.weights()["w"].item() == doctest::Approx(0.75 * 1.0 + 0.25 * 5.0));
  CHECK_THROWS_WITH_AS(WeightAverage({{"w", w}}, 1.0), "WeightAverage: decay = 1 is not in [0, 1)", std::invalid_argument);
}

TEST_CASE("optim: the range test finds a rate and leaves weights and optimizer as they were") {
  const Tensor w = tensor({3.0, -2.0}, {2});
  Sgd sgd({{"w", w}}, {.lr = 0.5, .momentum = 0.9});
  const LrFinding found = find_learning_rate(sgd, [&] { return sum(w * w); }, {.low = 1e-4, .high = 10.0, .steps = 60});
  CHECK(found.suggested > 1e-4);
  CHECK(found.suggested < 1.0);
  CHECK(found.rates.size() < 60);   // at the end it diverges
  CHECK(w.at({0}) == 3.0);
  CHECK(sgd.lr() == 0.5);
}

TEST_CASE("optim: a step of one's own changes all parameters or none") {
  const Parameters p{{"a", tensor({1.0}, {1})}, {"b", tensor({2.0, 3.0}, {2})}};
  const Tensor loss = sum(p["a"] * p["a"]) + sum(p["b"] * p["b"]);
  const std::vector<Tensor> gradients = grad(loss, p);
  update(p, gradients, [](const Tensor& w, const Tensor& g) { return w - 0.25 * g; });
  CHECK(p["a"].item() == 0.5);
  CHECK(p["b"].at({1}) == 1.5);
  CHECK_THROWS_AS(update(p, gradients, [](const Tensor& w, const Tensor&) { return reshape(w, {1}); }), std::invalid_argument);
  CHECK(p["a"].item() == 0.5);
}

}
