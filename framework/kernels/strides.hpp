// Walking several arrays of one common shape at once, each with its own stride per axis (0 where it is broadcast).
// Axes that run on are merged first, so that the usual case is one long inner loop.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "framework/kernels/threads.hpp"

namespace surgeon::kernels {

using Sizes = std::vector<std::int64_t>;

// Row-major strides of `from`, read as `into`, to which it broadcasts.
inline Sizes broadcast_strides(const Sizes& from, const Sizes& into) {
  Sizes strides(into.size(), 0);
  std::int64_t stride = 1;
  for (std::size_t k = 1; k <= from.size(); ++k) {
    const std::int64_t size = from[from.size() - k];
    strides[into.size() - k] = size == 1 ? 0 : stride;
    stride *= size;
  }
  return strides;
}

template <std::size_t N>
class Walk {
 public:
  Walk(const Sizes& shape, const std::array<Sizes, N>& strides) {
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
      outer_ *= shape[axis];
      if (shape[axis] == 1) continue;
      bool runs_on = !sizes_.empty();
      for (std::size_t i = 0; i < N && runs_on; ++i)
        runs_on = strides_[i].back() == strides[i][axis] * shape[axis];
      if (!runs_on) sizes_.push_back(1);
      sizes_.back() *= shape[axis];
      for (std::size_t i = 0; i < N; ++i) {
        if (!runs_on) strides_[i].push_back(0);
        strides_[i].back() = strides[i][axis];
      }
    }
    if (sizes_.empty()) return;   // one element, or none
    inner_ = sizes_.back();
    outer_ = inner_ ? outer_ / inner_ : 0;
    sizes_.pop_back();
    for (std::size_t i = 0; i < N; ++i) step_[i] = std::exchange(strides_[i].back(), 0), strides_[i].pop_back();
  }

  std::int64_t inner() const { return inner_; }
  std::int64_t step(std::size_t i) const { return step_[i]; }   // of array i in the inner loop

  // body(offsets, n) for each inner run, over the threads; a lone long run is cut.
  template <class Body>
  void run(std::int64_t grain, const Body& body) const {
    if (outer_ == 1) {
      parallel_for(inner_, grain, [&](std::int64_t begin, std::int64_t end) {
        std::array<std::int64_t, N> offsets;
        for (std::size_t i = 0; i < N; ++i) offsets[i] = begin * step_[i];
        body(offsets, end - begin);
      });
      return;
    }
    parallel_for(outer_, grain / (inner_ ? inner_ : 1) + 1, [&](std::int64_t begin, std::int64_t end) {
      Sizes index(sizes_.size());
      std::array<std::int64_t, N> offsets{};
      for (std::size_t axis = sizes_.size(), rest = std::size_t(begin); axis-- > 0; rest /= std::size_t(sizes_[axis])) {
        index[axis] = std::int64_t(rest % std::size_t(sizes_[axis]));
        for (std::size_t i = 0; i < N; ++i) offsets[i] += index[axis] * strides_[i][axis];
      }
      for (std::int64_t run = begin; run < end; ++run) {
        body(offsets, inner_);
        for (std::size_t axis = sizes_.size(); axis-- > 0;) {
          for (std::size_t i = 0; i < N; ++i) offsets[i] += strides_[i][axis];
          if (++index[axis] < sizes_[axis]) break;
          for (std::size_t i = 0; i < N; ++i) offsets[i] -= strides_[i][axis] * sizes_[axis];
          index[axis] = 0;
        }
      }
    });
  }

 private:
  Sizes sizes_;   // of the outer axes
  std::array<Sizes, N> strides_;
  std::array<std::int64_t, N> step_{};
  std::int64_t outer_ = 1, inner_ = 1;
};

}  // namespace surgeon::kernels
