// Runs f once to learn its value and which tensors from outside it uses, drops the graph, and keeps f.
#include "framework/recompute.hpp"

#include <unordered_set>

#include "framework/autograd.hpp"
#include "framework/detail/node.hpp"
#include "framework/errors.hpp"

namespace surgeon {
namespace {

std::vector<Tensor> aliases_of(std::span<const Tensor> inputs) {
  std::vector<Tensor> aliases;
  for (const Tensor& x : inputs) aliases.push_back(is_floating(x.dtype()) ? detail::alias(x) : x);
  return aliases;
}

// What y was made from that is older than the run: not the inputs, since f saw aliases of them.
std::vector<Tensor> captured_by(const Tensor& y, std::uint64_t start, std::span<const Tensor> aliases) {
  std::vector<Tensor> captured, todo{y};
  std::unordered_set<std::uint64_t> seen{y.node().id};
  for (const Tensor& alias : aliases) seen.insert(alias.node().id);
  while (!todo.empty()) {
    const Tensor x = std::move(todo.back());
    todo.pop_back();
    if (!x.node().step) continue;
    for (const Tensor& input : x.node().step->inputs) {
      if (!is_floating(input.dtype()) || !seen.insert(input.node().id).second) continue;
      (input.node().id < start ? captured : todo).push_back(input);
    }
  }
  return captured;
}

}  // namespace

Tensor recompute(const Function& f, const std::vector<Tensor>& inputs) {
  for (const Tensor& x : inputs) require_value("recompute", x);
  if (!recording()) return f(inputs);
  std::vector<Tensor> kept = inputs;
  Tensor value;
  {
    const std::uint64_t start = detail::newest_id();
    const std::vector<Tensor> aliases = aliases_of(inputs);
    const Tensor y = f(aliases);
    require_value("recompute", y);
    for (Tensor& x : captured_by(y, start, aliases)) kept.push_back(std::move(x));
    value = y.detach();
  }
  const std::size_t n = inputs.size();
  return record("recompute", Inputs(std::span<const Tensor>(kept)), value, [f, n](const Ins& in, Out, Grad g) -> Grads {
    const bool create_graph = recording();
    const detail::Recording on;
    std::vector<Tensor> xs = aliases_of(in.all().first(n));
    const Tensor y = f(xs);
    for (std::size_t i = n; i < in.size(); ++i) xs.push_back(in[i]);
    std::vector<Tensor> targets;
    for (std::size_t i = 0; i < xs.size(); ++i)
      if (in.wanted(i) && is_floating(xs[i].dtype())) targets.push_back(xs[i]);
    // What f captured may itself be made from something else it captured: each counts for itself only.
    std::vector<Tensor> found(targets.size());
    detail::grad_into(y, targets, {.cotangent = g, .create_graph = create_graph, .allow_unused = true}, found,
                      detail::Depth::up_to_xs);
    Grads gradients;
    for (std::size_t i = 0, next = 0; i < xs.size(); ++i)
      gradients.push_back(in.wanted(i) && is_floating(xs[i].dtype()) ? found[next++] : Tensor());
    return gradients;
  });
}

}  // namespace surgeon
