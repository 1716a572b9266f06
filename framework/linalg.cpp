// The derivatives of linear algebra; the values are in linalg/lapack.cpp. A rule has the inputs and the value of its op
// and nothing else, so two vectors that belong together (U and V) are one op's value, cut into slices.
#include "framework/linalg.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "framework/autograd.hpp"
#include "framework/errors.hpp"
#include "framework/linalg/gaps.hpp"
#include "framework/linalg/lapack.hpp"
#include "framework/ops.hpp"

namespace surgeon::linalg {
namespace {

// ---- Refusals and shapes -------------------------------------------------------------------------------------------

void require_matrix(const char* op, const Tensor& a) {
  require_floating(op, a);
  require(a.rank() >= 2, op, ": needs a matrix or a batch of them, not shape ", a.shape());
}
void require_square(const char* op, const Tensor& a) {
  require_matrix(op, a);
  require(a.shape(-1) == a.shape(-2), op, ": needs square matrices, not ", a.shape());
}

Tensor transposed(const Tensor& a) { return transpose(a, -1, -2); }
Tensor with_axis(const Tensor& x, int from_end) {
  Shape shape = x.shape();
  shape.insert(shape.end() - from_end, 1);
  return reshape(x, shape);
}
Tensor as_row(const Tensor& x) { return with_axis(x, 1); }      // [..., n] -> [..., 1, n]: one factor for each column
Tensor as_column(const Tensor& x) { return with_axis(x, 0); }   // [..., n] -> [..., n, 1]: one factor for each row
Tensor symmetric_part(const Tensor& a) { return 0.5 * (a + transposed(a)); }

// U diag(d) V^T
Tensor expand(const Tensor& U, const Tensor& d, const Tensor& V) {
  return matmul(U * as_row(d), V, {.transpose_b = true});
}

// ---- Rules ---------------------------------------------------------------------------------------------------------

Tensor upper(const Tensor& UV, const Tensor& a) { return slice(UV, -2, 0, a.shape(-2)); }
Tensor lower(const Tensor& UV, const Tensor& a) { return slice(UV, -2, a.shape(-2)); }

// The singular values of a, once their vectors are known: dS_i = u_i . dA v_i. These may change their sign, as the
// vectors do not when one goes through 0.
Tensor signed_values(const Tensor& a, const Tensor& UV) {
  Tensor value = [&] { NoRecord pause; return sum(upper(UV, a) * matmul(a, lower(UV, a)), -2); }();
  return record("svd", {a, UV}, std::move(value), [](const Ins& in, Out, Grad g) -> Grads {
    return {expand(upper(in[1], in[0]), g, lower(in[1], in[0])), Tensor()};
  });
}

// What a gradient with respect to singular values counts: not what reaches one of exactly 0, where |x| has its kink.
Tensor off_zero(const Tensor& g, const Tensor& s) { return g * (s != 0.0).to(s.dtype()); }

// Townsend 2016: with F_ij = 1 / (s_j^2 - s_i^2) and K = F o (U^T dU - dU^T U), likewise for V,
//   dA = U (K_U S + S K_V) V^T + (1 - U U^T) dU S^-1 V^T + U S^-1 dV^T (1 - V V^T)
Grads pull_vectors(const Ins& in, Out UV, Grad g) {
  const Tensor& a = in[0];
  const Tensor U = upper(UV, a), V = lower(UV, a), dU = upper(g, a), dV = lower(g, a), s = signed_values(a, UV);
  const Tensor plus = as_column(s) + as_row(s);                       // [..., k, k]
  const Tensor sums = plus + (plus == 0.0).to(a.dtype());             // where both are 0, the gap is refused anyway
  const auto turn = [&](const Tensor& projected) {
    const Tensor half = over_gaps(Gap::singular_values, projected, s) / sums;
    return half + transposed(half);
  };
  const Tensor UdU = matmul(U, dU, {.transpose_a = true}), VdV = matmul(V, dV, {.transpose_a = true});
  Tensor da = matmul(matmul(U, turn(UdU) * as_row(s) + as_column(s) * turn(VdV)), V, {.transpose_b = true});
  if (a.shape(-2) > a.shape(-1))
    da = da + matmul(over_gaps(Gap::from_zero, dU - matmul(U, UdU), s), V, {.transpose_b = true});
  if (a.shape(-2) < a.shape(-1))
    da = da + matmul(U, over_gaps(Gap::from_zero, dV - matmul(V, VdV), s), {.transpose_b = true});
  return {da};
}

// The eigenvalues of a symmetric a, once the vectors are known. dw_i = v_i . dA v_i.
Tensor eigenvalues(const Tensor& a, const Tensor& V, Tensor value) {
  return record("eigh", {a, V}, std::move(value), [](const Ins& in, Out, Grad g) -> Grads {
    return {expand(in[1], g, in[1]), Tensor()};
  });
}

// Giles 2008, 3.1: dA = V (F o (V^T dV)) V^T with F_ij = 1 / (w_j - w_i).
Grads pull_eigenvectors(const Ins& in, Out V, Grad g) {
  const Tensor& a = in[0];
  Tensor value = [&] { NoRecord pause; return sum(V * matmul(a, V), -2); }();
  const Tensor w = eigenvalues(a, V, std::move(value));
  const Tensor turn = over_gaps(Gap::eigenvalues, matmul(V, g, {.transpose_a = true}), w);
  return {matmul(matmul(V, turn), V, {.transpose_b = true})};
}

}  // namespace

// ---- Decompositions ------------------------------------------------------------------------------------------------

SvdResult svd(const Tensor& a) {
  require_matrix("svd", a);
  lapack::Svd made = lapack::svd("svd", a);
  const Tensor UV = record("svd", {a}, std::move(made.UV), pull_vectors);
  const Tensor S = record("svd", {a, UV}, std::move(made.S), [](const Ins& in, Out s, Grad g) -> Grads {
    return {expand(upper(in[1], in[0]), off_zero(g, s), lower(in[1], in[0])), Tensor()};
  });
  return {upper(UV, a), S, transposed(lower(UV, a))};
}

Tensor singular_values(const Tensor& a) {
  require_matrix("singular_values", a);
  return record("singular_values", {a}, lapack::singular_values("singular_values", a),
                [](const Ins& in, Out s, Grad g) -> Grads {
                  const SvdResult made = svd(in[0]);
                  return {matmul(made.U * as_row(off_zero(g, s)), made.Vh)};
                });
}

EighResult eigh(const Tensor& x) {
  require_square("eigh", x);
  const Tensor a = symmetric_part(x);
  lapack::Eigh made = lapack::eigh("eigh", a);
  const Tensor V = record("eigh", {a}, std::move(made.vectors), pull_eigenvectors);
  return {eigenvalues(a, V, std::move(made.values)), V};
}

// Murray 2016, section 3.1: dA = L^-T P L^-1, where P is the lower triangle of L^T dL with half its diagonal.
Tensor cholesky(const Tensor& x) {
  require_square("cholesky", x);
  const Tensor a = symmetric_part(x);
  return record("cholesky", {a}, lapack::cholesky("cholesky", a), [](const Ins&, Out L, Grad g) -> Grads {
    const Tensor M = matmul(L, g, {.transpose_a = true}), P = 0.5 * (tril(M) + tril(M, -1)), Lt = transposed(L);
    return {transposed(solve(Lt, transposed(solve(Lt, P))))};
  });
}

// ---- Systems -------------------------------------------------------------------------------------------------------

Tensor inverse(const Tensor& a) {
  require_square("inverse", a);
  return record("inverse", {a}, lapack::inverse("inverse", a), [](const Ins&, Out y, Grad g) -> Grads {
    return {-matmul(matmul(y, g, {.transpose_a = true}), y, {.transpose_b = true})};
  });
}

namespace {

// a and b of one batch shape.
Tensor solve_matrices(const Tensor& a, const Tensor& b) {
  return record("solve", {a, b}, lapack::solve("solve", a, b), [](const Ins& in, Out x, Grad g) -> Grads {
    const Tensor db = solve_matrices(transposed(in[0]), g);
    return {-matmul(db, x, {.transpose_b = true}), db};
  });
}

Shape common_batch(const Tensor& a, const Tensor& b) {
  Shape batch(std::size_t(std::max(a.rank(), b.rank()) - 2), 1);
  for (const Tensor& one : {a, b})
    for (int axis = -3; axis >= -one.rank(); --axis) {
      std::int64_t& size = batch[batch.size() + std::size_t(axis + 2)];
      const std::int64_t own = one.shape(axis);
      require(size == own || size == 1 || own == 1, "solve: ", a.shape(), " and ", b.shape(), ": batch sizes ", size,
              " and ", own, " do not broadcast");
      if (size == 1) size = own;
    }
  return batch;
}

Tensor in_batch(const Tensor& a, Shape batch) {
  batch.insert(batch.end(), {a.shape(-2), a.shape(-1)});
  return a.shape() == batch ? a : broadcast_to(a, batch);
}

}  // namespace

Tensor solve(const Tensor& a, const Tensor& b) {
  require_square("solve", a);
  require_floating("solve", b);
  require(a.dtype() == b.dtype(), "solve: ", a.dtype(), " with ", b.dtype(), " (dtypes never promote: use .to)");
  require(b.rank() >= 1, "solve: the right side must be a vector or a matrix, not a scalar");
  if (b.rank() == 1) {
    const Tensor x = solve(a, as_column(b));
    return reshape(x, Shape(x.shape().begin(), x.shape().end() - 1));
  }
  require(b.shape(-2) == a.shape(-1), "solve: ", a.shape(), " and ", b.shape(), ": sizes ", a.shape(-1), " and ",
          b.shape(-2), " differ");
  const Shape batch = common_batch(a, b);
  return solve_matrices(in_batch(a, batch), in_batch(b, batch));
}

SlogdetResult slogdet(const Tensor& a) {
  require_square("slogdet", a);
  lapack::Slogdet made = lapack::slogdet("slogdet", a);
  const auto none = [](const Ins&, Out, Grad) -> Grads { return {Tensor()}; };
  return {record("slogdet", {a}, std::move(made.sign), none),
          record("slogdet", {a}, std::move(made.logabsdet), [](const Ins& in, Out, Grad g) -> Grads {
            return {as_column(as_column(g)) * transposed(inverse(in[0]))};
          })};
}

Tensor matrix_power(const Tensor& a, std::int64_t n) {
  require_square("matrix_power", a);
  if (n == 0) {
    Tensor identity = [&] { NoRecord pause; return zeros_like(a) + eye(a.shape(-1), a.dtype()); }();
    return record("matrix_power", {a}, std::move(identity), [](const Ins&, Out, Grad) -> Grads { return {Tensor()}; });
  }
  Tensor square = n < 0 ? inverse(a) : a, power;
  for (std::uint64_t left = n < 0 ? -std::uint64_t(n) : std::uint64_t(n);; square = matmul(square, square)) {
    if (left & 1) power = power.empty() ? square : matmul(power, square);
    if ((left >>= 1) == 0) return power;
  }
}

// ---- Norms ---------------------------------------------------------------------------------------------------------

namespace {

const Over last = {.axes = {-1}, .keepdims = true};

// [..., n] -> [..., 1]. The derivative x / y is 0 where y is, and so are those that follow.
Tensor two_norm(const Tensor& x) {
  Tensor value = [&] {
    NoRecord pause;
    const Tensor most = max(abs(x), last), infinity = full({}, std::numeric_limits<double>::infinity(), x.dtype());
    const Tensor scale = where(most == 0.0, ones_like(most), where(most == infinity, ones_like(most), most));
    const Tensor y = x / scale;   // whose squares do not overflow
    return scale * sqrt(sum(y * y, last));
  }();
  return record("norm", {x}, std::move(value), [](const Ins& in, Out y, Grad g) -> Grads {
    const Tensor zero = y == 0.0;
    return {g * masked_fill(in[0] / masked_fill(y, zero, 1.0), zero, 0.0)};
  });
}

// [..., n] -> [..., 1]
Tensor vector_norm(const Tensor& x, Norm kind) {
  if (x.shape(-1) == 0 || kind == Norm::one) return sum(abs(x), last);
  return kind == Norm::two ? two_norm(x) : max(abs(x), last);
}

// [..., m, n] -> [..., 1]
Tensor matrix_norm(const Tensor& x, Norm kind) {
  if (kind == Norm::frobenius) {
    Shape flat(x.shape().begin(), x.shape().end() - 1);
    flat.back() *= x.shape(-1);
    return vector_norm(reshape(x, flat), Norm::two);
  }
  const Tensor s = singular_values(x);
  return kind == Norm::spectral && s.shape(-1) > 0 ? slice(s, -1, 0, 1) : sum(s, last);
}

}  // namespace

Tensor norm(const Tensor& x, Norm kind, const NormOptions& options) {
  require_floating("norm", x);
  const bool of_matrices = kind >= Norm::frobenius;
  if (of_matrices) require_matrix("norm", x);
  require(x.rank() >= 1, "norm: a scalar has no axis to take the norm along");
  const Tensor y = of_matrices ? matrix_norm(x, kind) : vector_norm(x, kind);
  if (options.keepdims) return of_matrices ? as_row(y) : y;
  return reshape(y, Shape(y.shape().begin(), y.shape().end() - 1));
}

}  // namespace surgeon::linalg
