// The only file that sees xtensor-blas. LAPACK counts along columns: a row-major matrix is its transpose there, which
// several functions below use instead of a copy. It overwrites what it is given, and hangs or goes astray on nan, so
// everything is copied and checked first.
#include "framework/linalg/lapack.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <exception>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "framework/xtensor.hpp"
#include <xtensor-blas/xlinalg.hpp>

#include "framework/detail/node.hpp"
#include "framework/errors.hpp"
#include "framework/kernels/gemm.hpp"
#include "framework/kernels/threads.hpp"

namespace surgeon::lapack {

using detail::data;
using detail::fresh;
using detail::make;

namespace {

using Size = std::int64_t;
template <class T> using Columns = xt::xtensor<T, 2, xt::layout_type::column_major>;

// ---- Batches -------------------------------------------------------------------------------------------------------

Shape batch_of(const Tensor& a) { return {a.shape().begin(), a.shape().end() - 2}; }
Shape with(Shape batch, std::initializer_list<Size> sizes) {
  batch.insert(batch.end(), sizes);
  return batch;
}
Size matrices(const Tensor& a) { return count(batch_of(a)); }

// "[1, 2]": the place of the i-th element of a shape.
std::string place(const Shape& shape, Size i) {
  Shape index(shape.size());
  for (std::size_t axis = shape.size(); axis-- > 0; i /= shape[axis]) index[axis] = i % shape[axis];
  return to_string(index);
}

void require_countable(const char* op, const Tensor& a) {
  const Size most = kernels::largest_blas_size.load();
  require<std::length_error>(std::max(a.shape(-1), a.shape(-2)) <= most, op, ": ", a.shape(), ": LAPACK counts to ",
                             most, " only");
}

void require_finite(const char* op, const Tensor& a) {
  require_countable(op, a);
  detail::visit_floating(a.dtype(), [&]<class T>(T) {
    const T* values = data<T>(a);
    const T* bad = std::find_if(values, values + a.size(), [](T v) { return !std::isfinite(v); });
    if (bad == values + a.size()) return;
    const Size m = a.shape(-2), n = a.shape(-1), i = bad - values;
    throw std::invalid_argument(
        sentence(op, ": ", which(a, i / (m * n)), " has ", *bad, " at ", place({m, n}, i % (m * n))));
  });
}

// No exception may leave a thread: one of xtensor-blas (out of memory) becomes a negative info, as for a bad argument.
template <class Body, class T>
int info_of(const Body& body, T t, Size i) noexcept {
  try {
    return body(t, i);
  } catch (const std::exception&) {
    return -1;
  }
}

// body(T{}, i) for each matrix of a batch. What it returns is LAPACK's info: the first above 0 is reported with
// `complaint`, the same one for any number of threads.
template <class Body>
void for_each(const char* op, const Tensor& a, const char* complaint, const Body& body) {
  kernels::hold_blas_at_one_thread();
  const Size m = a.shape(-2), n = a.shape(-1);
  std::vector<int> info(std::size_t(matrices(a)));
  constexpr Size worth_a_thread = 1 << 16;   // multiply-adds, of which LAPACK makes some ten m n k
  const Size grain = worth_a_thread / (m * n * std::min(m, n) + 1) + 1;
  detail::visit_floating(a.dtype(), [&]<class T>(T t) {
    kernels::parallel_for(std::ssize(info), grain, [&](Size begin, Size end) {
      for (Size i = begin; i < end; ++i) info[std::size_t(i)] = info_of(body, t, i);
    });
  });
  const auto failed = std::find_if(info.begin(), info.end(), [](int one) { return one != 0; });
  if (failed == info.end()) return;
  const std::string name = which(a, failed - info.begin());
  require<std::runtime_error>(*failed > 0, op, ": LAPACK could not work on ", name, " (out of memory?)");
  throw std::invalid_argument(sentence(op, ": ", name, complaint));
}

// ---- One matrix ----------------------------------------------------------------------------------------------------

// The transpose of row-major a [m, n], without moving a number: [n, m] in columns.
template <class T>
Columns<T> transposed(const T* a, Size m, Size n) {
  Columns<T> copy(typename Columns<T>::shape_type{std::size_t(n), std::size_t(m)});
  std::copy_n(a, m * n, copy.data());
  return copy;
}

// Row-major [m, n] from row-major [n, m].
template <class T>
void transpose_into(const T* from, Size n, Size m, T* to) {
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < n; ++j) to[i * n + j] = from[j * m + i];
}

// a itself, in columns.
template <class T>
Columns<T> in_columns(const T* a, Size m, Size n) {
  Columns<T> copy(typename Columns<T>::shape_type{std::size_t(m), std::size_t(n)});
  transpose_into(a, m, n, copy.data());
  return copy;
}

// Turns each column of row-major a [rows, k] so that the largest of its first m elements is positive.
template <class T>
void fix_signs(T* a, Size rows, Size m, Size k) {
  for (Size j = 0; j < k; ++j) {
    T largest = 0;
    for (Size i = 0; i < m; ++i)
      if (std::abs(a[i * k + j]) > std::abs(largest)) largest = a[i * k + j];
    if (largest < 0)
      for (Size i = 0; i < rows; ++i) a[i * k + j] = -a[i * k + j];
  }
}

}  // namespace

std::string which(const Tensor& a, Size i) {
  if (a.rank() == 2) return "the matrix";
  return "matrix " + place(batch_of(a), i) + " of the batch " + to_string(batch_of(a));
}

constexpr const char* no_convergence = " has a spectrum that LAPACK's iteration did not find";
constexpr const char* is_singular = " is singular";

// ---- Decompositions ------------------------------------------------------------------------------------------------

Svd svd(const char* op, const Tensor& a) {
  require_finite(op, a);
  const Size m = a.shape(-2), n = a.shape(-1), k = std::min(m, n);
  const Svd made{make(with(batch_of(a), {m + n, k}), a.dtype()), make(with(batch_of(a), {k}), a.dtype())};
  if (a.size() == 0) return made;
  for_each(op, a, no_convergence, [&]<class T>(T, Size i) {
    Columns<T> copy = transposed(data<T>(a) + i * m * n, m, n);
    const auto [info, v, s, ut] = xt::lapack::gesdd(copy, 'S');   // A^T = V S U^T
    T* UV = fresh<T>(made.UV) + i * (m + n) * k;
    std::copy_n(ut.data(), m * k, UV);   // U^T [k, m] in columns is U in rows
    transpose_into(v.data(), k, n, UV + m * k);
    fix_signs(UV, m + n, m, k);
    std::copy_n(s.data(), k, fresh<T>(made.S) + i * k);
    return info;
  });
  return made;
}

Tensor singular_values(const char* op, const Tensor& a) {
  require_finite(op, a);
  const Size m = a.shape(-2), n = a.shape(-1), k = std::min(m, n);
  const Tensor S = make(with(batch_of(a), {k}), a.dtype());
  if (a.size() == 0) return S;
  for_each(op, a, no_convergence, [&]<class T>(T, Size i) {
    Columns<T> copy = transposed(data<T>(a) + i * m * n, m, n);
    const auto found = xt::lapack::gesdd(copy, 'N');
    std::copy_n(std::get<2>(found).data(), k, fresh<T>(S) + i * k);
    return std::get<0>(found);
  });
  return S;
}

Eigh eigh(const char* op, const Tensor& a) {
  require_finite(op, a);
  const Size n = a.shape(-1);
  const Eigh made{make(a.shape(), a.dtype()), make(with(batch_of(a), {n}), a.dtype())};
  if (a.size() == 0) return made;
  for_each(op, a, no_convergence, [&]<class T>(T, Size i) {
    Columns<T> V = transposed(data<T>(a) + i * n * n, n, n);
    xt::xtensor<T, 1> w(typename xt::xtensor<T, 1>::shape_type{std::size_t(n)});
    const int info = xt::lapack::syevd(V, 'V', 'L', w);
    transpose_into(V.data(), n, n, fresh<T>(made.vectors) + i * n * n);
    fix_signs(fresh<T>(made.vectors) + i * n * n, n, n, n);
    std::copy_n(w.data(), n, fresh<T>(made.values) + i * n);
    return info;
  });
  return made;
}

Tensor cholesky(const char* op, const Tensor& a) {
  require_finite(op, a);
  const Size n = a.shape(-1);
  const Tensor L = make(a.shape(), a.dtype());
  if (a.size() == 0) return L;
  for_each(op, a, " is not positive definite", [&]<class T>(T, Size i) {
    Columns<T> R = transposed(data<T>(a) + i * n * n, n, n);
    const int info = xt::lapack::potr(R, 'U');   // R^T R, and R in columns is L = R^T in rows
    T* to = fresh<T>(L) + i * n * n;
    std::copy_n(R.data(), n * n, to);
    for (Size row = 0; row < n; ++row) std::fill(to + row * n + row + 1, to + (row + 1) * n, T(0));
    return info;
  });
  return L;
}

// ---- Systems -------------------------------------------------------------------------------------------------------

Tensor solve(const char* op, const Tensor& a, const Tensor& b) {
  require_finite(op, a);
  require_countable(op, b);
  const Size n = b.shape(-2), k = b.shape(-1);
  const Tensor x = make(b.shape(), b.dtype());
  if (x.size() == 0) return x;
  for_each(op, a, is_singular, [&]<class T>(T, Size i) {
    Columns<T> A = in_columns(data<T>(a) + i * n * n, n, n), B = in_columns(data<T>(b) + i * n * k, n, k);
    const int info = xt::lapack::gesv(A, B);
    transpose_into(B.data(), k, n, fresh<T>(x) + i * n * k);
    return info;
  });
  return x;
}

Tensor inverse(const char* op, const Tensor& a) {
  require_finite(op, a);
  const Size n = a.shape(-1);
  const Tensor y = make(a.shape(), a.dtype());
  if (a.size() == 0) return y;
  for_each(op, a, is_singular, [&]<class T>(T, Size i) {
    Columns<T> LU = transposed(data<T>(a) + i * n * n, n, n);   // the inverse of a transpose is the inverse transposed
    xt::uvector<xt::blas_index_t> pivots(static_cast<std::size_t>(n));
    int info = xt::lapack::getrf(LU, pivots);
    if (info == 0) info = xt::lapack::getri(LU, pivots);
    std::copy_n(LU.data(), n * n, fresh<T>(y) + i * n * n);
    return info;
  });
  return y;
}

Slogdet slogdet(const char* op, const Tensor& a) {
  require_countable(op, a);
  require_finite(op, a);
  const Size n = a.shape(-1);
  const Slogdet made{make(batch_of(a), a.dtype()), make(batch_of(a), a.dtype())};
  for_each(op, a, is_singular, [&]<class T>(T, Size i) {
    T sign = 1, logabsdet = 0;   // of a 0 x 0 matrix
    if (n > 0) std::tie(sign, logabsdet) = xt::linalg::slogdet(transposed(data<T>(a) + i * n * n, n, n));
    fresh<T>(made.sign)[i] = sign;
    fresh<T>(made.logabsdet)[i] = logabsdet;
    return 0;
  });
  return made;
}

}  // namespace surgeon::lapack
