// Where a gap is too narrow to divide by, the refusal that names both values.
#include "framework/linalg/gaps.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "framework/autograd.hpp"
#include "framework/detail/node.hpp"
#include "framework/errors.hpp"
#include "framework/linalg/lapack.hpp"
#include "framework/ops.hpp"

namespace surgeon::linalg {
namespace {

const char* op_of(Gap kind) { return kind == Gap::eigenvalues ? "eigh" : "svd"; }

[[noreturn]] void refuse_gap(Gap kind, const std::string& which, double one, double other) {
  const char* noun = kind == Gap::eigenvalues ? "eigen" : "singular ";
  if (kind == Gap::from_zero)
    throw std::invalid_argument(sentence("svd: ", which, " has the singular value ", other,
                                         ", so close to 0 that its vectors have no derivative"));
  throw std::invalid_argument(sentence(op_of(kind), ": ", which, " has the ", noun, "values ", one, " and ", other,
                                       ", so close that their vectors have no derivative"));
}

// The b-th matrix of x, [rows, k], over the gaps of the b-th row of s.
template <class T>
void divide_by_gaps(Gap kind, const Tensor& x, const Tensor& s, const Tensor& y, std::int64_t b) {
  const std::int64_t rows = x.shape(-2), k = x.shape(-1);
  const T* value = detail::data<T>(s) + b * k;
  T largest = 0;
  for (std::int64_t j = 0; j < k; ++j) largest = std::max(largest, std::abs(value[j]));
  const T narrow = T(k) * std::numeric_limits<T>::epsilon() * largest;
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < k; ++j) {
      const T number = detail::data<T>(x)[(b * rows + i) * k + j], from = kind == Gap::from_zero ? T(0) : value[i];
      T& result = detail::fresh<T>(y)[(b * rows + i) * k + j];
      if (kind != Gap::from_zero && i == j) result = 0;
      else if (std::abs(value[j] - from) > narrow) result = number / (value[j] - from);
      else if (std::abs(number) > 0) refuse_gap(kind, lapack::which(x, b), double(from), double(value[j]));
      else result = number;   // 0, or nan
    }
}

}  // namespace

Tensor over_gaps(Gap kind, const Tensor& x, const Tensor& s) {
  Tensor value = detail::make(x.shape(), x.dtype());
  const std::int64_t matrices = x.size() == 0 ? 0 : s.size() / s.shape(-1);
  detail::visit_floating(x.dtype(), [&]<class T>(T) {
    for (std::int64_t b = 0; b < matrices; ++b) divide_by_gaps<T>(kind, x, s, value, b);
  });
  return record(op_of(kind), {x, s}, std::move(value), [kind](const Ins& in, Out y, Grad g) -> Grads {
    Tensor ds;
    if (in.wanted(1)) {
      const Tensor q = over_gaps(kind, g * y, in[1]);
      ds = kind == Gap::from_zero ? -sum(q, -2) : sum(q, -1) - sum(q, -2);
    }
    return {over_gaps(kind, g, in[1]), ds};
  });
}

}  // namespace surgeon::linalg
