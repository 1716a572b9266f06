#include "layers/doctor/backward.hpp"

#include <algorithm>
#include <functional>

#include "framework/errors.hpp"
#include "layers/doctor/pass.hpp"
#include "layers/doctor/recipe.hpp"

namespace surgeon::detail {

namespace {

struct Mistake {
  const char *name, *sentence, *cure;
  std::function<Gradients(const Pass&)> gradients;   // with empty tensors where it makes no sense
};

// One query head of each group, as if the others were not there; or, in_turn, the heads that tiling would give.
Tensor one_of_group(const Pass& p, const Tensor& x, std::int64_t which) {
  return reshape(slice(reshape(x, {1, p.s.kv_heads(), p.group, x.shape(2), x.shape(3)}), 2, which, which + 1),
                 {1, p.s.kv_heads(), x.shape(2), x.shape(3)});
}
Gradients by_one_head(const Pass& p, std::int64_t which) {
  if (p.group == 1) return {};
  const Tensor d = p.capped(p.dS);
  return {matmul(d, p.K) * p.c, one_of_group(p, matmul(d, p.s.Q, {.transpose_a = true}) * p.c, which),
          one_of_group(p, matmul(p.P, p.s.dO, {.transpose_a = true}), which)};
}

// [1, 1, T, 1]: 0 for each query or key whose gradient is 0 throughout in every head, although it ought not to be.
Tensor kept(const Tensor& theirs, const Tensor& right) {
  const Tensor given = max(abs(theirs), Over{{1, 3}, true}), due = max(abs(right), Over{{1, 3}, true});
  return (given > 0.0 || due <= 1e-9 * max(due).item()).to(Dtype::float64);
}

Tensor unmasked(const Pass& p) { return softmax(times_transposed(p.s.Q, p.K) * p.c); }

std::vector<Mistake> mistakes_in_softmax() {
  const char* cure = "dS = P (dP - rowsum(P dP))";
  return {
      {"row's mean left out", "softmax's backward pass leaves out the row's mean: dS = P dP", cure,
       [](const Pass& p) { return p.with(p.P * p.dP); }},
      {"mean instead of sum", "softmax's backward pass subtracts the mean of P dP over the keys, not its sum", cure,
       [](const Pass& p) { return p.with(p.P * (p.dP - p.delta() / double(p.s.Tk()))); }},
      {"plain mean", "softmax's backward pass subtracts the plain mean of dP, not the one weighted by P", cure,
       [](const Pass& p) {
         return p.with(p.P * (p.dP - mean(p.dP, Over{{-1}, true})));
       }},
      {"softmax backward over queries", "softmax's backward pass sums over the queries instead of the keys", cure,
       [](const Pass& p) {
         return p.with(p.P * (p.dP - sum(p.P * p.dP, Over{{-2}, true})));
       }},
      {"softmax backward left out", "the gradient passes softmax unchanged: dS = dP", cure,
       [](const Pass& p) { return p.with(p.visible.empty() ? p.dP : masked_fill(p.dP, !p.visible, 0.0)); }},
      {"diagonal alone", "softmax is differentiated as if it were a sigmoid: dS = P (1 - P) dP", cure,
       [](const Pass& p) { return p.with(p.P * (1.0 - p.P) * p.dP); }},
      {"delta of another head", "rowsum(dO O) is taken from the head beside", "delta belongs to its own head and query",
       [](const Pass& p) { return p.with(p.P * (p.dP - roll(p.delta(), 1, 1))); }},
      {"delta of another head", "rowsum(dO O) is taken from the head beside", "delta belongs to its own head and query",
       [](const Pass& p) { return p.with(p.P * (p.dP - roll(p.delta(), -1, 1))); }},
      {"mask forgotten in backward", "the backward pass computes the weights again without the mask",
       "apply the mask in the backward pass too",
       [](const Pass& p) {
         const Tensor P = unmasked(p);
         return p.with(p.P, P * (p.dP - p.delta()));
       }},
      {"mask forgotten in backward", "the backward pass computes the weights again without the mask",
       "apply the mask in the backward pass too",
       [](const Pass& p) {
         const Tensor P = unmasked(p);
         return p.with(P, P * (p.dP - p.delta()));
       }},
      {"weights not normalised in backward", "the backward pass computes exp(s - max) again but not its sum",
       "keep log-sum-exp, not the largest score alone: P = exp(s - lse)",
       [](const Pass& p) {
         const Tensor P = p.P / max(p.P, Over{{-1}, true});
         return p.with(P, P * (p.dP - p.delta()));
       }},
      {"slope of the cap left out", "the scores are capped, but the cap is not differentiated",
       "multiply dS by 1 - tanh^2", [](const Pass& p) {
         Pass without = p;
         without.slope = Tensor();
         return p.slope.empty() ? Gradients{} : without.right();
       }}};
}

std::vector<Mistake> mistakes_in_products() {
  const auto square = [](const Pass& p) { return p.s.Tq() == p.s.Tk(); };
  return {{"dV by weights not transposed", "dV = P dO: the weights are not transposed", "dV = P^T dO",
           [square](const Pass& p) {
             Gradients g = p.right();
             if (square(p)) g.dV = p.summed(matmul(p.P, p.s.dO));
             return g;
           }},
          {"dK by dS not transposed", "dK = c dS Q: dS is not transposed", "dK = c dS^T Q",
           [square](const Pass& p) {
             Gradients g = p.right();
             if (square(p)) g.dK = p.summed(matmul(p.capped(p.dS), p.s.Q)) * p.c;
             return g;
           }},
          {"dQ by dS transposed", "dQ = c dS^T K: dS is transposed", "dQ = c dS K",
           [square](const Pass& p) {
             Gradients g = p.right();
             if (square(p)) g.dQ = matmul(p.capped(p.dS), p.K, {.transpose_a = true}) * p.c;
             return g;
           }},
          {"dQ and dK exchanged", "dQ and dK are returned in the wrong order",
           "return gradients in the order of the inputs",
           [](const Pass& p) {
             const Gradients g = p.right();
             return Gradients{g.dK, g.dQ, g.dV};
           }},
          {"dK and dV exchanged", "dK and dV are returned in the wrong order",
           "return gradients in the order of the inputs",
           [](const Pass& p) {
             const Gradients g = p.right();
             return Gradients{g.dQ, g.dV, g.dK};
           }},
          {"gradients of heads mixed", "the gradients' heads are joined or split by a reshape alone",
           "exchange the axes of heads and tokens before the reshape, in the backward pass too", [](const Pass& p) {
             const Gradients g = p.right();
             return Gradients{joined_wrongly(g.dQ), joined_wrongly(g.dK), joined_wrongly(g.dV)};
           }}};
}

std::vector<Mistake> mistakes_in_sums() {
  const char *one = "dK and dV come from one query head of each group, not from all that read the key head",
             *summing = "sum the gradients of all query heads that read a key head";
  return {{"one head of the group", one, summing, [](const Pass& p) { return by_one_head(p, 0); }},
          {"one head of the group", one, summing, [](const Pass& p) { return by_one_head(p, p.group - 1); }},
          {"groups in turn in backward", "dK and dV are summed as if query head h read key head h mod kv_heads",
           "query head h reads key head h / group",
           [](const Pass& p) {
             if (p.group == 1) return Gradients{};
             const Tensor d = p.capped(p.dS);
             const auto in_turn = [&](const Tensor& x) {
               return sum(reshape(x, {1, p.group, p.s.kv_heads(), x.shape(2), x.shape(3)}), 1);
             };
             return Gradients{matmul(d, p.K) * p.c, in_turn(matmul(d, p.s.Q, {.transpose_a = true})) * p.c,
                              in_turn(matmul(p.P, p.s.dO, {.transpose_a = true}))};
           }},
          {"queries skipped", "some queries have no part in the gradients", "run over all queries, the last block too",
           [](const Pass& p) {
             if (p.s.dQ.empty()) return Gradients{};
             const Tensor these = kept(p.s.dQ, p.right().dQ);
             return p.with(p.P * these, p.dS * these);
           }},
          {"keys skipped", "some keys have no part in the gradients", "run over all keys, the last block too",
           [](const Pass& p) {
             if (p.s.dK.empty()) return Gradients{};
             const Tensor these = transpose(kept(p.s.dK, p.right().dK), -1, -2);
             return p.with(p.P * these, p.dS * these);
           }}};
}

}   // namespace

std::optional<Finding> backward_mistake(const Specimen& s, const std::vector<Head>& heads, int broken_laws) {
  if (s.dO.empty() || !heads[0].explained) return {};
  const Pass p = pass_of(s, heads);
  const Judge judge = judge_of(p, heads);
  if (judge.told <= 1 && broken_laws == 0) return {};
  if (auto found = multiple(p, judge)) return found;
  std::optional<Finding> best;
  double least = std::min(1.0, judge.told / 4);
  for (const auto& list : {mistakes_in_softmax(), mistakes_in_products(), mistakes_in_sums()})
    for (const Mistake& m : list) {
      const Gradients g = m.gradients(p);
      if (g.dQ.empty()) continue;
      const double excess = judge.excess(g);
      if (!(excess <= least)) continue;
      least = excess;
      best =
          finding(m.name, m.sentence, m.cure,
                  sentence("with this mistake all gradients are explained within rounding; as they must be they are ",
                           judge.told, " times as far off as rounding makes likely"));
    }
  return best;
}

}   // namespace surgeon::detail
