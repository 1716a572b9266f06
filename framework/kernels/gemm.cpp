// The only file that sees the system's cblas.h.
#include "framework/kernels/gemm.hpp"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"   // clang's: it speaks of C's complex numbers
#include <cblas.h>
#pragma GCC diagnostic pop
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>
#include <sstream>
#include <string_view>
#include <vector>

#include "framework/kernels/threads.hpp"

namespace surgeon::kernels {

#ifdef SURGEON_OPENBLAS   // said by CMake when the library has these; its cblas.h may still be another's
extern "C" {
char* openblas_get_corename(void);
char* openblas_get_config(void);
void openblas_set_num_threads(int);
// Its own, but exported; where they are missing, buffers are mapped at the first product.
__attribute__((weak)) void* blas_memory_alloc(int);
__attribute__((weak)) void blas_memory_free(void*);
}
#else
namespace {
const char* openblas_get_corename() { return "unknown"; }
const char* openblas_get_config() { return "unknown BLAS"; }
void openblas_set_num_threads(int) {}
void* (*blas_memory_alloc)(int) = nullptr;
void (*blas_memory_free)(void*) = nullptr;
}  // namespace
#endif

std::string blas_core() { return openblas_get_corename(); }

std::string blas_version() {
  std::istringstream words(openblas_get_config());
  std::string name, version;
  words >> name >> version;
  return name + " " + version;
}

void hold_blas_at_one_thread() {
  static const bool done = (openblas_set_num_threads(1), reserve_blas_buffers(thread_count()), true);
  (void)done;
}

namespace {

constexpr std::size_t blas_buffer = std::size_t{132} << 20;   // 128 MiB on x86-64 and ARM, and what lies around it

std::size_t stack_size() noexcept {
  pthread_attr_t attributes;
  std::size_t size = 0;
  if (::pthread_getattr_default_np(&attributes) != 0) return std::size_t{8} << 20;
  ::pthread_attr_getstacksize(&attributes, &size);
  ::pthread_attr_destroy(&attributes);
  return size;
}

// Throws std::bad_alloc unless that many mappings of these sizes can live at once.
void try_mappings(int n, std::size_t bytes) {
  std::vector<void*> mapped;
  mapped.reserve(std::size_t(n));
  while (std::ssize(mapped) < n) {
    void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) break;
    mapped.push_back(at);
  }
  const bool all = std::ssize(mapped) == n;
  for (void* at : mapped) ::munmap(at, bytes);
  if (!all) throw std::bad_alloc();
}

}  // namespace

int most_blas_threads() noexcept {
#ifdef SURGEON_OPENBLAS
  static const int most = [] {   // "OpenBLAS 0.3.21 ... MAX_THREADS=128"
    constexpr std::string_view name = "MAX_THREADS=";
    const std::string_view said = openblas_get_config();
    const std::size_t at = said.find(name);
    return at == std::string_view::npos ? 64 : std::max(1, std::atoi(said.data() + at + name.size()));
  }();
  return most;
#else
  return 1024;
#endif
}

void reserve_blas_buffers(int n) {
#ifdef SURGEON_OPENBLAS
  static std::mutex lock;
  static int reserved = 0;
  const std::lock_guard guard(lock);
  if (n <= reserved) return;
  try_mappings(n - reserved, blas_buffer + stack_size());
  std::vector<void*> buffers;
  if (blas_memory_alloc && blas_memory_free)
    while (std::ssize(buffers) < n) buffers.push_back(blas_memory_alloc(0));
  for (void* buffer : buffers) blas_memory_free(buffer);   // it keeps them for the next ones who ask
  reserved = n;
#else
  (void)n;
#endif
}

namespace {

CBLAS_TRANSPOSE flag(Transposed lies) { return lies == Transposed::yes ? CblasTrans : CblasNoTrans; }

// The step from row to row, which BLAS checks even where there is one row or none to step over.
template <class T>
int leading(const MatrixView<T>& x) {
  const bool upright = x.lies == Transposed::no;
  const std::int64_t lines = upright ? x.rows : x.columns, line = upright ? x.columns : x.rows;
  return int(std::max<std::int64_t>({lines > 1 ? x.step : line, line, 1}));
}

// One product whose sizes BLAS can count.
void call(float alpha, const MatrixView<const float>& A, const MatrixView<const float>& B, float beta,
          const MatrixView<float>& C) {
  cblas_sgemm(CblasRowMajor, flag(A.lies), flag(B.lies), int(C.rows), int(C.columns), int(A.columns), alpha, A.data,
              leading(A), B.data, leading(B), beta, C.data, leading(C));
}
void call(double alpha, const MatrixView<const double>& A, const MatrixView<const double>& B, double beta,
          const MatrixView<double>& C) {
  cblas_dgemm(CblasRowMajor, flag(A.lies), flag(B.lies), int(C.rows), int(C.columns), int(A.columns), alpha, A.data,
              leading(A), B.data, leading(B), beta, C.data, leading(C));
}

// body(begin, end) for [0, n) in pieces that BLAS can count.
template <class Body>
void in_pieces(std::int64_t n, const Body& body) {
  const std::int64_t most = largest_blas_size.load(std::memory_order_relaxed);
  for (std::int64_t begin = 0; begin < n; begin += most) body(begin, std::min(begin + most, n));
}

}  // namespace

template <class T>
void gemm(std::type_identity_t<T> alpha, const MatrixView<const T>& A, const MatrixView<const T>& B,
          std::type_identity_t<T> beta, const MatrixView<T>& C) {
  hold_blas_at_one_thread();
  const std::int64_t inner = A.columns;
  if (C.rows == 0 || C.columns == 0) return;
  if (std::max({C.rows, C.columns, inner}) <= largest_blas_size.load(std::memory_order_relaxed))
    return call(alpha, A, B, beta, C);
  in_pieces(C.rows, [&](auto top, auto bottom) {
    in_pieces(C.columns, [&](auto left, auto right) {
      const MatrixView<const T> a = some_rows(A, top, bottom), b = some_columns(B, left, right);
      const MatrixView<T> c = some_columns(some_rows(C, top, bottom), left, right);
      if (inner == 0) call(alpha, a, b, beta, c);
      in_pieces(inner, [&](auto begin, auto end) {
        call(alpha, some_columns(a, begin, end), some_rows(b, begin, end), begin == 0 ? beta : T(1), c);
      });
    });
  });
}

template <class T>
void gemm_parallel(std::type_identity_t<T> alpha, const MatrixView<const T>& A, const MatrixView<const T>& B,
                   std::type_identity_t<T> beta, const MatrixView<T>& C) {
  hold_blas_at_one_thread();
  constexpr std::int64_t worth_a_thread = 1 << 18;   // multiply-adds; below, starting the team costs more than it saves
  const bool by_rows = C.rows >= C.columns;
  const std::int64_t per_line = std::max<std::int64_t>(1, A.columns * (by_rows ? C.columns : C.rows));
  parallel_for(by_rows ? C.rows : C.columns, std::max<std::int64_t>(16, worth_a_thread / per_line),
               [&](auto begin, auto end) {
                 if (by_rows) gemm(alpha, some_rows(A, begin, end), B, beta, some_rows(C, begin, end));
                 else gemm(alpha, A, some_columns(B, begin, end), beta, some_columns(C, begin, end));
               });
}

template void gemm(float, const MatrixView<const float>&, const MatrixView<const float>&, float,
                   const MatrixView<float>&);
template void gemm(double, const MatrixView<const double>&, const MatrixView<const double>&, double,
                   const MatrixView<double>&);
template void gemm_parallel(float, const MatrixView<const float>&, const MatrixView<const float>&, float,
                            const MatrixView<float>&);
template void gemm_parallel(double, const MatrixView<const double>&, const MatrixView<const double>&, double,
                            const MatrixView<double>&);

}  // namespace surgeon::kernels
