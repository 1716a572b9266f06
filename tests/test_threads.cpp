// Several threads at once: each its own graphs and its own recording, with results to the bit those of one thread.
#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>

#include "framework/machine.hpp"
#include "framework/optim.hpp"
#include "layers/layers.hpp"

using namespace surgeon;

namespace {

bool bit_equal(const Tensor& a, const Tensor& b) {
  const auto x = a.values<float>(), y = b.values<float>();
  return a.shape() == b.shape() && std::memcmp(x.data(), y.data(), x.size_bytes()) == 0;
}

// Trains attention to copy its input backwards for some steps; the parameters after them.
std::vector<Tensor> trained(std::uint64_t seed, int steps) {
  Rng rng(seed);
  const MultiHeadAttention mha(16, 4, rng);
  std::vector<Tensor> parameters;
  for (const auto& [name, tensor] : mha.parameters()) parameters.push_back(tensor);
  for (int i = 0; i < steps; ++i) {
    const Tensor x = randn({8, 10, 16}, rng);
    const Tensor y = mha(x, {.mask = causal_mask(10)}).output;
    const Tensor loss = mse_loss(layer_norm(y, ones({16}), zeros({16})), slice(x, 1, -1, -to_end, -1));
    const auto gradients = grad(loss, parameters);
    for (std::size_t k = 0; k < parameters.size(); ++k) {
      const NoRecord pause;
      parameters[k].assign(parameters[k].detach() - 0.1 * gradients[k]);
    }
  }
  return parameters;
}

}  // namespace

TEST_SUITE("threads") {

TEST_CASE("threads: two threads with two models at once give the bits that each gives alone") {
  const auto first = trained(1, 12), second = trained(2, 12);
  for (int round = 0; round < 3; ++round) {
    std::vector<Tensor> a, b;
    std::thread one([&] { a = trained(1, 12); }), two([&] { b = trained(2, 12); });
    one.join();
    two.join();
    REQUIRE(a.size() == first.size());
    for (std::size_t k = 0; k < a.size(); ++k) {
      CHECK(bit_equal(a[k], first[k]));
      CHECK(bit_equal(b[k], second[k]));
    }
  }
}

TEST_CASE("threads: one graph may be walked by two threads at once, and let go on another") {
  Rng rng(3);
  const Tensor x = randn({40, 40}, rng), w = randn({40, 40}, rng);
  Tensor y = sum(tanh(matmul(x, w)));
  const auto [serial] = grad(y, {w});
  Tensor a, b;
  std::thread one([&] { a = grad(y, {w})[0]; }), two([&] { b = grad(y, {w})[0]; });
  one.join();
  two.join();
  CHECK(bit_equal(a, serial));
  CHECK(bit_equal(b, serial));
  std::thread([last = std::move(y)]() mutable { last = Tensor(); }).join();
  CHECK(grad(sum(w * w), {w})[0].shape() == Shape{40, 40});
}

TEST_CASE("threads: NoRecord pauses the thread it is on and no other") {
  const NoRecord pause;
  bool other_records = false, other_paused = true;
  std::thread([&] {
    other_records = recording();
    const NoRecord mine;
    other_paused = !recording();
  }).join();
  CHECK(other_records);
  CHECK(other_paused);
  CHECK_FALSE(recording());
}

TEST_CASE("threads: handles copied and dropped by many threads keep the count") {
  Rng rng(4);
  const Tensor shared = randn({100}, rng) * 2.0;
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        const Tensor copy = shared, view = reshape(copy, {10, 10});
        if (view.at({3, 3}) != shared.at({33})) ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(shared.size() == 100);
}

TEST_CASE("threads: the number of kernel threads changes no bit of elementwise ops and products, and runs repeat") {
  Rng rng(5);
  const Tensor x = randn({300, 300}, rng), w = randn({300, 300}, rng);
  const auto run = [&] {
    const Tensor y = matmul(x, w) * 0.01;
    return grad(sum(softmax(y) * x), {w})[0];
  };
  for (int n : {1, 2}) {
    const ThreadsGuard guard(n);
    const Tensor once = run();
    for (int i = 0; i < 3; ++i) CHECK(bit_equal(run(), once));
  }
}

TEST_CASE("threads: a child of fork() works on, on one thread") {
  const ThreadsGuard two(2);
  Rng rng(1);
  const Tensor x = randn({400, 400}, rng);
  const double before = sum(matmul(x, x)).item();   // the parent's team of threads is there now
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);
    const double after = sum(matmul(x, x)).item();   // cut differently for one thread: equal but for rounding
    ::_exit(std::abs(after - before) < 1e-4 * std::abs(before) && threads() == 1 ? 0 : 1);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

#ifdef _OPENMP
TEST_CASE("threads: inside an OpenMP loop of one's own the bits are those of one thread") {
  Rng rng(6);
  const Tensor x = randn({2, 300, 300}, rng), Q = randn({1, 200, 32}, rng);
  const auto run = [&] {
    const Tensor y = softmax(matmul(x, x) * 0.05), z = attention(Q, Q, Q).output;
    return grad(sum(y * x) + sum(z * z), {x, Q});
  };
  const auto alone = [&] {
    const ThreadsGuard one(1);
    return run();
  }();
  const ThreadsGuard four(4);
  std::atomic<int> wrong{0};
#pragma omp parallel for num_threads(2)
  for (int i = 0; i < 4; ++i) {
    const auto inside = run();
    if (!bit_equal(inside[0], alone[0]) || !bit_equal(inside[1], alone[1])) ++wrong;
  }
  CHECK(wrong == 0);
}
#endif

TEST_CASE("threads: no more than the BLAS was built for, and so many may multiply at once") {
  CHECK_THROWS_AS(set_threads(most_threads() + 1), std::invalid_argument);
  CHECK_THROWS_AS(set_threads(0), std::invalid_argument);
  const ThreadsGuard all(most_threads());
  Rng rng(7);
  const Tensor x = randn({1024, 1024}, rng), y = matmul(x, x);
  const ThreadsGuard one(1);
  CHECK(max(abs(matmul(x, x) - y)).item() < 1e-3);
}

TEST_CASE("require_resources: as many threads as there are processors have what they need") {
  require_resources();
  require_resources();   // again costs nothing
}

}  // TEST_SUITE
