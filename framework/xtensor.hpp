// The bridge to xtensor (https://xtensor.readthedocs.io): a Tensor's numbers as an xtensor view, and a Tensor from any
// xtensor expression. Include it where you use it: it is the one public header that sees xtensor, framework.hpp leaves
// it out, and a program that includes it must find and link xtensor itself (find_package(xtensor)). g++ 12 in C++20
// mode also needs -fno-new-ttp-matching, or xtensor's reducers crash at run time.
//
// An op whose value is an xtensor expression; the rule is written in Tensor ops, so that it has derivatives of its own:
//
//     Tensor atan(const Tensor& x) {
//       Tensor y = x.dtype() == Dtype::float32 ? from_xtensor(xt::atan(view<float>(x)))
//                                              : from_xtensor(xt::atan(view<double>(x)));
//       return record("atan", {x}, std::move(y), [](const Ins& in, Out, Grad g) -> Grads {
//         return {g / (1.0 + in[0] * in[0])};
//       });
//     }
//
// (tests/test_xtensor.cpp checks this op's gradients.) Never hold a reducer with `auto`, as in `auto s = xt::sum(v)`:
// it is evaluated later and may refer to what is gone by then; from_xtensor evaluates at once.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#if __has_include(<xtensor/containers/xadapt.hpp>)   // from xtensor 0.26 on
#include <xtensor/containers/xadapt.hpp>
#include <xtensor/containers/xarray.hpp>
#include <xtensor/core/xnoalias.hpp>
#else
#include <xtensor/xadapt.hpp>
#include <xtensor/xarray.hpp>
#include <xtensor/xnoalias.hpp>
#endif

#include "framework/errors.hpp"
#include "framework/tensor.hpp"

namespace surgeon {

// x's numbers, read in place: no copy, row-major, x's shape, constant. T must be the dtype's own type (float, double,
// std::int64_t, bool) or std::invalid_argument. Valid while x, or a tensor that shares its numbers, lives and is not
// assigned to; a temporary is refused by the compiler.
template <class T>
auto view(const Tensor& x) {
  const auto values = x.values<T>();
  std::vector<std::size_t> shape(x.shape().begin(), x.shape().end());
  return xt::adapt(values.data(), values.size(), xt::no_ownership(), std::move(shape));
}
template <class T> void view(Tensor&&) = delete;
template <class T> void view(const Tensor&&) = delete;

namespace detail {
// What a Tensor stores for numbers of type V; bool as bytes, since std::vector<bool> has no memory of its own to write
// to.
template <class V> struct StoredFor { using type = std::int64_t; };
template <std::floating_point V> struct StoredFor<V> { using type = V; };
template <> struct StoredFor<bool> { using type = unsigned char; };
}  // namespace detail

// The value of an expression, evaluated once, as a new tensor outside any graph, with the expression's shape whatever
// its layout. float gives float32, double float64, bool boolean, every other integer int64 (std::invalid_argument for
// one above 2^63 - 1).
template <class E>
Tensor from_xtensor(const xt::xexpression<E>& expression) {
  using V = std::remove_cv_t<typename E::value_type>;
  static_assert(std::same_as<V, float> || std::same_as<V, double> || std::integral<V>,
                "from_xtensor: a Tensor holds float, double, integers or bool");
  using Stored = typename detail::StoredFor<V>::type;
  using Rows = xt::xarray<V, xt::layout_type::row_major>;
  const E& e = expression.derived_cast();
  const Shape shape(e.shape().begin(), e.shape().end());
  Rows evaluated = Rows::from_shape(e.shape());
  xt::noalias(evaluated) = e;
  if constexpr (std::unsigned_integral<V> && sizeof(V) == 8)
    for (const V v : evaluated.storage())
      require(v <= V(std::numeric_limits<std::int64_t>::max()), "from_xtensor: ", v, " does not fit into int64");
  return tensor(std::vector<Stored>(evaluated.storage().begin(), evaluated.storage().end()), shape);
}

}  // namespace surgeon
