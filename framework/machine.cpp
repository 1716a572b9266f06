// What the kernels know of the machine, said to users.
#include "framework/machine.hpp"

#include <future>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "framework/errors.hpp"
#include "framework/kernels/dispatch.hpp"
#include "framework/kernels/gemm.hpp"
#include "framework/kernels/threads.hpp"

namespace surgeon {

int threads() noexcept { return kernels::thread_count(); }

int most_threads() noexcept { return kernels::most_blas_threads(); }

void set_threads(int n) {
  require(n >= 1 && n <= most_threads(), "set_threads: n must be from 1 to ", most_threads(), ", not ", n);
  kernels::set_thread_count(n);
}

ThreadsGuard::ThreadsGuard(int n) : before_(threads()) { set_threads(n); }
ThreadsGuard::~ThreadsGuard() { kernels::set_thread_count(before_); }

namespace {

// Throws unless n threads can live beside this one.
void try_threads(int n) {
  std::promise<void> go;
  const std::shared_future<void> gone = go.get_future().share();
  std::vector<std::thread> all;
  std::string failure;
  try {
    while (std::ssize(all) < n) all.emplace_back([gone] { gone.wait(); });
  } catch (const std::system_error& error) {
    failure = error.code().message();
  }
  go.set_value();
  for (std::thread& one : all) one.join();
  require<std::runtime_error>(failure.empty(), "cannot start ", n + 1, " threads: ", failure);
}

}  // namespace

void require_resources() {
  kernels::reserve_blas_buffers(threads());
  try_threads(threads() - 1);
}

std::vector<std::string> simd_levels() { return {"baseline", "x86-64-v3", "x86-64-v4"}; }
std::string simd_level() { return simd_levels()[std::size_t(kernels::isa())]; }

std::string blas_core() { return kernels::blas_core(); }
std::string blas_version() { return kernels::blas_version(); }

}  // namespace surgeon
