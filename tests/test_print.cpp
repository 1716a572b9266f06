// Tensors print as NumPy prints arrays: tests/golden/print.json holds its own words.
#include <doctest/doctest.h>

#include <cmath>
#include <sstream>
#include <string>
#include <vector>

#include "framework/framework.hpp"
#include "tests/golden/golden.hpp"

using namespace surgeon;

namespace {

double number(const tests::Json& value) {
  if (!value.is_string()) return value.get<double>();
  return value == "nan" ? NAN : value == "inf" ? INFINITY : -INFINITY;
}

Tensor tensor_of(const tests::Json& test) {
  const Shape shape = test["shape"].get<Shape>();
  if (test["dtype"] == "boolean") return tensor(test["values"].get<std::vector<bool>>(), shape);
  if (test["dtype"] == "int64") return tensor(test["values"].get<std::vector<std::int64_t>>(), shape);
  std::vector<double> values;
  for (const tests::Json& value : test["values"]) values.push_back(number(value));
  return tensor(values, shape).to(test["dtype"] == "float32" ? Dtype::float32 : Dtype::float64);
}

}  // namespace

TEST_SUITE("print") {

TEST_CASE("tensors of every dtype, shape and magnitude print as in NumPy") {
  for (const tests::Json& test : tests::golden_cases("print.json")) {
    std::ostringstream out;
    out << tensor_of(test);
    CHECK(out.str() == test["text"].get<std::string>());
  }
}

TEST_CASE("an empty handle prints that it is one") { CHECK(to_string(Tensor()) == "(empty tensor)"); }

}
