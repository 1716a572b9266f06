// An experiment of one's own, outside this repository: how the norm of a random vector grows with its length. It has
// its options, help, run folder, rows and figure from the lab.
#include <cmath>
#include <cstdint>
#include <iostream>
#include <vector>

#include "experiments/figures.hpp"
#include "experiments/lab.hpp"
#include "framework/framework.hpp"

using namespace surgeon;

namespace {

struct Knobs {
  std::vector<std::int64_t> lengths = {16, 64, 256};
};

void options(Options& o, Knobs& knobs) { o.add("--lengths", knobs.lengths, "lengths of the vector", {.low = 1}); }

void run(Lab& lab, const Knobs& knobs) {
  Rng rng = lab.rng();
  Series measured{.name = "norm"};
  for (const std::int64_t n : knobs.lengths) {
    const Tensor x = randn({n}, rng, Dtype::float64);
    const double norm = sqrt(sum(x * x)).item();
    lab.row({{"length", n}, {"norm", norm}});
    measured.x.push_back(double(n));
    measured.y.push_back(norm);
  }
  lab.draw({.name = "norms",
            .title = "The norm of a random vector",
            .panels = {LineChart{.x_label = "length", .y_label = "norm", .series = {measured}}}});
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<Experiment> experiments = {
      {"norms", "How does the norm of a random vector grow?", "It grows as the root of the length.", {"norms"},
       knobs<Knobs>(options, run)}};
  const std::vector<std::string> typed(argv + 1, argv + argc);
  return surgeon_command(experiments, typed.empty() ? std::vector<std::string>{"norms"} : typed, std::cout, std::cerr,
                         "norms");
}
