// Google Benchmark over single ops and all works: `surgeon_bench --benchmark_filter=softmax`.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "experiments/bench/works.hpp"
#include "framework/framework.hpp"
#include "framework/machine.hpp"

using namespace surgeon;

namespace {

Tensor normal(const Shape& shape, std::uint64_t seed = 1) {
  Rng rng(seed);
  return randn(shape, rng);
}

// Forward alone, then forward and backward, of an op on one [rows, columns] tensor.
void add_op(const std::string& name, const std::function<Tensor(const Tensor&)>& op) {
  for (const auto& [rows, columns] : {std::pair{10, 10}, std::pair{4096, 512}}) {
    const std::string size = fmt::format("{}/{}x{}", name, rows, columns);
    const Tensor x = normal({rows, columns});
    benchmark::RegisterBenchmark((size + "/forward").c_str(), [=](benchmark::State& state) {
      const NoRecord pause;
      for (auto _ : state) benchmark::DoNotOptimize(op(x));
      state.SetItemsProcessed(state.iterations() * x.size());
    });
    benchmark::RegisterBenchmark((size + "/both").c_str(), [=](benchmark::State& state) {
      const Tensor g = ones_like(op(x));
      for (auto _ : state) benchmark::DoNotOptimize(grad(op(x), {x}, {.cotangent = g}));
      state.SetItemsProcessed(state.iterations() * x.size());
    });
  }
}

void add_product(std::int64_t n) {
  const Tensor a = normal({n, n}, 1), b = normal({n, n}, 2);
  benchmark::RegisterBenchmark(fmt::format("matmul/{}", n).c_str(), [=](benchmark::State& state) {
    const NoRecord pause;
    for (auto _ : state) benchmark::DoNotOptimize(matmul(a, b));
    state.counters["GFLOP/s"] =
        benchmark::Counter(2e-9 * double(n * n * n) * double(state.iterations()), benchmark::Counter::kIsRate);
  });
}

}  // namespace

int main(int argc, char** argv) {
  add_op("add", [](const Tensor& x) { return x + x; });
  add_op("exp", [](const Tensor& x) { return exp(x); });
  add_op("tanh", [](const Tensor& x) { return tanh(x); });
  add_op("gelu", [](const Tensor& x) { return gelu(x); });
  add_op("sum", [](const Tensor& x) { return sum(x, -1); });
  add_op("max", [](const Tensor& x) { return max(x, -1); });
  add_op("softmax", [](const Tensor& x) { return softmax(x); });
  add_op("log_softmax", [](const Tensor& x) { return log_softmax(x); });
  add_op("transpose", [](const Tensor& x) { return transpose(x, 0, 1); });
  add_op("layer_norm", [](const Tensor& x) {
    return layer_norm(x, full({x.shape(-1)}, 1.0), full({x.shape(-1)}, 0.0));
  });
  for (const std::int64_t n : {64, 256, 1024}) add_product(n);
  for (const auto& work : bench::works())
    benchmark::RegisterBenchmark(work.name.c_str(), [&work](benchmark::State& state) {
      const auto run = work.prepare();
      for (auto _ : state) run();
    });
  benchmark::AddCustomContext("blas", blas_version() + " " + blas_core());
  benchmark::AddCustomContext("simd", simd_level());
  benchmark::AddCustomContext("threads", std::to_string(threads()));
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
