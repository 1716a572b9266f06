// The walk back. Nothing here recurses: ids grow as tensors are made, so visiting the reachable nodes by falling id is
// a topological order.
#include "framework/autograd.hpp"

#include <algorithm>
#include <optional>
#include <unordered_map>

#include "framework/detail/node.hpp"
#include "framework/errors.hpp"
#include "framework/kernels/pool.hpp"

namespace surgeon {

namespace {
thread_local bool recording_on = true;
thread_local const detail::Watch* watch_on = nullptr;
}

NoRecord::NoRecord() noexcept : before_(std::exchange(recording_on, false)) {}
NoRecord::~NoRecord() { recording_on = before_; }
detail::Recording::Recording() noexcept : before_(std::exchange(recording_on, true)) {}
detail::Recording::~Recording() { recording_on = before_; }
detail::Watching::Watching(const Watch* watch) noexcept : before_(std::exchange(watch_on, watch)) {}
detail::Watching::~Watching() { watch_on = before_; }
bool recording() noexcept { return recording_on; }
Tensor stop_gradient(const Tensor& x) { return x.detach(); }

namespace detail {

void* allocate_step(std::size_t bytes) { return kernels::allocate(bytes); }
void destroy_step(Step* step) noexcept {
  const std::size_t bytes = step->bytes();
  step->~Step();
  kernels::deallocate(step, bytes);
}
bool records(const char* name, const Inputs& inputs, const Tensor& value) {
  require_value(name, value);
  if (watch_on && is_floating(value.dtype())) [[unlikely]] watch_on->value(name, inputs, value);
  if (!recording_on || !is_floating(value.node().dtype)) return false;
  const Step* made_by = value.node().step;
  require(!made_by, "record: ", name, ": the value was made by another op, ", made_by ? made_by->name : "");
  for (const Tensor& input : inputs) {
    require_value(name, input);
    require(!input.same(value), "record: ", name, ": the value is one of the inputs");
  }
  return true;
}

void attach(const Tensor& value, Step* step) noexcept {
  Node& node = value.node();
  for (const Tensor& input : step->inputs) {
    step->saved_versions += input.version();
    if (input.node().id > node.id) node.id = newest_id();   // made after the value, or by another thread
  }
  node.step = step;
}

namespace {

// What the walk knows of one tensor.
struct Visit {
  Node* node = nullptr;
  bool reached = false;   // y was made from it
  bool target = false;
  bool wanted = false;    // a target, or made from one
  Tensor gradient = {};
};

// Visits by id. A fresh graph's ids are dense, so most live in an array indexed by their distance from y;
// what is much older (parameters, an outer graph) in a map.
class Visits {
 public:
  explicit Visits(std::uint64_t newest) : newest_(newest) {}

  Visit* find(std::uint64_t id) {
    if (id > newest_) return nullptr;
    const std::uint64_t distance = newest_ - id;
    if (distance < near_.size()) return near_[distance].node ? &near_[distance] : nullptr;
    if (far_.empty()) return nullptr;
    const auto found = far_.find(id);
    return found == far_.end() ? nullptr : &found->second;
  }

  Visit& enter(Node* node) {   // node must not be newer than y
    const std::uint64_t distance = newest_ - node->id;
    if (distance >= near_.size() && distance <= 4 * count_ + 64) {   // the array stays at most a few times too large
      near_.resize(std::max<std::size_t>(2 * near_.size(), distance + 1));
      adopt_far();
    }
    Visit& visit = distance < near_.size() ? near_[distance] : far_[node->id];
    count_ += visit.node == nullptr;
    visit.node = node;
    return visit;
  }

  // Newest first; the pointers stay valid as long as nothing is entered.
  template <class Body> void newest_first(const Body& body) {
    for (Visit& visit : near_)
      if (visit.node) body(visit);
    for (Visit* visit : sorted_far()) body(*visit);
  }
  template <class Body> void oldest_first(const Body& body) {
    const std::vector<Visit*> far = sorted_far();
    for (auto it = far.rbegin(); it != far.rend(); ++it) body(**it);
    for (auto it = near_.rbegin(); it != near_.rend(); ++it)
      if (it->node) body(*it);
  }

 private:
  void adopt_far() {   // what the grown array now covers
    for (auto it = far_.begin(); it != far_.end();) {
      const std::uint64_t distance = newest_ - it->first;
      if (distance >= near_.size()) { ++it; continue; }
      near_[distance] = std::move(it->second);
      it = far_.erase(it);
    }
  }
  std::vector<Visit*> sorted_far() {
    std::vector<Visit*> visits;
    for (auto& [id, visit] : far_) visits.push_back(&visit);
    std::sort(visits.begin(), visits.end(), [](auto* a, auto* b) { return a->node->id > b->node->id; });
    return visits;
  }

  std::uint64_t newest_;
  std::vector<Visit> near_;
  std::unordered_map<std::uint64_t, Visit> far_;
  std::size_t count_ = 0;
};

// Enters every recorded tensor y was made from, and the targets; other leaves are of no interest, nor is what is older
// than every target, since it was made from none.
void reach(Visits& visits, Node& y, std::span<const Tensor> xs, Depth depth) {
  std::uint64_t oldest = y.id;
  for (const Tensor& x : xs)
    if (x.node().id <= y.id) {
      visits.enter(&x.node()).target = true;
      oldest = std::min(oldest, x.node().id);
    }
  std::vector<Node*> todo;
  const auto visit = [&](Node& node) {
    if (node.id < oldest) return;
    Visit* visit = node.step ? &visits.enter(&node) : visits.find(node.id);
    if (!visit || visit->reached) return;
    visit->reached = true;
    if (node.step && !(depth == Depth::up_to_xs && visit->target)) todo.push_back(&node);
  };
  visit(y);
  while (!todo.empty()) {
    const Node& node = *todo.back();
    todo.pop_back();
    for (const Tensor& input : node.step->inputs) visit(input.node());
  }
}

// Oldest first, so that a node's inputs are settled before it is.
void mark_wanted(Visits& visits) {
  visits.oldest_first([&](Visit& visit) {
    visit.wanted = visit.target;
    if (!visit.wanted && visit.node->step)
      for (const Tensor& input : visit.node->step->inputs) {
        const Visit* made_from = visits.find(input.node().id);
        if (made_from && made_from->wanted) { visit.wanted = true; break; }
      }
  });
}

std::uint64_t wanted_inputs(Visits& visits, const Step& step, bool& any) {
  std::uint64_t mask = 0;
  for (std::size_t i = 0; i < step.inputs.size(); ++i) {
    const Visit* visit = is_floating(step.inputs[i].node().dtype) ? visits.find(step.inputs[i].node().id) : nullptr;
    if (!visit || !visit->wanted) continue;
    any = true;
    if (i < 64) mask |= std::uint64_t{1} << i;
  }
  return mask;
}

void check_versions(const Node& node) {
  std::uint64_t versions = 0;
  for (const Tensor& input : node.step->inputs) versions += input.version();
  require(versions == node.step->saved_versions && node.version == 0, "grad: ", node.step->name,
          ": a value it saved has since been changed by assign()");
}

// A handle that counts nothing, for a node that lives on anyway.
class Borrowed {
 public:
  explicit Borrowed(Node* node) { new (place_) Tensor(static_cast<Counted*>(node)); }
  operator const Tensor&() const { return *reinterpret_cast<const Tensor*>(place_); }

 private:
  alignas(Tensor) std::byte place_[sizeof(Tensor)];
};

// Undoes broadcasting: what was repeated is summed. Adds up what reaches a tensor on several ways.
void deliver(Visit& visit, Tensor gradient, const char* op, std::size_t input) {
  const Node& x = *visit.node;
  require(gradient.dtype() == x.dtype, "grad: ", op, ": its rule returned a ", gradient.dtype(), " gradient for input ",
          input, ", which is ", x.dtype);
  if (gradient.shape() != x.shape) {
    require(broadcasts_to(x.shape, gradient.shape()), "grad: ", op, ": its rule returned a gradient of shape ",
            gradient.shape(), " for input ", input, " of shape ", x.shape);
    gradient = sum_to(gradient, x.shape);
  }
  if (visit.gradient.empty()) visit.gradient = std::move(gradient);
  else visit.gradient = add_into(std::move(visit.gradient), gradient);
}

// A rule is watched as a whole: its own ops would be reported under their names, not its.
Grads pull_watched(const Step& step, const Ins& in, Out y, Grad g, const Tensor& loss) {
  Grads gradients;
  {
    const Watching pause(nullptr);
    gradients = step.pull(in, y, g);
  }
  for (std::size_t i = 0; i < gradients.size() && i < in.size(); ++i)
    if (!gradients[i].empty() && in.wanted(i)) watch_on->gradient(step, i, g, gradients[i], y, loss);
  return gradients;
}

void walk(Visits& visits, const Tensor& loss, Depth depth) {
  visits.newest_first([&](Visit& visit) {
    const Step* step = visit.node->step;
    if (!step || !visit.wanted || visit.gradient.empty() || (depth == Depth::up_to_xs && visit.target)) return;
    bool any = false;
    const std::uint64_t mask = wanted_inputs(visits, *step, any);
    if (!any) return;
    check_versions(*visit.node);
    const Borrowed y(visit.node);
    // A target's gradient is an answer and is kept; any other is done with after this.
    const Tensor g = visit.target ? visit.gradient : std::move(visit.gradient);
    const Ins in(step->inputs, mask);
    Grads gradients = watch_on ? pull_watched(*step, in, y, g, loss) : step->pull(in, y, g);
    require(gradients.size() == step->inputs.size(), "grad: ", step->name, ": its rule returned ",
            gradients.size(), " gradients for ", step->inputs.size(), " inputs");
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      if (gradients[i].empty() || (i < 64 && !(mask >> i & 1))) continue;
      Visit* from = visits.find(step->inputs[i].node().id);
      if (from && from->wanted) deliver(*from, std::move(gradients[i]), step->name, i);
    }
  });
}

}  // namespace

void grad_into(const Tensor& y, std::span<const Tensor> xs, const GradOptions& options, std::span<Tensor> result,
               Depth depth) {
  require_value("grad", y);
  for (const Tensor& x : xs) require_value("grad", x);
  require(is_floating(y.dtype()), "grad: y must be float32 or float64, not ", y.dtype());
  const Tensor& cotangent = options.cotangent;
  require(!cotangent.empty() || y.size() == 1, "grad: y has shape ", y.shape(), ", not one element: pass a .cotangent");
  if (cotangent.defined()) {
    require(cotangent.shape() == y.shape(), "grad: the cotangent has shape ", cotangent.shape(), ", but y has shape ",
            y.shape());
    require(cotangent.dtype() == y.dtype(), "grad: the cotangent is ", cotangent.dtype(), ", but y is ", y.dtype());
  }

  Visits visits(y.node().id);
  reach(visits, y.node(), xs, depth);
  mark_wanted(visits);
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const Visit* visit = visits.find(xs[i].node().id);
    require((visit && visit->reached) || options.allow_unused, "grad: y does not depend on tensor ", i, " of shape ",
            xs[i].shape(), " (set .allow_unused to get zeros)");
  }

  std::optional<NoRecord> pause;
  if (!options.create_graph) pause.emplace();
  if (Visit* root = visits.find(y.node().id); root && root->wanted) {
    root->gradient = cotangent.empty() ? ones_like(y) : cotangent;
    walk(visits, y, depth);
  }
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const Visit* visit = visits.find(xs[i].node().id);
    result[i] = visit && !visit->gradient.empty() ? visit->gradient : zeros_like(xs[i]);
  }
}

Grads pull_reference(const char* name, const Ins& in, Grad g, const Reference& reference) {
  require(bool(reference), "grad: ", name, " has no second derivative, which create_graph asks for");
  // Aliases, so that an input that was itself made from another input is not counted twice.
  std::vector<Tensor> aliases, wanted;
  for (std::size_t i = 0; i < in.size(); ++i) {
    aliases.push_back(in.wanted(i) && is_floating(in[i].dtype()) ? alias(in[i]) : in[i]);
    if (!aliases.back().same(in[i])) wanted.push_back(aliases.back());
  }
  const std::vector<Tensor> found =
      grad(reference(aliases), wanted, {.cotangent = g, .create_graph = true, .allow_unused = true});
  Grads gradients;
  for (std::size_t i = 0, next = 0; i < in.size(); ++i)
    gradients.push_back(aliases[i].same(in[i]) ? Tensor() : found[next++]);
  return gradients;
}

}  // namespace detail

std::vector<Tensor> grad(const Tensor& y, const std::vector<Tensor>& xs, const GradOptions& options) {
  std::vector<Tensor> result(xs.size());
  detail::grad_into(y, xs, options, result);
  return result;
}

}  // namespace surgeon
