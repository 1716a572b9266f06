// Deep, wide and tangled graphs: nothing recurses, nothing is quadratic, nothing is left behind. CTest also runs this
// file with a stack of 1 MiB.
#include <doctest/doctest.h>
#include <pthread.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <stdexcept>

#include "framework/framework.hpp"

using namespace surgeon;

namespace {

#ifndef __has_feature
#define __has_feature(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || __has_feature(address_sanitizer) || \
    __has_feature(thread_sanitizer)
constexpr int deep = 50'000, repeats = 1'000;   // sanitizers are slow and hungry
constexpr bool measures = false;
#else
constexpr int deep = 1'000'000, repeats = 10'000;
constexpr bool measures = true;
#endif

// Runs body on a thread of its own whose stack is 1 MiB.
void on_small_stack(std::function<void()> body) {
  pthread_attr_t attributes;
  REQUIRE(pthread_attr_init(&attributes) == 0);
  REQUIRE(pthread_attr_setstacksize(&attributes, std::size_t{1} << 20) == 0);
  pthread_t thread;
  const auto run = [](void* call) -> void* {
    (*static_cast<std::function<void()>*>(call))();
    return nullptr;
  };
  REQUIRE(pthread_create(&thread, &attributes, run, &body) == 0);
  REQUIRE(pthread_join(thread, nullptr) == 0);
  pthread_attr_destroy(&attributes);
}

Tensor chain(const Tensor& x, int n) {
  Tensor y = x;
  for (int i = 0; i < n; ++i) y = i % 2 ? y + 1.0 : y * 1.0;
  return y;
}

double seconds(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double resident_mib() {
  std::ifstream statm("/proc/self/statm");
  long size = 0, resident = 0;
  statm >> size >> resident;
  return double(resident) * double(sysconf(_SC_PAGESIZE)) / 1048576.0;
}

}  // namespace

TEST_SUITE("graph_sizes") {

TEST_CASE("graph sizes: a chain of a million ops goes forward, back and away on a stack of 1 MiB") {
  double slope = 0.0, value = 0.0;
  on_small_stack([&] {
    const Tensor x = full({}, 2.0, Dtype::float64);
    const Tensor y = chain(x, deep);
    value = y.item();
    slope = grad(y, {x})[0].item();
  });   // the graph is released on the small stack too
  CHECK(value == 2.0 + deep / 2);
  CHECK(slope == 1.0);
}

TEST_CASE("graph sizes: so does a chain through two inputs, and one whose gradients are recorded") {
  double slope = 0.0, second = 0.0;
  on_small_stack([&] {
    const Tensor x = full({}, 1.0, Dtype::float64), w = full({}, 1.0, Dtype::float64);
    Tensor y = x;
    for (int i = 0; i < deep / 10; ++i) y = y * w;
    const auto [dw] = grad(y, {w}, {.create_graph = true});
    slope = dw.item();
    second = grad(dw, {x})[0].item();
  });
  CHECK(slope == deep / 10);
  CHECK(second == deep / 10);
}

TEST_CASE("graph sizes: the last handle of a long chain may be let go inside another's release") {
  on_small_stack([] {
    const Tensor x = full({}, 2.0, Dtype::float64);
    Tensor left = chain(x, deep / 10), right = chain(x, deep / 10);
    Tensor both = left + right;
    left = right = Tensor();
    both = Tensor();
  });
  CHECK(true);
}

TEST_CASE("graph sizes: a fan of ten thousand uses of one tensor adds up, in linear time") {
  const Tensor x = full({4}, 1.0, Dtype::float64);
  const auto fan = [&](int width) {
    std::vector<Tensor> uses;
    for (int i = 0; i < width; ++i) uses.push_back(x * double(i));
    return concat(uses, 0);
  };
  const Tensor y = fan(10'000);
  CHECK(grad(sum(y), {x})[0].at({3}) == 10'000.0 * 9'999.0 / 2.0);
  // Some 0.2 s on an idle machine; with quadratic work 20 s at the least.
  if (measures) CHECK(seconds([&] { (void)grad(sum(fan(64'000)), {x}); }) < 5.0);
}

TEST_CASE("graph sizes: ladders of diamonds take linear time, not 2^n") {
  const auto ladder = [](int rungs) {
    const Tensor x = full({}, 1.0, Dtype::float64);
    Tensor y = x;
    for (int i = 0; i < rungs; ++i) {
      const Tensor left = y * 0.5, right = y * 0.5;
      y = left + right;
    }
    return grad(y, {x})[0].item();
  };
  CHECK(ladder(10'000) == 1.0);
  if (measures) CHECK(seconds([&] { CHECK(ladder(160'000) == 1.0); }) < 8.0);   // some 0.2 s when idle
}

TEST_CASE("graph sizes: a short walk through an old and large graph touches only what it needs") {
  if (!measures) return;
  const Tensor x = full({}, 1.0, Dtype::float64);
  const Tensor old = chain(x, 200'000);
  const double whole = seconds([&] { (void)grad(old, {x}); });
  const Tensor near = old * 2.0;
  const double part = seconds([&] {
    for (int i = 0; i < 100; ++i) (void)grad(near, {old});
  });
  CHECK(part < whole);
}

TEST_CASE("graph sizes: ten thousand iterations of forward, backward, second order and throw keep memory flat") {
  const Tensor x = full({16, 16}, 0.1), w = full({16, 16}, 0.2);
  const auto iteration = [&] {
    const Tensor y = sum(tanh(matmul(x, w)));
    const auto [dw] = grad(y, {w}, {.create_graph = true});
    (void)grad(sum(dw * dw), {w, x});
    try {
      (void)matmul(x, full({3, 3}, 1.0));
    } catch (const std::invalid_argument&) {
    }
  };
  for (int i = 0; i < repeats / 10; ++i) iteration();
  const double before = resident_mib();
  for (int i = 0; i < repeats; ++i) iteration();
  if (measures) CHECK(resident_mib() < before + 1.0);
}

}  // TEST_SUITE
