// The ONNX project's own node vectors (Debian's libonnx-testdata), read at test time: every one whose operator and
// types we have must give the published output; the others are listed with the reason.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "tests/golden/golden.hpp"
#include "tests/onnx/onnx.hpp"

using namespace surgeon;
namespace fs = std::filesystem;
namespace onnx = surgeon::tests::onnx;

namespace {

fs::path vectors_folder() {
  if (const char* folder = std::getenv("ONNX_TESTDATA")) return folder;
  return "/usr/share/libonnx-testdata/data/node";
}

std::vector<Tensor> tensors_of(const fs::path& folder, const std::string& kind) {
  std::vector<Tensor> read;
  for (int i = 0; fs::exists(folder / (kind + "_" + std::to_string(i) + ".pb")); ++i)
    read.push_back(onnx::read_tensor(folder / (kind + "_" + std::to_string(i) + ".pb")));
  return read;
}

std::string difference(const Tensor& actual, const Tensor& expected, double tolerance) {
  if (actual.shape() != expected.shape())
    return "shape " + to_string(actual.shape()) + ", expected " + to_string(expected.shape());
  if (actual.dtype() != expected.dtype())
    return "dtype " + to_string(actual.dtype()) + ", expected " + to_string(expected.dtype());
  const Tensor a = reshape(actual.to(Dtype::float64), {-1}), b = reshape(expected.to(Dtype::float64), {-1});
  for (std::int64_t i = 0; i < a.size(); ++i) {
    const double x = a.at({i}), y = b.at({i});
    const bool same = x == y || (std::isnan(x) && std::isnan(y)) || std::abs(x - y) <= tolerance * std::abs(y) + 1e-6;
    if (!same) return "element " + std::to_string(i) + " is " + std::to_string(x) + ", expected " + std::to_string(y);
  }
  return "";
}

std::string run_vector(const fs::path& folder) {
  const onnx::Model model = onnx::read_model(folder / "model.onnx");
  // ONNX's own runner allows 1e-3. Its windows need that: they were published with pi = 3.1415.
  const double tolerance = folder.string().find("window") == std::string::npos ? 1e-5 : 1e-3;
  for (int set = 0; fs::exists(folder / ("test_data_set_" + std::to_string(set))); ++set) {
    const fs::path data = folder / ("test_data_set_" + std::to_string(set));
    const std::vector<Tensor> expected = tensors_of(data, "output");
    const std::vector<Tensor> actual = onnx::run(model, tensors_of(data, "input"));
    for (std::size_t i = 0; i < expected.size(); ++i) {
      if (i >= actual.size() || actual[i].empty()) throw onnx::LeftOut("an output we do not have");
      const std::string found = difference(actual[i], expected[i], tolerance);
      if (!found.empty()) return "output " + std::to_string(i) + ": " + found;
    }
  }
  return "";
}

struct Tally {
  int passed = 0;
  std::map<std::string, std::vector<std::string>> left_out = {};   // reason -> names
};

void run_one(const fs::path& folder, Tally& tally) {
  const std::string name = folder.filename();
  try {
    const std::string found = run_vector(folder);
    if (found.empty()) ++tally.passed;
    else FAIL_CHECK(name << ": " << found);
  } catch (const onnx::LeftOut& reason) {
    tally.left_out[reason.what()].push_back(name);
  } catch (const std::exception& error) {
    FAIL_CHECK(name << " throws: " << std::string(error.what()));
  }
}

void print(const Tally& tally, std::size_t all) {
  std::size_t left_out = 0;
  for (const auto& [reason, names] : tally.left_out) {
    left_out += names.size();
    std::cout << "onnx: left out, " << reason << ":";
    for (const std::string& name : names) std::cout << ' ' << name.substr(5);   // without "test_"
    std::cout << '\n';
  }
  std::cout << "onnx: " << all << " vectors, " << all - left_out << " run, " << tally.passed << " passed, " << left_out
            << " left out\n";
}

onnx::Node node_of(const tests::Json& written) {
  onnx::Node node{.type = written["type"]};
  for (const auto& [name, value] : written["attributes"].items()) {
    onnx::Attribute& attribute = node.attributes[name];
    if (value.is_string()) attribute.s = value;
    if (value.is_number()) attribute.f = value;
    if (value.is_number_integer()) attribute.i = value;
  }
  return node;
}

}  // namespace

TEST_SUITE("onnx") {
  TEST_CASE("the operators that ONNX gained for transformers give what their documents say") {
    for (const tests::Json& written : tests::golden_cases("onnx.json"))
      for (const Dtype dtype : {Dtype::float64, Dtype::float32}) {
        CAPTURE(written["name"].get<std::string>());
        std::vector<Tensor> inputs;
        for (const tests::Json& x : written["inputs"]) inputs.push_back(x.is_null() ? Tensor() : tests::golden_tensor(x, dtype));
        const std::vector<Tensor> outputs = onnx::evaluate(node_of(written), inputs);
        REQUIRE(outputs.size() >= written["outputs"].size());
        for (std::size_t i = 0; i < written["outputs"].size(); ++i)
          CHECK(tests::golden_difference(outputs[i], written["outputs"][i], 1e-11) == "");
      }
  }

  TEST_CASE("every ONNX node vector that our ops can express gives the published output") {
    const fs::path folder = vectors_folder();
    if (!fs::is_directory(folder)) {
      MESSAGE("skipped: " << folder.string() << " is absent (Debian package libonnx-testdata)");
      return;
    }
    std::vector<fs::path> all;
    for (const auto& entry : fs::directory_iterator(folder)) all.push_back(entry.path());
    std::sort(all.begin(), all.end());
    Tally tally;
    for (const fs::path& one : all) run_one(one, tally);
    print(tally, all.size());
    CHECK(tally.passed > 400);
  }
}
