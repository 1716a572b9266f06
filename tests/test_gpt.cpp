// Two-layer GPTs against PyTorch: the loss and every gradient, from the file that tests/make_gpt_golden.py wrote.
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "layers/layers.hpp"
#include "tests/folder.hpp"

using namespace surgeon;
using Json = nlohmann::ordered_json;

namespace {

// As value() in make_gpt_golden.py.
Tensor wave(const Shape& shape, std::size_t place) {
  std::vector<double> values(static_cast<std::size_t>(count(shape)));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = 0.5 * std::sin(0.37 * double(i) * (1 + 0.1 * double(place)) + 1.3 * double(place)) +
                (shape.size() == 1 && place % 2 == 0 ? 1.0 : 0.0);
  return tensor(values, shape);
}

Transformer model_of(const Json& options) {
  TransformerConfig config{.vocabulary = 11, .context = 6, .layers = 2};
  config.block = {.d_model = 8, .heads = 2, .hidden = 12,
                  .norm_place = options["norm_place"] == "pre" ? NormPlace::pre : NormPlace::post,
                  .norm = options["norm"] == "layer" ? NormKind::layer : NormKind::rms,
                  .activation = options["activation"] == "gelu"   ? Activation::gelu
                                : options["activation"] == "relu" ? Activation::relu
                                                                  : Activation::swiglu,
                  .dtype = Dtype::float64};
  config.tied = options["tied"].get<bool>();
  config.attention.scale = options["scale"].get<bool>();
  Rng rng(0);
  return Transformer(config, rng);
}

}  // namespace

TEST_SUITE("gpt") {

TEST_CASE("loss and gradients of two-layer GPTs are PyTorch's") {
  std::ifstream file(tests::source_folder() / "tests/golden/gpt.json");
  REQUIRE(file);
  const Tensor tokens = tensor({1, 5, 2, 10, 0, 3, 7, 7, 4, 9, 6, 8}, {2, 6});
  const Tensor targets = tensor({5, 2, 10, 0, 3, 1, 7, 4, 9, 6, 8, -100}, {2, 6});
  for (const Json& golden : Json::parse(file)) {
    CAPTURE(golden["options"].dump());
    const Transformer model = model_of(golden["options"]);
    const Parameters parameters = model.parameters();
    REQUIRE(parameters.size() == golden["gradients"].size());
    std::size_t place = 0;
    for (const auto& [name, theirs] : golden["gradients"].items()) {   // the order of their list gives the values
      Tensor parameter = parameters[name];
      parameter.assign(wave(parameter.shape(), place++));
    }
    for (const bool watched : {false, true}) {   // one op for attention, then plain ops
      const Tensor loss = cross_entropy(watched ? model.look(tokens).output : model(tokens), targets);
      CHECK(std::abs(loss.item() - golden["loss"].get<double>()) < 1e-12);
      const std::vector<Tensor> gradients = grad(loss, parameters.tensors());
      std::size_t i = 0;
      for (const auto& named : parameters) {
        const auto& name = named.first;
        CAPTURE(name);
        double sum = 0, squares = 0, product = 0;
        const auto values = gradients[i++].values<double>();
        for (std::size_t k = 0; k < values.size(); ++k) {
          sum += values[k];
          squares += values[k] * values[k];
          product += values[k] * std::cos(0.61 * double(k));
        }
        const Json& theirs = golden["gradients"][name];
        CHECK(std::abs(sum - theirs[0].get<double>()) < 1e-11);
        CHECK(std::abs(std::sqrt(squares) - theirs[1].get<double>()) < 1e-11);
        CHECK(std::abs(product - theirs[2].get<double>()) < 1e-11);
      }
    }
  }
}

}
