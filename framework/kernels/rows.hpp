// Kernels over rows: a tensor seen as [rows, cols], contiguous. Reductions, transposes, and the fused ops' forward and
// backward passes. Every function here gives the same bits for any number of threads; who calls it has dealt with
// shapes and errors.
#pragma once

#include <cstdint>

#include "framework/kernels/dispatch.hpp"

namespace surgeon::kernels {

using Size = std::int64_t;

// ---- Whole tensors: these start threads when the work is worth it. T: float, double -------------------------------
// Sums are accumulated in float64, many lanes at a time, of float32 numbers added up in fours: 10^7 ones sum exactly.
// A sum of nothing is 0. sum_rows: y[rows]; sum_columns: x[batch, rows, cols], y[batch, cols].
template <class T> void sum_rows(const T* x, Size rows, Size cols, T* y);
template <class T> void sum_columns(const T* x, Size batch, Size rows, Size cols, T* y);
// A nan in the row comes through; cols >= 1.
template <class T> void max_rows(const T* x, Size rows, Size cols, T* y);
template <class T> void min_rows(const T* x, Size rows, Size cols, T* y);
// y[batch, cols, rows] = x[batch, rows, cols] transposed; element_size 1, 4 or 8 bytes.
void transpose(const void* x, Size batch, Size rows, Size cols, Size element_size, void* y);

// ---- One run of rows, on this thread: what the functions above and the ops hand out to threads ----------------------
template <class T>
struct Rows {
  double (*total)(const T* x, Size n);
  void (*sum)(const T* x, Size rows, Size cols, T* y);                             // y[rows]
  void (*add_columns)(const T* x, Size rows, Size cols, Size stride, double* y);   // y[c] += sum of column c
  void (*max)(const T* x, Size rows, Size cols, T* y);                             // y[rows]
  void (*min)(const T* x, Size rows, Size cols, T* y);

  // A row of -inf: softmax 0, log_softmax -inf, logsumexp -inf; gradients 0, whatever g holds.
  void (*softmax)(const T* x, Size rows, Size cols, T* y);
  void (*softmax_back)(const T* y, const T* g, Size rows, Size cols, T* dx);
  void (*log_softmax)(const T* x, Size rows, Size cols, T* y);
  void (*log_softmax_back)(const T* y, const T* g, Size rows, Size cols, T* dx);
  void (*logsumexp)(const T* x, Size rows, Size cols, T* y);                                // y[rows]
  void (*logsumexp_back)(const T* x, const T* y, const T* g, Size rows, Size cols, T* dx);  // y, g [rows]

  // back: dgamma and dbeta [cols] are added to. Any of dx, dgamma, dbeta may be null: nobody wants it.
  void (*layer_norm)(const T* x, const T* gamma, const T* beta, double eps, Size rows, Size cols, T* y);
  void (*layer_norm_back)(const T* x, const T* gamma, const T* g, double eps, Size rows, Size cols, T* dx,
                          T* dgamma, T* dbeta);
  void (*rms_norm)(const T* x, const T* gamma, double eps, Size rows, Size cols, T* y);
  void (*rms_norm_back)(const T* x, const T* gamma, const T* g, double eps, Size rows, Size cols, T* dx, T* dgamma);

  void (*gelu)(const T* x, T* y, Size n);   // exact, by erf
  void (*gelu_back)(const T* x, const T* g, T* dx, Size n);
  void (*gelu_tanh)(const T* x, T* y, Size n);
  void (*gelu_tanh_back)(const T* x, const T* g, T* dx, Size n);
  void (*silu)(const T* x, T* y, Size n);
  void (*silu_back)(const T* x, const T* g, T* dx, Size n);

  // Of one row of logits: -log of the smoothed likelihood; and its gradient times g.
  double (*cross_entropy)(const T* x, Size cols, Size target, double smoothing);
  void (*cross_entropy_back)(const T* x, Size cols, Size target, double smoothing, double g, T* dx);
};

template <class T> const Rows<T>& rows() noexcept;

// y[cols, rows] = x[rows, cols] transposed, with leading dimensions; for elements of 1, 4 and 8 bytes.
struct Transposes {
  void (*transpose1)(const void* x, Size rows, Size cols, Size ldx, void* y, Size ldy);
  void (*transpose4)(const void* x, Size rows, Size cols, Size ldx, void* y, Size ldy);
  void (*transpose8)(const void* x, Size rows, Size cols, Size ldx, void* y, Size ldy);
};

namespace baseline {
extern const Rows<float> rows_float;
extern const Rows<double> rows_double;
extern const Transposes transposes;
}
namespace v3 {
extern const Rows<float> rows_float;
extern const Rows<double> rows_double;
extern const Transposes transposes;
}
namespace v4 {
extern const Rows<float> rows_float;
extern const Rows<double> rows_double;
extern const Transposes transposes;
}

}  // namespace surgeon::kernels
