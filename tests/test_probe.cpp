// Named intermediates: seen, replaced, differentiated with respect to.
#include <doctest/doctest.h>

#include <algorithm>
#include <thread>

#include "framework/framework.hpp"

using namespace surgeon;

namespace {

bool bit_equal(const Tensor& a, const Tensor& b) { return std::ranges::equal(a.values<double>(), b.values<double>()); }

Tensor block(const Tensor& x) {
  const ProbeScope scope("attention");
  const Tensor scores = probe("scores", x * x);
  return sum(probe("weights", softmax(scores)) * x);
}

Tensor model(const Tensor& x) {
  Tensor y = zeros({}, Dtype::float64);
  for (int i = 0; i < 2; ++i) {
    const ProbeScope scope("blocks." + std::to_string(i));
    y = y + block(x * double(i + 1));
  }
  return y;
}

const Tensor x = tensor({0.3, -1.0, 2.0}, {3});

}  // namespace

TEST_SUITE("probe") {
  TEST_CASE("names are nested by scope, in the order in which they pass") {
    Probe all;
    model(x);
    REQUIRE(all.seen().size() == 4);
    CHECK(all.seen()[0].first == "blocks.0.attention.scores");
    CHECK(all.seen()[3].first == "blocks.1.attention.weights");
  }

  TEST_CASE("watched or not, values and gradients are the same bits") {
    const Tensor y = model(x);
    const auto [dx] = grad(y, {x});
    Probe all;
    const Tensor watched = model(x);
    const auto [dx_watched] = grad(watched, {x});
    CHECK(bit_equal(y, watched));
    CHECK(bit_equal(dx, dx_watched));
  }

  TEST_CASE("a pattern chooses; * stands for any run of characters") {
    Probe scores("blocks.*.scores"), none("scores"), first("blocks.0*");
    model(x);
    CHECK(scores.seen().size() == 2);
    CHECK(none.seen().empty());
    CHECK(first.seen().size() == 2);
  }

  TEST_CASE("probed() says whether anybody asks for a name") {
    CHECK(!probed("scores"));
    Probe scores("*.scores");
    CHECK(!probed("scores"));
    const ProbeScope scope("blocks.0");
    CHECK(probed("scores"));
    CHECK(!probed("weights"));
  }

  TEST_CASE("what was seen is part of the graph: its gradient is dL/d(it)") {
    Probe weights("*.weights");
    const Tensor y = model(x);
    const auto gradients = weights.gradients(y);
    REQUIRE(gradients.size() == 2);
    CHECK(bit_equal(gradients[0].second, x));          // L = sum(weights * x) in the first block
    CHECK(bit_equal(gradients[1].second, x * 2.0));
  }

  TEST_CASE("a replacement takes the tensor's place, in values and gradients") {
    Probe flat("*.weights", [](const std::string&, const Tensor& w) { return full(w.shape(), 1.0 / 3.0, w.dtype()); });
    const Tensor y = model(x);
    CHECK(y.item() == doctest::Approx(3.0 * (0.3 - 1.0 + 2.0) / 3.0));
    const auto [dx] = grad(y, {x});
    for (double d : dx.values<double>()) CHECK(d == doctest::Approx(1.0));
  }

  TEST_CASE("a replacement of another shape or dtype is refused by name") {
    Probe wrong("*.scores", [](const std::string&, const Tensor&) { return zeros({2}, Dtype::float64); });
    CHECK_THROWS_WITH(model(x), "probe: blocks.0.attention.scores: a replacement must keep shape [3] and dtype; this one has shape [2]");
  }

  TEST_CASE("an exception leaves no scope and no Probe behind") {
    try {
      const ProbeScope scope("broken");
      Probe all;
      throw 1;
    } catch (int) {
    }
    CHECK(!probed("anything"));
    Probe all;
    probe("y", x);
    CHECK(all.seen()[0].first == "y");
  }

  TEST_CASE("a name that was not seen is an error that lists what was") {
    Probe all;
    probe("scores", x);
    CHECK(all["scores"].same(x));
    CHECK_THROWS_WITH_AS(all["weights"], "probe: no tensor named weights was seen; seen were scores", std::out_of_range);
  }

  TEST_CASE("Probes belong to their thread") {
    Probe all;
    std::thread([] { probe("elsewhere", x); }).join();
    CHECK(all.seen().empty());
  }
}
