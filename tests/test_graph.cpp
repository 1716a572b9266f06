// Listings of graphs, and the search for the first nan.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <string>

#include "framework/framework.hpp"

using namespace surgeon;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// The sentence an Anomaly ends the body with; empty when it does not.
template <class Body>
std::string complaint(const Body& body) {
  const Anomaly watch;
  try {
    body();
  } catch (const AnomalyError& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_SUITE("graph") {
  TEST_CASE("the text has one line per tensor: op, inputs, shape, range, gradient norm") {
    const Tensor Q = tensor({1.0, 2.0}, {2}), K = tensor({3.0, 4.0}, {2});
    const Tensor y = sum(Q * K);
    CHECK(graph_text(y, {.names = {{"Q", Q}, {"K", K}}}) ==
          "Q   given          [2] float64  in [1, 2]  |grad| 5\n"
          "K   given          [2] float64  in [3, 4]  |grad| 2.236\n"
          "%2  multiply Q, K  [2] float64  in [3, 8]  |grad| 1.414\n"
          "%3  sum %2         [] float64   in [11, 11]  |grad| 1\n");
  }

  TEST_CASE("DOT names the nodes and draws an edge per input") {
    const Tensor x = tensor({1.0}, {1});
    const std::string dot = graph_dot(x * x, {.ranges = false, .gradients = false, .names = {{"say \"x\"", x}}});
    CHECK(dot.find("n0 [label=\"say \\\"x\\\": given\\n[1] float64\", style=rounded];") != std::string::npos);
    std::size_t edges = 0;
    for (std::size_t at = dot.find("n0 -> n1"); at != std::string::npos; at = dot.find("n0 -> n1", at + 1)) ++edges;
    CHECK(edges == 2);
  }

  TEST_CASE("the first op whose value is nan is named, with its inputs and where they come from") {
    const Tensor x = tensor({1.0, -1.0}, {2});
    const std::string text = complaint([&] { return sum(log(x * 2.0)); });
    CHECK(text == "anomaly: log gave nan in 1 of 2 values, first at [1]\n  input 0: [2] float64 in [-2, 2]\n"
                  "  made by: log <- multiply <- given");
  }

  TEST_CASE("an infinity from finite inputs is reported; one that was there already, or filled in, is not") {
    const Tensor x = tensor({1.0, 1000.0}, {2});
    CHECK(complaint([&] { exp(x); }).starts_with("anomaly: exp gave inf in 1 of 2 values, first at [1]"));
    CHECK(complaint([&] {
            const Tensor mask = tensor({true, false}, {2});
            const Tensor y = softmax(masked_fill(x, mask, -infinity));
            grad(sum(y * x), std::vector<Tensor>{x});
          }) == "");
    CHECK(complaint([&] { tensor({-infinity, 1.0}, {2}) * 2.0; }) == "");
  }

  TEST_CASE("a nan in the data is reported by the first op that meets it") {
    const Tensor x = tensor({1.0, std::numeric_limits<double>::quiet_NaN()}, {2});
    CHECK(complaint([&] { sum(x * 2.0); }).starts_with("anomaly: multiply gave nan"));
  }

  TEST_CASE("backward: the op whose gradient went wrong, and the way from it to the loss") {
    const Tensor x = tensor({0.0, 4.0}, {2});
    const Tensor loss = sum(sqrt(x) * 3.0);
    const std::string text = complaint([&] { grad(loss, std::vector<Tensor>{x}); });
    CHECK(text == "anomaly: the gradient of sqrt for input 0 gave inf in 1 of 2 values, first at [0]\n"
                  "  input 0: [2] float64 in [0, 4]\n  from above: [2] float64 in [3, 3]\n"
                  "  on the way: sqrt -> multiply -> sum -> loss");
  }

  TEST_CASE("without an Anomaly nothing is thrown, and it ends with its scope") {
    { const Anomaly watch; }
    CHECK_NOTHROW(log(tensor({-1.0}, {1})));
  }
}
