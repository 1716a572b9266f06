// Attention in blocks: softmax(scale Q K^T) V for many heads, with the scores of one block alive at a time.
// Dao et al. 2022, arXiv 2205.14135, with the keys of a block in rows and its queries in lanes.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/kernels/dispatch.hpp"

namespace surgeon::kernels {

// [batch, heads, T, d] read in place: the steps from one batch entry, head or row to the next, in elements. A row is
// contiguous.
template <class T>
struct HeadsView {
  T* data = nullptr;
  std::int64_t batch = 0, head = 0, row = 0;
  T* at(std::int64_t b, std::int64_t h) const { return data + b * batch + h * head; }
};

// Which queries see which keys, block by block; a block in which no query sees a key costs nothing.
class Visibility {
 public:
  static constexpr std::int64_t block = 64;   // queries and keys; a word has a bit for each query of a block
  enum class Kind : unsigned char { none, all, some };

  // true = visible. Without data everything is. A step of 0 repeats the same numbers.
  struct Mask {
    const bool* data = nullptr;
    std::int64_t batch = 0, head = 0, query = 0, key = 0;
  };
  // causal: query i sees key j only when j <= i + Tk - Tq, in addition to the mask.
  Visibility(const Mask& mask, bool causal, std::int64_t batch, std::int64_t heads, std::int64_t Tq, std::int64_t Tk);

  Kind kind(std::int64_t b, std::int64_t h, std::int64_t query_block, std::int64_t key_block) const {
    return kinds_[std::size_t((plane(b, h) * query_blocks_ + query_block) * key_blocks_ + key_block)];
  }
  // A word for each key, for one block of queries: bit i says whether the block's i-th query sees the key.
  const std::uint64_t* words(std::int64_t b, std::int64_t h, std::int64_t query_block) const {
    return words_.data() + (plane(b, h) * query_blocks_ + query_block) * Tk_;
  }

 private:
  std::int64_t plane(std::int64_t b, std::int64_t h) const { return b * batch_step_ + h * head_step_; }
  std::int64_t query_blocks_, key_blocks_, Tk_, batch_step_, head_step_;
  std::vector<Kind> kinds_;
  std::vector<std::uint64_t> words_;
};

template <class T>
struct AttentionProblem {
  std::int64_t batch, heads, Tq, Tk, d_k, d_v;
  double scale;
  HeadsView<const T> Q, K, V;
  const Visibility* visibility = nullptr;   // null: every query sees every key
};

template <class T>
struct AttentionGradients {
  HeadsView<const T> O, dO;
  // From the forward pass, [2, batch, heads, Tq]: each query's largest score, before the scale, and 1 / the sum of its
  // exponentials; both 0 for a query that sees nothing.
  const T* statistics;
  HeadsView<T> dQ, dK, dV;   // null data: not wanted
};

// O = softmax(scale Q K^T) V. A query that sees nothing gives 0. What is not visible has no part in anything, even when
// it is nan.
template <class T> void attention_forward(const AttentionProblem<T>&, HeadsView<T> O, T* statistics);
template <class T> void attention_backward(const AttentionProblem<T>&, const AttentionGradients<T>&);

// What a thread takes at a time: one head and a range of its blocks.
struct HeadPiece {
  std::int64_t batch, head, begin, end;   // query blocks forward, key blocks backward
};
template <class T>
struct AttentionKernels {
  void (*forward)(const AttentionProblem<T>&, HeadsView<T> O, T* statistics, HeadPiece);
  void (*backward)(const AttentionProblem<T>&, const AttentionGradients<T>&, HeadPiece, T* dQ, std::int64_t dQ_row);
};

namespace baseline {
extern const AttentionKernels<float> attention_float;
extern const AttentionKernels<double> attention_double;
}
namespace v3 {
extern const AttentionKernels<float> attention_float;
extern const AttentionKernels<double> attention_double;
}
namespace v4 {
extern const AttentionKernels<float> attention_float;
extern const AttentionKernels<double> attention_double;
}

}  // namespace surgeon::kernels
