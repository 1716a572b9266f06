// Reading golden files, and saying where a tensor differs from one.
#include "tests/folder.hpp"
#include "tests/golden/golden.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <stdexcept>

namespace surgeon::tests {
namespace {

double number(const Json& written) {
  if (!written.is_string()) return written.get<double>();
  const std::string word = written.get<std::string>();
  if (word == "nan") return std::numeric_limits<double>::quiet_NaN();
  return (word == "-inf" ? -1 : 1) * std::numeric_limits<double>::infinity();
}

std::vector<double> numbers(const Tensor& x) {
  const auto widened = [](auto values) { return std::vector<double>(values.begin(), values.end()); };
  switch (x.dtype()) {
    case Dtype::float32: return widened(x.values<float>());
    case Dtype::float64: return widened(x.values<double>());
    case Dtype::int64: return widened(x.values<std::int64_t>());
    case Dtype::boolean: return widened(x.values<bool>());
  }
  throw std::logic_error("numbers: a dtype that this switch does not know");
}

bool agrees(double actual, double expected, double slack) {
  if (std::isnan(expected)) return std::isnan(actual);
  return actual == expected || std::abs(actual - expected) <= slack;   // the subtraction is inf or nan for infinities
}

std::string sentence(const std::string& place, double actual, double expected, const Shape& shape) {
  std::ostringstream out;
  out.precision(17);
  out << place << " of " << to_string(shape) << " is " << actual << ", expected " << expected;
  return out.str();
}

}  // namespace

Json golden_cases(const std::string& file) {
  const std::string path = (source_folder() / "tests/golden" / file).string();
  std::ifstream in(path);
  if (!in) throw std::runtime_error("cannot open " + path);
  return Json::parse(in);
}

std::string from_hexadecimal(const std::string& text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); i += 2) bytes += char(std::stoi(text.substr(i, 2), nullptr, 16));
  return bytes;
}

Tensor golden_draw(const Shape& shape, std::uint64_t seed, const std::string& kind, Dtype dtype) {
  std::vector<double> values(static_cast<std::size_t>(count(shape)));
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint64_t h = (i * 2654435761u + seed) & 0xffffffffu;
    h = (h ^ (h >> 15)) * 2246822519u & 0xffffffffu;
    h = (h ^ (h >> 13)) * 3266489917u & 0xffffffffu;
    h ^= h >> 16;
    const double value = double(h % 4001) / 1000 - 2;
    const double kept = std::nearbyint((kind == "positive" ? std::abs(value) + 0.3 : value) * 1000) / 1000;
    values[i] = kind == "small" ? kept / 4 : kept;
  }
  return tensor(values, shape).to(dtype);
}

Tensor golden_tensor(const Json& written, Dtype floating) {
  const Shape shape = written.at("shape");
  if (written.contains("seed")) return golden_draw(shape, written["seed"], written.value("kind", "any"), floating);
  const std::string kind = written.value("dtype", "floating");
  if (kind == "int64") return tensor(written["values"].get<std::vector<std::int64_t>>(), shape);
  std::vector<double> values;
  for (const Json& value : written.at("values")) values.push_back(number(value));
  if (kind == "boolean") return tensor(std::vector<unsigned char>(values.begin(), values.end()), shape);
  return tensor(values, shape).to(floating);
}

double golden_scale(const Json& expected) {
  double scale = 0;
  for (const Json& written : expected.at("values"))
    if (const double value = std::abs(number(written)); std::isfinite(value)) scale = std::max(scale, value);
  return std::min(scale, 100.0);
}

std::string golden_difference(const Tensor& actual, const Json& expected, double tolerance, double noise) {
  const Shape shape = expected.at("shape");
  if (actual.shape() != shape) return "has shape " + to_string(actual.shape()) + ", expected " + to_string(shape);
  const std::string kind = expected.value("dtype", "");
  if (kind.empty() ? !is_floating(actual.dtype()) : to_string(actual.dtype()) != kind)
    return "has dtype " + to_string(actual.dtype()) + ", expected " + (kind.empty() ? "a floating one" : kind);

  const std::vector<double> found = numbers(actual);
  std::vector<double> wanted;
  for (const Json& value : expected.at("values")) wanted.push_back(number(value));
  if (actual.dtype() == Dtype::float32) tolerance = std::max(tolerance, 1e-6);
  double scale = std::max(golden_scale(expected), noise);
  if (scale < 1e-9) scale = 1;   // all 0 in theory: rounding of the size of the inputs
  const std::size_t step = expected.value("step", 1);
  if (wanted.size() != (found.size() + step - 1) / step) return "the golden file holds another number of values";
  for (std::size_t i = 0; i < wanted.size(); ++i)
    if (!agrees(found[i * step], wanted[i], tolerance * (std::abs(wanted[i]) + scale)))
      return sentence("element " + std::to_string(i * step), found[i * step], wanted[i], shape);
  if (!expected.contains("sum")) return "";

  double total = 0, magnitude = 0;
  for (double value : found) total += value, magnitude += std::abs(value);
  const double wanted_total = number(expected["sum"]);
  const double slack = tolerance * (magnitude + scale * std::sqrt(double(found.size())));
  return agrees(total, wanted_total, slack) ? "" : sentence("the sum", total, wanted_total, shape);
}

}  // namespace surgeon::tests
