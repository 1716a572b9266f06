// Mistakes around attention that is right: other inputs, masks and biases than those told, and gradients that were
// handed on wrongly.
#include <cmath>

#include "layers/layers.hpp"
#include "tests/zoo/zoo.hpp"

namespace surgeon::tests {

namespace {

// What attention was given instead of what was told.
struct Given {
  Tensor Q, K, V;
  AttentionOptions options;
};

template <class Tell, class Change>
Exhibit instead(const std::string& name, const std::string& diagnosis, const Tell& tell, const Change& change) {
  return {name, diagnosis, [tell, change](std::uint64_t seed, Format format) {
            Specimen s = drawn(seed, format);
            tell(s);
            Given given{s.Q, s.K, s.V, s.options()};
            change(given);
            given.options.return_weights = true;
            const AttentionResult r = attention(given.Q, given.K, given.V, given.options);
            const auto [dQ, dK, dV] = grad(r.output, {s.Q, s.K, s.V}, {.cotangent = s.dO});
            s.weights = r.weights.detach(), s.output = r.output.detach();
            s.dQ = dQ, s.dK = dK, s.dV = dV;
            return s;
          }};
}

void as_drawn(Specimen&) {}
void with_bias(Specimen& s) {
  Rng rng(5);
  s.bias = randn({1, 4, 9, 9}, rng, s.Q.dtype());
}
void with_padding(Specimen& s) { s.mask = reshape(arange(9, Dtype::float32) >= 3.0, {1, 1, 1, 9}); }

void add_rules(std::vector<Exhibit>& all) {
  all.push_back(instead("bias added twice", "bias added twice", with_bias,
                        [](Given& g) { g.options.bias = g.options.bias * 2.0; }));
  all.push_back(instead("bias scaled with the products", "bias scaled", with_bias,
                        [](Given& g) { g.options.bias = g.options.bias / std::sqrt(6.0); }));
  all.push_back(instead("bias forgotten", "bias ignored", with_bias, [](Given& g) { g.options.bias = Tensor(); }));
  all.push_back(instead("padding mask inverted, causal rule kept", "padding mask inverted", with_padding,
                        [](Given& g) { g.options.mask = !g.options.mask; }));
  all.push_back(instead("either mask instead of both", "either mask", with_padding, [](Given& g) {
    g.options.mask = g.options.mask || causal_mask(9);
    g.options.causal = false;
  }));
  all.push_back(instead(
      "window one key wider", "window one wider", [](Specimen& s) { s.window = 3; },
      [](Given& g) { g.options.window = 4; }));
  all.push_back(instead(
      "cap forgotten", "cap ignored", [](Specimen& s) { s.soft_cap = 2; }, [](Given& g) { g.options.soft_cap = 0; }));
  all.push_back(instead(
      "causal mask on cross attention", "causal mask",
      [](Specimen& s) {
        s.causal = false;
        s.Q = slice(s.Q, 2, 0, 5), s.dO = slice(s.dO, 2, 0, 5);
      },
      [](Given& g) { g.options.mask = tril(ones({5, 9})) == 1.0; }));
}

void add_inputs(std::vector<Exhibit>& all) {
  all.push_back(instead("Q and K taken before the rotation", "rotary positions", as_drawn,
                        [](Given& g) { g.Q = rotary(g.Q), g.K = rotary(g.K); }));
  all.push_back(instead("keys one place off in the cache", "keys shifted", as_drawn,
                        [](Given& g) { g.K = roll(g.K, 1, 2); }));
  all.push_back(instead("values one place off in the cache", "values shifted", as_drawn,
                        [](Given& g) { g.V = roll(g.V, 1, 2); }));
  all.push_back(instead("stale keys in the cache", "other keys", as_drawn, [](Given& g) {
    g.K = concat({slice(g.K, 2, 0, 3) * -1.0, slice(g.K, 2, 3)}, 2);
  }));
  all.push_back(instead("Q for K", "Q twice", as_drawn, [](Given& g) { g.K = g.Q + g.K * 0.0; }));
}

// Right to the last step.
template <class Change> Exhibit handed_on(const std::string& name, const std::string& diagnosis, const Change& change) {
  Exhibit e = instead(name, diagnosis, as_drawn, [](Given&) {});
  e.make = [right = e.make, change](std::uint64_t seed, Format format) {
    Specimen s = right(seed, format);
    change(s);
    return s;
  };
  return e;
}

}  // namespace

void add_wrong_inputs(std::vector<Exhibit>& all) {
  add_rules(all);
  add_inputs(all);
  all.push_back(handed_on("dK and dV exchanged", "dK and dV exchanged", [](Specimen& s) { std::swap(s.dK, s.dV); }));
  all.push_back(handed_on("loss scale in the gradients alone", "gradients of another scale", [](Specimen& s) {
    for (Tensor* x : {&s.dQ, &s.dK, &s.dV}) *x = *x * 128.0;
  }));
  all.push_back(handed_on("one row of dQ is off by 10 %", "", [](Specimen& s) {
    const Tensor row = reshape((arange(9, s.dQ.dtype()) == 4.0).to(s.dQ.dtype()), {9, 1});
    s.dQ = s.dQ * (1.0 + row * 0.1);
  }));
}

}  // namespace surgeon::tests
