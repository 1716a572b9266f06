// For isa_rows.cpp only: the smooth activations, each with its value and its slope.
#pragma once

#include <iterator>

#include "framework/kernels/row_parts.hpp"

namespace surgeon::kernels {
namespace {

// Phi(-|x|) exp(x^2 / 2), the Mills ratio but for a factor, as a polynomial in 1 / (1 + 0.335 |x|), within 2e-8.
template <class B>
B upper_tail(const B& distance) {
  constexpr float terms[] = {-0.027790336541565368f, 0.15306489973667872f, -0.316813182073125f, 0.26894419824196f,
                             -0.0914454789004947f, 0.13792425079619366f, 0.10731082745548694f, 0.1352906582785834f,
                             0.1335092396358963f, 4.92027713930687e-06f};
  const B t = B(1.f) / multiply_add(distance, B(0.335f), B(1.f));
  B p(terms[0]);
  for (std::size_t k = 1; k < std::size(terms); ++k) p = multiply_add(p, t, B(terms[k]));
  return p;
}

// x Phi(x) and Phi(x) + x phi(x)
struct GeluExact {
  template <class T, class B> static B bell(const B& x) { return exp_gradual<T>(x * x * B(T(-0.5))); }
  template <class T, class B> static B cdf(const B& x, const B& bell) {
    using One = Batch<T>;
    if constexpr (sizeof(T) == 4) {
      const B tail = upper_tail(by_batch([](auto& x) { return xsimd::abs(x); }, x)) * bell;
      return by_batch([](auto& x, auto& tail) {
        return xsimd::select(x < One(T(0)), tail, One(T(1)) - tail);
      }, x, tail);
    } else {
      // erfc keeps its digits where 1 + erf has none left
      return B(T(0.5)) * by_batch([](auto& x) { return xsimd::erfc(x); }, x * B(T(-0.7071067811865476)));
    }
  }
  template <class T, class B> static B value(const B& x) { return x * cdf<T>(x, bell<T>(x)); }
  template <class T, class B> static B slope(const B& x) {
    const B density = bell<T>(x);
    return cdf<T>(x, density) + x * density * B(T(0.3989422804014327));
  }
};

// 1 / (1 + exp(-x)): exp may overflow, and the result is then 0.
template <class T, class B> B logistic(const B& x) { return B(T(1)) / (B(T(1)) + exp_gradual<T>(-x)); }

// x sigmoid(x) and s (1 + x (1 - s))
struct Silu {
  template <class T, class B> static B value(const B& x) { return x * logistic<T>(x); }
  template <class T, class B> static B slope(const B& x) {
    const B s = logistic<T>(x);
    return s * (B(T(1)) + x * (B(T(1)) - s));
  }
};

// x (1 + tanh(u)) / 2 = x sigmoid(2 u), with u = sqrt(2 / pi) (x + 0.044715 x^3)
struct GeluTanh {
  static constexpr double twice = 1.5957691216057308, cubic = 0.044715;
  template <class T, class B> static B gate(const B& x) {
    return logistic<T>(x * (B(T(twice)) + B(T(twice * cubic)) * (x * x)));
  }
  template <class T, class B> static B value(const B& x) { return x * gate<T>(x); }
  template <class T, class B> static B slope(const B& x) {
    const B s = gate<T>(x);
    const B near = by_batch([](auto& x) {   // beyond, s is flat, but x^2 may overflow
      return xsimd::select(xsimd::abs(x) > Batch<T>(T(100)), Batch<T>(T(0)), x);
    }, x);
    return s + s * (B(T(1)) - s) * near * (B(T(twice)) + B(T(3 * twice * cubic)) * (near * near));
  }
};

template <class F, class T>
void apply(const T* x, T* y, Size n) {
  each_or_four<T>(n, [=](Size i, auto part) { put(y + i, F::template value<T>(take(x + i, part)), part); });
}
template <class F, class T>
void apply_back(const T* x, const T* g, T* dx, Size n) {
  each_or_four<T>(n, [=](Size i, auto part) {
    put(dx + i, take(g + i, part) * F::template slope<T>(take(x + i, part)), part);
  });
}

}  // namespace
}  // namespace surgeon::kernels
