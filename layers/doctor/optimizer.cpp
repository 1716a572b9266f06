// What an optimizer makes of gradients that are nothing but rounding.
#include <cmath>
#include <optional>

#include "framework/errors.hpp"
#include "layers/doctor.hpp"

namespace surgeon {

namespace {

double root_mean_square(const Tensor& x) { return std::sqrt(mean(x * x).item()); }

Tensor find(const Parameters& state, const std::string& name) {
  for (const auto& [full, x] : state)
    if (full == name) return x.to(Dtype::float64);
  return {};
}

// The name of the query's bias for that of a key's.
std::optional<std::string> query_twin(const std::string& key) {
  for (const auto& [k, q] : {std::pair{"W_k.bias", "W_q.bias"},
                             {"k_proj.bias", "q_proj.bias"},
                             {"key.bias", "query.bias"},
                             {"to_k.bias", "to_q.bias"}})
    if (const std::string end = k; key.ends_with(end)) return key.substr(0, key.size() - end.size()) + q;
  return {};
}

struct Moments {
  double gradient = 0, speed = 0;   // root mean squares: of gradients, and of steps in learning rates
};

std::optional<Moments> moments_of(const Parameters& state, const std::string& before, const std::string& name,
                                  const AdamState& adam) {
  const Tensor m = find(state, before + "exp_avg." + name), v = find(state, before + "exp_avg_sq." + name);
  if (m.empty() || v.empty() || m.size() == 0) return {};
  const auto grown = [&](double beta) { return adam.steps > 0 ? 1 - std::pow(beta, double(adam.steps)) : 1.0; };
  const Tensor size = sqrt(v / grown(adam.beta2));
  return Moments{root_mean_square(size), root_mean_square(m / grown(adam.beta1) / (size + adam.eps))};
}

}   // namespace

std::vector<Finding> examine_key_biases(const Parameters& state, const AdamState& adam) {
  constexpr double noise = 1e-3, moves = 0.01;
  const std::string mark = "exp_avg_sq.";
  std::vector<Finding> all;
  for (const auto& [full, x] : state) {
    const auto at = full.find(mark);
    if (at == std::string::npos) continue;
    const std::string before = full.substr(0, at), name = full.substr(at + mark.size());
    const auto twin = query_twin(name);
    if (!twin) continue;
    const auto key = moments_of(state, before, name, adam), query = moments_of(state, before, *twin, adam);
    if (!key || !query || key->gradient > noise * query->gradient || key->speed < moves) continue;
    all.push_back({Finding::Kind::observation, "key bias drifts",
                   "the optimizer moves a key bias, whose gradient is 0 in exact arithmetic, by rounding noise", name,
                   0, 0, 0, 0.95,
                   sentence("its gradients are ", key->gradient / query->gradient, " of the query bias's, its steps ",
                            key->speed, " learning rates (the query bias's: ", query->speed, ")"),
                   "leave out the bias of the keys, which changes no weight, or give Adam an eps above " +
                       sentence(key->gradient)});
  }
  return all;
}

}   // namespace surgeon
