// Attention over all heads: which blocks are visible, and which thread takes which piece.
#include "framework/kernels/attention.hpp"

#include <algorithm>
#include <exception>
#include <type_traits>

#include "framework/kernels/pool.hpp"
#include "framework/kernels/threads.hpp"

namespace surgeon::kernels {
namespace {

constexpr std::int64_t block = Visibility::block;
std::int64_t blocks(std::int64_t n) { return (n + block - 1) / block; }

// Sets bit i of words[k] to rows[i * query + k * key], for i < size. Eight queries at a time, in bytes: the compiler
// makes vectors of these.
template <class Key>
void pack(const bool* rows, std::int64_t query, Key key, std::int64_t size, std::int64_t keys, std::uint64_t* words) {
  constexpr std::int64_t chunk = 256;
  for (std::int64_t start = 0; start < keys; start += chunk) {
    const std::int64_t n = std::min(chunk, keys - start);
    for (std::int64_t i = 0; i < size; i += 8) {
      unsigned char bits[chunk] = {};
      for (std::int64_t j = i; j < std::min(i + 8, size); ++j) {
        const auto bit = static_cast<unsigned char>(1 << (j - i));
        for (std::int64_t k = 0; k < n; ++k) {
          const auto all_or_none = static_cast<unsigned char>(-int{rows[j * query + (start + k) * key]});
          bits[k] = static_cast<unsigned char>(bits[k] | (all_or_none & bit));
        }
      }
      for (std::int64_t k = 0; k < n; ++k) words[start + k] |= std::uint64_t{bits[k]} << i;
    }
  }
}

// Which of a block's queries come late enough to see a key: all from some bit on.
std::uint64_t causal_bits(std::int64_t first_query, std::int64_t first_seeing) {
  const std::int64_t skipped = std::clamp<std::int64_t>(first_seeing - first_query, 0, block);
  return skipped == block ? 0 : ~std::uint64_t{0} << skipped;
}

Visibility::Kind kind_of(const std::uint64_t* words, std::int64_t keys, std::uint64_t whole) {
  std::uint64_t any = 0, all = whole;
  for (std::int64_t k = 0; k < keys; ++k) any |= words[k], all &= words[k];
  return any == 0 ? Visibility::Kind::none : all == whole ? Visibility::Kind::all : Visibility::Kind::some;
}

template <class T> const AttentionKernels<T>& table();
template <> const AttentionKernels<float>& table<float>() {
#if defined(__x86_64__)
  return choose(baseline::attention_float, v3::attention_float, v4::attention_float);
#else
  return baseline::attention_float;
#endif
}
template <> const AttentionKernels<double>& table<double>() {
#if defined(__x86_64__)
  return choose(baseline::attention_double, v3::attention_double, v4::attention_double);
#else
  return baseline::attention_double;
#endif
}

// body(0) ... body(n - 1), each on whichever thread is free: under a mask some pieces take longer than others.
template <class Body>
void each_piece(std::int64_t n, std::int64_t multiply_adds, const Body& body) {
  constexpr std::int64_t worth_a_thread = 1 << 18;
  const std::int64_t team = std::min<std::int64_t>({thread_count(), n, multiply_adds / worth_a_thread});
  std::exception_ptr failure;   // scratch memory that could not be had
#ifdef _OPENMP
  if (team > 1 && !omp_in_parallel()) {
#pragma omp parallel for num_threads(int(team)) schedule(dynamic, 1)
    for (std::int64_t i = 0; i < n; ++i) {
      try {
        body(i);
      } catch (...) {
#pragma omp critical
        failure = std::current_exception();
      }
    }
    if (failure) std::rethrow_exception(failure);
    return;
  }
#else
  (void)team;
#endif
  for (std::int64_t i = 0; i < n; ++i) body(i);
}

// How many pieces to cut a head's n blocks into, so that there are about `enough` pieces in all.
std::int64_t cuts(std::int64_t heads, std::int64_t n, std::int64_t enough) {
  return std::clamp<std::int64_t>(heads == 0 ? 1 : enough / heads, 1, std::max<std::int64_t>(n, 1));
}

template <class T>
HeadPiece piece_of(const AttentionProblem<T>& p, std::int64_t index, std::int64_t cut, std::int64_t n) {
  const std::int64_t head = index / cut, part = index % cut;
  return {head / p.heads, head % p.heads, n * part / cut, n * (part + 1) / cut};
}

}  // namespace

Visibility::Visibility(const Mask& mask, bool causal, std::int64_t batch, std::int64_t heads, std::int64_t Tq,
                       std::int64_t Tk)
    : query_blocks_(blocks(Tq)), key_blocks_(blocks(Tk)), Tk_(Tk) {
  const std::int64_t masks_per_batch = mask.data && mask.head != 0 ? heads : 1;
  head_step_ = masks_per_batch == 1 ? 0 : 1;
  batch_step_ = mask.data && mask.batch != 0 ? masks_per_batch : 0;
  const std::int64_t planes = masks_per_batch * (batch_step_ == 0 ? 1 : batch);
  kinds_.resize(std::size_t(planes * query_blocks_ * key_blocks_));
  words_.resize(std::size_t(planes * query_blocks_ * Tk));

  each_piece(planes * query_blocks_, planes * Tq * Tk, [&](std::int64_t index) {
    const std::int64_t plane = index / query_blocks_, first = index % query_blocks_ * block;
    const std::int64_t size = std::min(block, Tq - first);
    const std::uint64_t whole = size == block ? ~std::uint64_t{0} : (std::uint64_t{1} << size) - 1;
    std::uint64_t* words = words_.data() + index * Tk;
    std::fill_n(words, Tk, mask.data ? 0 : whole);
    if (mask.data) {
      const bool* at = mask.data + plane / masks_per_batch * mask.batch + plane % masks_per_batch * mask.head;
      at += first * mask.query;
      if (mask.key == 1) pack(at, mask.query, std::integral_constant<std::int64_t, 1>(), size, Tk, words);
      else pack(at, mask.query, mask.key, size, Tk, words);
    }
    if (causal)
      for (std::int64_t k = 0; k < Tk; ++k) words[k] &= causal_bits(first, k + Tq - Tk);
    for (std::int64_t j = 0; j < key_blocks_; ++j)
      kinds_[std::size_t(index * key_blocks_ + j)] = kind_of(words + j * block, std::min(block, Tk - j * block), whole);
  });
}

template <class T>
void attention_forward(const AttentionProblem<T>& p, HeadsView<T> O, T* statistics) {
  const std::int64_t heads = p.batch * p.heads, n = blocks(p.Tq);
  const std::int64_t cut = cuts(heads, n, 2 * thread_count());   // queries do not meet: any cut gives the same numbers
  each_piece(heads * cut, heads * p.Tq * p.Tk * (p.d_k + p.d_v),
             [&](std::int64_t i) { table<T>().forward(p, O, statistics, piece_of(p, i, cut, n)); });
}

template <class T>
void attention_backward(const AttentionProblem<T>& p, const AttentionGradients<T>& g) {
  const std::int64_t heads = p.batch * p.heads, n = blocks(p.Tk), size = p.Tq * p.d_k;
  // The parts of dQ are summed over the pieces of a head, so their number must not depend on the threads.
  const std::int64_t cut = cuts(heads, n / 4, 8);
  Scratch<T> parts(g.dQ.data && cut > 1 ? heads * cut * size : 0);
  each_piece(heads * cut, heads * p.Tq * p.Tk * 3 * (p.d_k + p.d_v), [&](std::int64_t i) {
    const HeadPiece piece = piece_of(p, i, cut, n);
    if (!g.dQ.data) table<T>().backward(p, g, piece, nullptr, 0);
    else if (cut > 1) table<T>().backward(p, g, piece, parts.data() + i * size, p.d_k);
    else table<T>().backward(p, g, piece, g.dQ.at(piece.batch, piece.head), g.dQ.row);
  });
  if (!g.dQ.data || cut == 1) return;
  each_piece(heads * p.Tq, heads * cut * size, [&](std::int64_t i) {
    const std::int64_t head = i / p.Tq, query = i % p.Tq;
    T* to = g.dQ.at(head / p.heads, head % p.heads) + query * g.dQ.row;
    for (std::int64_t c = 0; c < p.d_k; ++c) {
      T sum = 0;
      for (std::int64_t part = 0; part < cut; ++part) sum += parts[((head * cut + part) * p.Tq + query) * p.d_k + c];
      to[c] = sum;
    }
  });
}

template void attention_forward(const AttentionProblem<float>&, HeadsView<float>, float*);
template void attention_forward(const AttentionProblem<double>&, HeadsView<double>, double*);
template void attention_backward(const AttentionProblem<float>&, const AttentionGradients<float>&);
template void attention_backward(const AttentionProblem<double>&, const AttentionGradients<double>&);

}  // namespace surgeon::kernels
