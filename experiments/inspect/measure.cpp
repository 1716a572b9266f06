#include "experiments/inspect/measure.hpp"

#include <algorithm>
#include <cmath>

#include "framework/autograd.hpp"
#include "framework/diagnostics.hpp"

namespace surgeon::inspect {
namespace {

Tensor rows(const Tensor& x, std::int64_t first, std::int64_t n) { return slice(x, -2, first, first + n); }
Tensor batched(const Tensor& x) { return reshape(x, {1, x.shape(0), x.shape(1)}); }

void add_squares(Numbers& sums, const Tensor& x, double factor, std::int64_t first = 0) {
  const Numbers norms = row_norms(x);
  for (std::size_t i = 0; i < norms.size(); ++i) sums[std::size_t(first) + i] += factor * norms[i] * norms[i];
}

void roots(Numbers& squares) {
  for (double& x : squares) x = std::sqrt(x);
}

double off(const Tensor& theirs, const Tensor& ours) {
  if (theirs.empty()) return nothing;
  const NoRecord pause;
  const double largest = max(abs(ours)).item(), apart = max(abs(theirs - ours)).item();
  return apart == 0 ? 0 : apart / largest;
}

// Part of the queries of one head, with the keys that any of them may see.
struct Block {
  std::int64_t first, n;
  Tensor Q, K, V;
  AttentionOptions options;   // causal and window are in the mask
};

Block block_of(const Specimen& s, const Tensor& visible, std::int64_t first, std::int64_t n) {
  const std::int64_t Tq = s.Q.shape(0), Tk = s.K.shape(0);
  const std::int64_t keys = s.causal ? std::clamp<std::int64_t>(first + n + Tk - Tq, 1, Tk) : Tk;
  const auto of_map = [&](const Tensor& x) {
    const Tensor part = x.rank() == 2 && x.shape(0) == Tq && Tq > 1 ? rows(x, first, n) : x;
    return part.shape(-1) == Tk ? slice(part, -1, 0, keys) : part;
  };
  Block b{first,
          n,
          batched(rows(s.Q, first, n)),
          batched(rows(s.K, 0, keys)),
          batched(rows(s.V, 0, keys)),
          {.scale = s.scale, .return_weights = true, .return_stats = true, .soft_cap = s.soft_cap}};
  if (visible.defined()) b.options.mask = of_map(visible);
  if (s.bias.defined()) b.options.bias = of_map(s.bias);
  return b;
}

// Upstream gradients for one head, [Tq, d_v]: the one given, or random ones.
std::vector<Tensor> upstream_of(const Specimen& s, std::int64_t draws, Rng& rng) {
  if (s.dO.defined()) return {s.dO};
  std::vector<Tensor> all;
  for (std::int64_t i = 0; i < draws; ++i) all.push_back(randn({s.Q.shape(0), s.V.shape(1)}, rng, s.Q.dtype()));
  return all;
}

// x [n, width] added to the first n rows of a sum; the sum is made at the first.
void add_rows(Tensor& sum, const Tensor& x, std::int64_t rows_in_all) {
  const Tensor whole = x.shape(0) == rows_in_all ? x : pad(x, {{0, rows_in_all - x.shape(0)}, {0, 0}});
  sum = sum.empty() ? whole : sum + whole;
}

struct Pass {
  const Specimen& s;
  const Tensor visible;
  const std::vector<Tensor> upstream;
  HeadMeasures& m;
  std::vector<Tensor> dK, dV;   // for each upstream gradient
  std::vector<Tensor> outputs = {}, dQ = {};

  void statistics(const AttentionResult& r, const Block& b) {
    const Tensor stats = stack({r.stats.entropy, r.stats.largest, r.stats.jacobian}, 0).to(Dtype::float64);
    Numbers* to[] = {&m.entropy, &m.largest, &m.jacobian};
    for (std::int64_t k = 0; k < 3; ++k)
      for (std::int64_t i = 0; i < b.n; ++i) to[k]->push_back(stats.at({k, 0, i}));
    const Tensor columns = sum(r.weights * r.weights, {0, 1}).to(Dtype::float64);
    for (std::int64_t j = 0; j < columns.size(); ++j) m.dV_expected[std::size_t(j)] += columns.at({j});
    const Tensor counts = b.options.mask.empty() ? Tensor() : sum(b.options.mask.to(Dtype::float64), -1);
    for (std::int64_t i = 0; i < b.n; ++i)
      m.seen.push_back(counts.empty() ? double(b.K.shape(1)) : counts.at({counts.size() == 1 ? 0 : i}));
    m.weights.take(r.weights[0], b.first);
  }

  void gradients(const AttentionResult& r, const Block& b) {
    for (std::size_t i = 0; i < upstream.size(); ++i) {
      const Tensor g = batched(rows(upstream[i], b.first, b.n));
      const auto [q, k, v, scores] = grad(r.output, {b.Q, b.K, b.V, r.scores}, {.cotangent = g});
      const NoRecord pause;
      add_squares(m.dQ, q[0], 1.0 / double(upstream.size()), b.first);
      if (i == 0) dQ.push_back(q[0]);
      add_rows(dK[i], k[0], s.K.shape(0));
      add_rows(dV[i], v[0], s.K.shape(0));
      if (i == 0) m.dscores.take(scores[0], b.first);
    }
  }

  void block(const Block& b) {
    const AttentionResult r = attention(b.Q, b.K, b.V, b.options);
    const NoRecord pause;
    statistics(r, b);
    outputs.push_back(r.output[0].detach());
    if (s.weights.defined()) {
      const double here = off(slice(rows(s.weights, b.first, b.n), -1, 0, b.K.shape(1)), r.weights[0]);
      m.weights_off = std::isnan(m.weights_off) ? here : std::max(m.weights_off, here);
    }
    gradients(r, b);
  }

  void finish() {
    const NoRecord pause;
    for (std::size_t i = 0; i < upstream.size(); ++i) {
      add_squares(m.dK, dK[i], 1.0 / double(upstream.size()));
      add_squares(m.dV, dV[i], 1.0 / double(upstream.size()));
    }
    for (Numbers* x : {&m.dQ, &m.dK, &m.dV}) roots(*x);
    const Tensor output = concat(outputs, 0);
    m.output_off = off(s.output, output);
    m.output_rank = all_finite(output) ? effective_rank(singular_values(output)) : nothing;
    if (s.dO.empty()) return;
    m.dQ_off = off(s.dQ, concat(dQ, 0));
    m.dK_off = off(s.dK, dK[0]);
    m.dV_off = off(s.dV, dV[0]);
  }
  static bool all_finite(const Tensor& x) { return std::isfinite(sum(x.to(Dtype::float64)).item()); }
};

CoarseMap empty_map(std::int64_t Tq, std::int64_t Tk, const Look& look) {
  CoarseMap map;
  map.first = std::max<std::int64_t>(look.from, 0);
  map.queries = look.from < 0 ? Tq : std::clamp<std::int64_t>(Tq - map.first, 0, look.cells);
  map.keys = look.from < 0 ? Tk : std::clamp<std::int64_t>(Tk - map.first, 0, look.cells);
  map.rows = std::min(map.queries, look.cells), map.columns = std::min(map.keys, look.cells);
  map.cells.assign(std::size_t(map.rows), Numbers(std::size_t(map.columns), 0.0));
  return map;
}

}  // namespace

void CoarseMap::take(const Tensor& block, std::int64_t first_query) {
  const Tensor wide = block.to(Dtype::float64);
  const double* x = wide.values<double>().data();
  const std::int64_t width = block.shape(1);
  for (std::int64_t i = 0; i < block.shape(0); ++i) {
    const std::int64_t q = first_query + i - first;
    if (q < 0 || q >= queries) continue;
    Numbers& row = cells[std::size_t(q * rows / queries)];
    for (std::int64_t j = first; j < std::min(width, first + keys); ++j) {
      double& cell = row[std::size_t((j - first) * columns / keys)];
      if (const double v = x[i * width + j]; std::abs(v) > std::abs(cell) || std::isnan(v)) cell = v;
    }
  }
}

HeadMeasures measure(const Specimen& s, const std::string& name, const Look& look, Rng rng) {
  const std::int64_t Tq = s.Q.shape(0), Tk = s.K.shape(0);
  HeadMeasures m{.name = name};
  m.dQ.assign(std::size_t(Tq), 0.0);
  for (Numbers* x : {&m.dK, &m.dV, &m.dV_expected}) x->assign(std::size_t(Tk), 0.0);
  m.weights = m.dscores = empty_map(Tq, Tk, look);
  Pass pass{s, visible_in(s), upstream_of(s, look.draws, rng), m, {}, {}};
  pass.dK.resize(pass.upstream.size());
  pass.dV.resize(pass.upstream.size());
  const std::int64_t step = std::clamp<std::int64_t>((1 << 18) / Tk, 8, 256);
  for (std::int64_t first = 0; first < Tq; first += step)
    pass.block(block_of(s, pass.visible, first, std::min(step, Tq - first)));
  pass.finish();
  return m;
}

}  // namespace surgeon::inspect
