// Times works on request, so that two libraries can take turns without starting up each time. On stdin a line
// "seconds<tab>name"; on stdout one JSON line: the median time of a run within about that many seconds.
#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "experiments/bench/works.hpp"
#include "framework/framework.hpp"
#include "framework/machine.hpp"
#include "layers/layers.hpp"

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median_time(const std::function<void()>& run, double seconds) {
  run();
  std::vector<double> times;
  for (const double end = now() + seconds; times.size() < 3 || (now() < end && times.size() < 100000);) {
    const double start = now();
    run();
    times.push_back(now() - start);
  }
  std::nth_element(times.begin(), times.begin() + std::ptrdiff_t(times.size() / 2), times.end());
  return times[times.size() / 2];
}

// The most this process has held so far, in MiB.
double peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == "VmHWM:") return status >> word, std::stod(word) / 1024;
  return 0;
}

// Forward and backward of attention with 8 heads and T = 4096: what it takes above its inputs.
double attention_memory() {
  using namespace surgeon;
  Rng rng(1);
  const Shape shape{8, 4096, 64};
  const Tensor Q = randn(shape, rng), K = randn(shape, rng), V = randn(shape, rng), G = randn(shape, rng);
  const double before = peak_memory();
  for (const bool causal : {false, true})
    grad(attention(Q, K, V, {.causal = causal}).output, {Q, K, V}, {.cotangent = G});
  return peak_memory() - before;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "--memory") {
    std::cout << nlohmann::json{{"mib", attention_memory()}} << std::endl;
    return 0;
  }
  std::cout << nlohmann::json{{"blas", surgeon::blas_version()}, {"core", surgeon::blas_core()},
                              {"simd", surgeon::simd_level()}, {"threads", surgeon::threads()}}
            << std::endl;
  std::map<std::string, std::function<void()>> prepared;
  for (std::string line; std::getline(std::cin, line);) {
    const std::size_t tab = line.find('\t');
    const std::string name = tab == std::string::npos ? line : line.substr(tab + 1);
    const auto& works = surgeon::bench::works();
    const auto work = std::find_if(works.begin(), works.end(), [&](const auto& w) { return w.name == name; });
    if (work == works.end()) {
      std::cout << nlohmann::json{{"error", "no work is named " + name}} << std::endl;
      continue;
    }
    if (!prepared.contains(name)) prepared[name] = work->prepare();
    std::cout << nlohmann::json{{"seconds", median_time(prepared[name], std::stod(line))}} << std::endl;
  }
}
