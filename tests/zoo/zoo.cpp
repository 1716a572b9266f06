#include "tests/zoo/zoo.hpp"

#include <cmath>
#include <cstdint>
#include <limits>

#include "layers/layers.hpp"

namespace surgeon::tests {

Specimen drawn(std::uint64_t seed, Format format, const Shape& shape, std::int64_t kv_heads) {
  Rng rng(seed);
  const Dtype dtype = dtype_of(format);
  Shape keys = shape;
  keys[1] = kv_heads;
  Specimen s{.Q = randn(shape, rng, dtype), .K = randn(keys, rng, dtype), .V = randn(keys, rng, dtype), .causal = true};
  s.dO = randn(shape, rng, dtype);
  for (Tensor* x : {&s.Q, &s.K, &s.V, &s.dO}) *x = rounded(*x, format);
  return s;
}

namespace {

const double minus_infinity = -std::numeric_limits<double>::infinity();

struct Forward {
  Tensor weights, output;
};
struct Backward {
  Tensor dQ, dK, dV;
};

double root(const Specimen& s) { return 1 / std::sqrt(double(s.Q.shape(-1))); }
Tensor scores_of(const Tensor& Q, const Tensor& K) { return matmul(Q, K, {.transpose_b = true}); }
Tensor masked(const Tensor& scores, const Tensor& mask, double fill = minus_infinity) {
  return masked_fill(scores, !mask, fill);
}
Tensor causal(const Specimen& s) { return causal_mask(s.Tq()); }

// ---- Wrong forward passes, whose gradients are right for what they compute -----------------------------------------
template <class Code> Specimen computed(Specimen s, const Code& code) {
  const Forward f = code(s, s.Q, s.K, s.V);
  const auto [dQ, dK, dV] = grad(f.output, {s.Q, s.K, s.V}, {.cotangent = s.dO});
  s.weights = f.weights.detach(), s.output = f.output.detach();
  s.dQ = dQ, s.dK = dK, s.dV = dV;
  return s;
}

Forward apply(const Tensor& weights, const Tensor& V) { return {weights, matmul(weights, V)}; }

template <class Code> Exhibit forward(const std::string& name, const std::string& diagnosis, const Code& code) {
  return {name, diagnosis, [code](std::uint64_t seed, Format format) { return computed(drawn(seed, format), code); }};
}

// Only the factor of the scores is wrong.
template <class Factor> Exhibit scaled(const std::string& name, const std::string& diagnosis, const Factor& factor) {
  return forward(name, diagnosis, [factor](const Specimen& s, const Tensor& Q, const Tensor& K, const Tensor& V) {
    return apply(softmax(masked(scores_of(Q, K) * factor(s), causal(s))), V);
  });
}

// Only what becomes of the scaled scores is wrong.
template <class Weights>
Exhibit weighed(const std::string& name, const std::string& diagnosis, const Weights& weights) {
  return forward(name, diagnosis, [weights](const Specimen& s, const Tensor& Q, const Tensor& K, const Tensor& V) {
    return apply(weights(s, scores_of(Q, K) * root(s)), V);
  });
}

void add_scales(std::vector<Exhibit>& all) {
  all.push_back(scaled("no divisor", "no divisor", [](const Specimen&) { return 1.0; }));
  all.push_back(scaled("divisor d_model", "divisor d_model",
                       [](const Specimen& s) { return 1 / std::sqrt(double(s.Q.shape(-1) * s.heads())); }));
  all.push_back(scaled("missing root", "missing root", [](const Specimen& s) { return 1 / double(s.Q.shape(-1)); }));
  all.push_back(scaled("scale multiplied", "multiplied", [](const Specimen& s) { return 1 / root(s); }));
  all.push_back(scaled("base-2 exponentials", "base 2", [](const Specimen& s) { return std::log(2.0) * root(s); }));
}

void add_masks(std::vector<Exhibit>& all) {
  all.push_back(weighed("mask forgotten", "mask ignored", [](auto&, const Tensor& x) { return softmax(x); }));
  all.push_back(weighed("mask inverted", "mask inverted",
                        [](auto& s, const Tensor& x) { return softmax(masked(x, !causal(s))); }));
  all.push_back(weighed("mask reversed", "mask reversed",
                        [](auto& s, const Tensor& x) { return softmax(masked(x, reverse_mask(s.Tq()))); }));
  all.push_back(weighed("mask one ahead", "mask one ahead", [](auto& s, const Tensor& x) {
    return softmax(masked(x, tril(ones({s.Tq(), s.Tq()}), 1) == 1.0));
  }));
  all.push_back(weighed("mask hides the token itself", "mask one behind", [](auto& s, const Tensor& x) {
    return softmax(masked(x, tril(ones({s.Tq(), s.Tq()}), -1) == 1.0));
  }));
}

void add_hidings(std::vector<Exhibit>& all) {
  all.push_back(weighed("mask after softmax", "mask after softmax",
                        [](auto& s, const Tensor& x) { return masked(softmax(x), causal(s), 0.0); }));
  all.push_back(weighed("scores multiplied by the mask", "masked scores 0",
                        [](auto& s, const Tensor& x) { return softmax(x * causal(s).to(x.dtype())); }));
  all.push_back(weighed("boolean mask added", "mask added",
                        [](auto& s, const Tensor& x) { return softmax(x + causal(s).to(x.dtype())); }));
  all.push_back(weighed("small finite fill", "finite fill",
                        [](auto& s, const Tensor& x) { return softmax(masked(x, causal(s), -10.0)); }));
  all.push_back({"padding fill on a dead row", "finite fill", [](std::uint64_t seed, Format format) {
                   Specimen s = drawn(seed, format);
                   s.causal = false;
                   std::vector<bool> seen(81, true);
                   for (std::size_t j = 0; j < 81; ++j)
                     seen[j] = j % 9 < 7 && j / 9 != 4;   // two keys of padding, one dead row
                   s.mask = tensor(seen, {9, 9});
                   return computed(s, [](auto& x, const Tensor& Q, const Tensor& K, const Tensor& V) {
                     return apply(softmax(masked(scores_of(Q, K) * root(x), x.mask, -1e9)), V);
                   });
                 }});
  all.push_back({"padding mask transposed", "mask transposed", [](std::uint64_t seed, Format format) {
                   Specimen s = drawn(seed, format);
                   s.causal = false;
                   s.mask = broadcast_to(padding_mask({6}, 9), {1, 9, 9})[0];
                   return computed(s, [](auto& x, const Tensor& Q, const Tensor& K, const Tensor& V) {
                     return apply(softmax(masked(scores_of(Q, K) * root(x), transpose(x.mask, 0, 1))), V);
                   });
                 }});
}

void add_softmaxes(std::vector<Exhibit>& all) {
  all.push_back(weighed("softmax over queries", "softmax over queries",
                        [](auto& s, const Tensor& x) { return softmax(masked(x, causal(s)), -2); }));
  all.push_back(weighed("softmax over heads", "softmax over heads",
                        [](auto& s, const Tensor& x) { return softmax(masked(x, causal(s)), 1); }));
  all.push_back(weighed("softmax twice", "softmax twice",
                        [](auto& s, const Tensor& x) { return softmax(softmax(masked(x, causal(s)))); }));
  all.push_back(weighed("sigmoid for softmax", "sigmoid",
                        [](auto& s, const Tensor& x) { return sigmoid(masked(x, causal(s))); }));
  all.push_back(weighed("dropout left on", "dropout on", [](auto& s, const Tensor& x) {
    Rng rng(99);
    return dropout(softmax(masked(x, causal(s))), 0.2, rng);
  }));
  all.push_back(weighed("softmax without the largest taken out", "",   // overflows: nan
                        [](auto& s, const Tensor& x) {
                          const Tensor e = exp(masked(x * 400.0, causal(s)));
                          return e / sum(e, Over{{-1}, true});
                        }));
}

Tensor split_by_reshape(const Tensor& x) { return reshape(permute(x, {0, 2, 1, 3}), x.shape()); }

Tensor right_weights(const Specimen& s, const Tensor& Q, const Tensor& K) {
  return softmax(masked(scores_of(Q, K) * root(s), causal(s)));
}

void add_joints(std::vector<Exhibit>& all) {
  all.push_back(
      forward("heads split by a reshape", "heads split without transpose",
              [](auto& s, const Tensor& Q, const Tensor& K, const Tensor& V) {
                const Tensor P = right_weights(s, split_by_reshape(Q), split_by_reshape(K));
                const Tensor y = matmul(P, split_by_reshape(V));   // and joined by a reshape, [B, T, heads * d]
                return Forward{P, permute(reshape(y, {y.shape(0), y.shape(2), y.shape(1), y.shape(3)}), {0, 2, 1, 3})};
              }));
  all.push_back(
      forward("heads joined by a reshape", "heads joined without transpose",
              [](auto& s, const Tensor& Q, const Tensor& K, const Tensor& V) {
                const Tensor P = right_weights(s, Q, K), y = matmul(P, V);
                return Forward{P, permute(reshape(y, {y.shape(0), y.shape(2), y.shape(1), y.shape(3)}), {0, 2, 1, 3})};
              }));
}

void add_products(std::vector<Exhibit>& all) {
  all.push_back(
      forward("K viewed, not transposed", "K viewed", [](auto& s, const Tensor& Q, const Tensor& K, const Tensor& V) {
        const Tensor turned = reshape(K, {K.shape(0), K.shape(1), K.shape(3), K.shape(2)});
        return apply(softmax(masked(matmul(Q, turned) * root(s), causal(s))), V);
      }));
  all.push_back({"K not transposed", "K not transposed", [](std::uint64_t seed, Format format) {
                   return computed(drawn(seed, format, {2, 4, 8, 8}),
                                   [](auto& s, const Tensor& Q, const Tensor& K, const Tensor& V) {
                                     return apply(softmax(masked(matmul(Q, K) * root(s), causal(s))), V);
                                   });
                 }});
  all.push_back(forward(
      "Q and K exchanged", "Q and K exchanged",
      [](auto& s, const Tensor& Q, const Tensor& K, const Tensor& V) { return apply(right_weights(s, K, Q), V); }));
  all.push_back(forward(
      "K and V exchanged", "K and V exchanged",
      [](auto& s, const Tensor& Q, const Tensor& K, const Tensor& V) { return apply(right_weights(s, Q, V), K); }));
  all.push_back({"key heads tiled, not repeated", "groups in turn", [](std::uint64_t seed, Format format) {
                   return computed(drawn(seed, format, {2, 4, 9, 6}, 2),
                                   [](auto& s, const Tensor& Q, const Tensor& K, const Tensor& V) {
                                     return apply(right_weights(s, Q, concat({K, K}, 1)), concat({V, V}, 1));
                                   });
                 }});
  all.push_back({"one head twice", "duplicate heads", [](std::uint64_t seed, Format format) {
                   Specimen s = drawn(seed, format);
                   for (Tensor* x : {&s.Q, &s.K}) *x = concat({slice(*x, 1, 0, 3), slice(*x, 1, 0, 1)}, 1);
                   return computed(s, [](auto& x, const Tensor& Q, const Tensor& K, const Tensor& V) {
                     return apply(right_weights(x, Q, K), V);
                   });
                 }});
}

// ---- Wrong backward passes after a right forward pass --------------------------------------------------------------
// What a backward pass is made of, right; a bug changes one line.
struct Chain {
  Tensor P, dP, dS;
  Backward gradients(const Specimen& s, double c) const {
    return {matmul(dS, s.K) * c, matmul(dS, s.Q, {.transpose_a = true}) * c, matmul(P, s.dO, {.transpose_a = true})};
  }
};
Tensor row_sum(const Tensor& x) { return sum(x, Over{{-1}, true}); }
Chain chain_of(const Specimen& s) {
  const Tensor dP = matmul(s.dO, s.V, {.transpose_b = true});
  return {s.weights, dP, s.weights * (dP - row_sum(s.weights * dP))};
}

template <class Code> Exhibit backward(const std::string& name, const std::string& diagnosis, const Code& code) {
  return {name, diagnosis, [code](std::uint64_t seed, Format format) {
            Specimen s = drawn(seed, format);
            s.weights = softmax(masked(scores_of(s.Q, s.K) * root(s), causal(s))).detach();
            s.output = matmul(s.weights, s.V).detach();
            const Backward b = code(s, chain_of(s));
            s.dQ = b.dQ.detach(), s.dK = b.dK.detach(), s.dV = b.dV.detach();
            return s;
          }};
}

Exhibit wrong_dS(const std::string& name, const std::string& diagnosis,
                 const std::function<Tensor(const Specimen&, const Chain&)>& dS) {
  return backward(name, diagnosis, [dS](const Specimen& s, Chain c) {
    c.dS = dS(s, c);
    return c.gradients(s, root(s));
  });
}

void add_score_gradients(std::vector<Exhibit>& all) {
  all.push_back(wrong_dS("softmax backward without the row's mean", "row's mean left out",
                         [](auto&, const Chain& c) { return c.P * c.dP; }));
  all.push_back(wrong_dS("mean instead of sum in softmax backward", "mean instead of sum", [](auto&, const Chain& c) {
    return c.P * (c.dP - row_sum(c.P * c.dP) / double(c.P.shape(-1)));
  }));
  all.push_back(wrong_dS("softmax backward over queries", "softmax backward over queries", [](auto&, const Chain& c) {
    return c.P * (c.dP - sum(c.P * c.dP, Over{{-2}, true}));
  }));
  all.push_back(
      wrong_dS("mask forgotten in backward", "mask forgotten in backward", [](const Specimen& s, const Chain& c) {
        const Tensor P = softmax(scores_of(s.Q, s.K) * root(s));
        return P * (c.dP - row_sum(c.P * c.dP));
      }));
  all.push_back(wrong_dS("largest score treated as if it moved", "", [](auto&, const Chain& c) {
    const Tensor winner = one_hot(argmax(c.P, -1), c.P.shape(-1), c.P.dtype());
    return c.dS - winner * row_sum(abs(c.dS)) * 0.1;
  }));
}

void add_backwards(std::vector<Exhibit>& all) {
  all.push_back(backward("dQ without the scale", "dQ without the scale", [](const Specimen& s, const Chain& c) {
    Backward b = c.gradients(s, root(s));
    b.dQ = b.dQ / root(s);
    return b;
  }));
  all.push_back(backward("dK without the scale", "dK without the scale", [](const Specimen& s, const Chain& c) {
    Backward b = c.gradients(s, root(s));
    b.dK = b.dK / root(s);
    return b;
  }));
  all.push_back(backward("scale twice in backward", "dQ and dK scaled twice",
                         [](const Specimen& s, const Chain& c) { return c.gradients(s, root(s) * root(s)); }));
  all.push_back(backward("dV by the weights, not transposed", "dV by weights not transposed",
                         [](const Specimen& s, const Chain& c) {
                           Backward b = c.gradients(s, root(s));
                           b.dV = matmul(c.P, s.dO);
                           return b;
                         }));
  all.push_back(backward("last block of queries skipped", "queries skipped", [](const Specimen& s, Chain c) {
    const Tensor keep = reshape((arange(9, s.Q.dtype()) < 8.0).to(s.Q.dtype()), {9, 1});
    c.dS = c.dS * keep, c.P = c.P * keep;
    return c.gradients(s, root(s));
  }));
  all.push_back(backward("keys detached", "dK is 0", [](const Specimen& s, const Chain& c) {
    Backward b = c.gradients(s, root(s));
    b.dK = zeros_like(b.dK);
    return b;
  }));
  all.push_back(backward("weights detached", "dQ is 0", [](const Specimen& s, const Chain& c) {
    Backward b = c.gradients(s, root(s));
    return Backward{zeros_like(b.dQ), zeros_like(b.dK), b.dV};
  }));
  all.push_back(backward("weights recomputed without their sum", "weights not normalised in backward",
                         [](const Specimen& s, Chain c) {
                           const Tensor scores = masked(scores_of(s.Q, s.K) * root(s), causal(s));
                           c.P = exp(scores - max(scores, Over{{-1}, true}));
                           c.dS = c.P * (c.dP - row_sum(s.dO * s.output));
                           return c.gradients(s, root(s));
                         }));
  all.push_back(backward("delta of the head beside", "delta of another head", [](const Specimen& s, Chain c) {
    c.dS = c.P * (c.dP - roll(row_sum(s.dO * s.output), 1, 1));
    return c.gradients(s, root(s));
  }));
}

// ---- Grouped heads -------------------------------------------------------------------------------------------------
// Two query heads to a key head, right but for what becomes of the gradients of the four that each would have alone.
template <class Join> Exhibit grouped(const std::string& name, const std::string& diagnosis, const Join& join) {
  return {name, diagnosis, [join](std::uint64_t seed, Format format) {
            Specimen s = drawn(seed, format, {2, 4, 9, 6}, 2), wide = s;
            const auto twice = [](const Tensor& x) {
              return reshape(stack({x, x}, 2), {x.shape(0), 2 * x.shape(1), x.shape(2), x.shape(3)});
            };
            wide.K = twice(s.K), wide.V = twice(s.V);
            wide = computed(wide, [](auto& x, const Tensor& Q, const Tensor& K, const Tensor& V) {
              return apply(right_weights(x, Q, K), V);
            });
            s.weights = wide.weights, s.output = wide.output, s.dQ = wide.dQ;
            s.dK = join(reshape(wide.dK, {2, 2, 2, 9, 6})), s.dV = join(reshape(wide.dV, {2, 2, 2, 9, 6}));
            return s;
          }};
}

void add_groups(std::vector<Exhibit>& all) {
  all.push_back(grouped("gradient of one query head of the group", "one head of the group",
                        [](const Tensor& x) { return reshape(slice(x, 2, 1, 2), {2, 2, 9, 6}); }));
  all.push_back(grouped("mean over the group in backward", "mean over the group",
                        [](const Tensor& x) { return mean(x, 2); }));
  all.push_back(grouped("groups in turn in backward", "groups in turn in backward",
                        [](const Tensor& x) { return sum(x, 1); }));
}

// What a fused kernel leaves: computed in float32, stored in the format.
Specimen stored(Specimen s, Format format) {
  for (Tensor* x : {&s.weights, &s.output, &s.dQ, &s.dK, &s.dV})
    if (x->defined()) *x = rounded(*x, format);
  return s;
}

}  // namespace

const std::vector<Exhibit>& zoo() {
  static const std::vector<Exhibit> all = [] {
    std::vector<Exhibit> exhibits;
    for (const auto& add : {add_scales, add_masks, add_hidings, add_softmaxes, add_joints, add_products,
                            add_score_gradients, add_backwards, add_groups, add_wrong_inputs}) add(exhibits);
    for (Exhibit& e : exhibits)
      e.make = [make = e.make](std::uint64_t seed, Format format) { return stored(make(seed, format), format); };
    return exhibits;
  }();
  return all;
}

}  // namespace surgeon::tests
