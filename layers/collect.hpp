// collect: a layer's parameters, each name written once.
//   Parameters parameters() const { return collect("W_q", W_q, "W_k", W_k, "scale", scale, "blocks", blocks); }
#pragma once

#include <concepts>
#include <ranges>
#include <string>

#include "framework/parameters.hpp"

namespace surgeon {

namespace detail {

template <class T>
void collect_one(Parameters& all, const std::string& name, const T& x) {
  if constexpr (std::same_as<T, Tensor>) {
    if (x.defined()) all.add(name, x);
  } else if constexpr (std::same_as<T, Parameters>) {
    all.add(name, x);
  } else if constexpr (requires { x.parameters(); }) {
    all.add(name, x.parameters());
  } else if constexpr (requires { *x; x.has_value(); }) {
    if (x.has_value()) collect_one(all, name, *x);
  } else if constexpr (std::ranges::range<const T>) {
    std::size_t i = 0;
    for (const auto& each : x) collect_one(all, name + "." + std::to_string(i++), each);
  } else {
    static_assert(std::same_as<T, Tensor>, "collect: a name is followed by a Tensor, Parameters, a layer with "
                                           "parameters(), or an optional or a vector of these");
  }
}

inline void collect_pairs(Parameters&) {}
template <class T, class... Rest>
void collect_pairs(Parameters& all, const std::string& name, const T& x, const Rest&... rest) {
  collect_one(all, name, x);
  collect_pairs(all, rest...);
}

}  // namespace detail

// Names and what they name, in turn, in the order given:
//   a tensor                        "name"; left out when it is empty
//   a layer, or Parameters          "name.weight", ... for each of its own
//   an optional of any of these     left out when it has no value
//   a vector of any of these        "name.0", "name.1.weight", ...
// std::invalid_argument when two parameters have one name.
template <class... NamesAndParts>
Parameters collect(const NamesAndParts&... names_and_parts) {
  static_assert(sizeof...(NamesAndParts) % 2 == 0, "collect: each name is followed by what it names");
  Parameters all;
  detail::collect_pairs(all, names_and_parts...);
  return all;
}

}  // namespace surgeon
