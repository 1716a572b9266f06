// Parameters: names, order, counting, and assignment of all or nothing.
#include <doctest/doctest.h>

#include <string>

#include "framework/parameters.hpp"

using namespace surgeon;

namespace {

template <class Error, class Action>
std::string message_of(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace

TEST_SUITE("parameters") {
  TEST_CASE("parameters: nested names are joined by a dot, in the order they were added") {
    const Parameters inner{{"weight", zeros({2, 3})}, {"bias", zeros({2})}};
    Parameters all;
    all.add("blocks.0", inner);
    all.add("head", ones({4}));
    std::string names;
    for (const auto& [name, tensor] : all) names += name + " ";
    CHECK(names == "blocks.0.weight blocks.0.bias head ");
    CHECK(all.size() == 3);
    CHECK(all["blocks.0.weight"].same(inner["weight"]));
    CHECK(all.tensors()[2].same(all["head"]));
  }

  TEST_CASE("parameters: a wrong name is answered with the nearest") {
    const Parameters all{{"W_q.weight", zeros({1})}, {"W_k.weight", zeros({1})}, {"W_k.bias", zeros({1})}};
    CHECK(message_of<std::out_of_range>([&] { (void)all["W_k.weigth"]; }) ==
          "parameters: no parameter is named W_k.weigth; the nearest name is W_k.weight");
    CHECK_THROWS_AS(Parameters()["W"], std::out_of_range);
  }

  TEST_CASE("parameters: no name occurs twice, and a refused one changes nothing") {
    Parameters all{{"W", zeros({1})}};
    CHECK_THROWS_AS(all.add("W", zeros({2})), std::invalid_argument);
    CHECK(all.size() == 1);
    CHECK(all["W"].shape() == Shape{1});
  }

  TEST_CASE("parameters: a tied tensor is counted once") {
    const Tensor table = zeros({10, 4});
    CHECK(Parameters{{"embedding", table}, {"head", table}, {"bias", zeros({3})}}.count() == 43);
  }

  TEST_CASE("parameters: assign_all takes values by name, in any order") {
    const Parameters mine{{"a", zeros({2})}, {"b", zeros({1}, Dtype::int64)}};
    assign_all(mine, {{"b", full({1}, 7, Dtype::int64)}, {"a", ones({2})}});
    CHECK(mine["a"].at({1}) == 1.0);
    CHECK(mine["b"].item() == 7.0);
  }

  TEST_CASE("parameters: assign_all changes nothing when one name, shape or dtype is wrong") {
    const Parameters mine{{"a", zeros({2})}, {"b", zeros({2, 2})}};
    const auto refusal = [&](const Parameters& values) {
      const std::string message = message_of<std::invalid_argument>([&] { assign_all(mine, values); });
      CHECK(mine["a"].version() == 0);
      return message;
    };
    CHECK(refusal({{"a", ones({2})}}) == "assign_all: b is missing");
    CHECK(refusal({{"a", ones({2})}, {"b", ones({4})}}) == "assign_all: b is float32 [4], not float32 [2, 2]");
    CHECK(refusal({{"a", ones({2})}, {"b", ones({2, 2}, Dtype::float64)}}) ==
          "assign_all: b is float64 [2, 2], not float32 [2, 2]");
    CHECK(refusal({{"a", ones({2})}, {"b", ones({2, 2})}, {"c", ones({1})}}) == "assign_all: c does not belong here");
  }
}
