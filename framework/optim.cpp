// Optimizers: the checks, the state by name, and the update rules.
#include "framework/optim.hpp"

#include <algorithm>
#include <cmath>

#include "framework/detail/node.hpp"
#include "framework/errors.hpp"
#include "framework/kernels/optim.hpp"
#include "framework/kernels/threads.hpp"

namespace surgeon {

namespace {

constexpr std::int64_t grain = 1 << 15;   // numbers per thread: below this, starting one costs more than it saves

void check_fraction(const char* optimizer, const char* option, double value) {
  require(value >= 0.0 && value < 1.0, optimizer, ": ", option, " must be at least 0 and below 1, not ", value);
}
void check_not_negative(const char* optimizer, const char* option, double value) {
  require(std::isfinite(value) && value >= 0.0, optimizer, ": ", option,
          " must be a finite number of at least 0, not ", value);
}

// One place for the loops over a parameter's numbers: each body is given a run [begin, end) of them.
template <class Body>
void for_numbers(const Tensor& parameter, const Body& body) {
  kernels::parallel_for(parameter.size(), grain, body);
}

}  // namespace

Group no_decay_on_vectors() {
  return {[](std::string_view, const Tensor& tensor) { return tensor.rank() <= 1; }, 0.0};
}

// ---- What all of them share ----------------------------------------------------------------------------------------

Optimizer::Optimizer(const char* name, Parameters parameters, double lr, double weight_decay,
                     const std::vector<Group>& groups, std::vector<const char*> moments)
    : name_(name), parameters_(std::move(parameters)), moment_names_(std::move(moments)) {
  set_lr(lr);
  check_not_negative(name_, "weight_decay", weight_decay);
  for (const Group& group : groups) {
    require(bool(group.takes), name_, ": a group has no `takes` function");
    check_not_negative(name_, "a group's weight_decay", group.weight_decay.value_or(0.0));
    check_not_negative(name_, "a group's lr_factor", group.lr_factor);
  }
  std::size_t index = 0;
  for (const auto& [label, tensor] : parameters_) {
    require(tensor.defined() && is_floating(tensor.dtype()), name_, ": ", label,
            " must hold float32 or float64 numbers");
    const auto same = [&tensor = tensor](const Slot& slot) { return slot.parameter.same(tensor); };
    if (std::none_of(slots_.begin(), slots_.end(), same)) add_slot(label, tensor, index, weight_decay, groups);
    ++index;
  }
}

void Optimizer::add_slot(const std::string& label, const Tensor& tensor, std::size_t index, double weight_decay,
                         const std::vector<Group>& groups) {
  Slot slot{label, tensor, index, {}, weight_decay, 1.0};
  const auto takes = [&](const Group& group) { return group.takes(label, tensor); };
  if (const auto group = std::find_if(groups.begin(), groups.end(), takes); group != groups.end()) {
    slot.weight_decay = group->weight_decay.value_or(weight_decay);
    slot.lr_factor = group->lr_factor;
  }
  for (std::size_t i = 0; i < moment_names_.size(); ++i) slot.moments.push_back(zeros_like(tensor));
  slots_.push_back(std::move(slot));
}

void Optimizer::set_lr(double lr) {
  check_not_negative(name_, "lr", lr);
  lr_ = lr;
}

void Optimizer::step(std::span<const Tensor> gradients) {
  require(gradients.size() == parameters_.size(), name_, ": ", gradients.size(), " gradients for ", parameters_.size(),
          " parameters");
  const Tensor* gradient = gradients.data();
  for (const auto& [label, tensor] : parameters_) {
    const Tensor& g = *gradient++;
    if (g.empty()) continue;
    require(g.shape() == tensor.shape() && g.dtype() == tensor.dtype(), name_, ": the gradient of ", label, " is ",
            g.dtype(), " ", g.shape(), ", but the parameter is ", tensor.dtype(), " ", tensor.shape());
  }
  // A gradient may be one of the parameters themselves: what is shared is copied before it is overwritten.
  std::vector<Tensor> held;
  for (const Tensor& g : gradients) held.push_back(g.empty() ? g : g.detach());
  for (Slot& slot : slots_) {
    const Tensor& g = held[slot.index];
    if (g.empty()) continue;
    ++slot.steps;
    update(slot, g, lr_ * slot.lr_factor);
  }
}

Parameters Optimizer::moments() const {
  Parameters moments;
  for (std::size_t i = 0; i < moment_names_.size(); ++i)
    for (const Slot& slot : slots_) moments.add(moment_names_[i] + ("." + slot.name), slot.moments[i]);
  return moments;
}

Parameters Optimizer::state() const {
  std::vector<std::int64_t> steps;
  for (const Slot& slot : slots_) steps.push_back(slot.steps);
  Parameters state{{"lr", tensor({lr_}, {})}, {"step", tensor(steps, {std::int64_t(steps.size())})}};
  // Detached ones share the numbers until the next update, which copies before it overwrites.
  for (const auto& [label, moment] : moments()) state.add(label, moment.detach());
  return state;
}

void Optimizer::restore(const Parameters& state) {
  require_alike(std::string(name_) + "'s state", this->state(), state);
  const std::span<const std::int64_t> steps = state["step"].values<std::int64_t>();
  for (std::int64_t n : steps) require(n >= 0, name_, "'s state: the step count ", n, " is negative");
  set_lr(state["lr"].item());
  for (std::size_t i = 0; i < slots_.size(); ++i) slots_[i].steps = steps[i];
  for (const auto& [label, moment] : moments()) Tensor(moment).assign(state[label]);
}

// ---- The three rules -----------------------------------------------------------------------------------------------

Sgd::Sgd(const Parameters& parameters, const SgdOptions& options, const std::vector<Group>& groups)
    : Optimizer("Sgd", parameters, options.lr, options.weight_decay, groups,
                options.momentum != 0.0 ? std::vector{"momentum_buffer"} : std::vector<const char*>{}),
      options_(options) {
  check_not_negative("Sgd", "momentum", options.momentum);
  require(std::isfinite(options.dampening), "Sgd: dampening must be finite, not ", options.dampening);
  require(!options.nesterov || (options.momentum > 0.0 && options.dampening == 0.0),
          "Sgd: nesterov needs momentum and no dampening");
}

void Sgd::update(const Slot& slot, const Tensor& gradient, double lr) const {
  const kernels::SgdStep s{lr, options_.momentum, options_.dampening, slot.weight_decay, options_.nesterov,
                           slot.steps == 1};
  detail::visit_floating(gradient.dtype(), [&]<class T>(T) {
    const T* g = detail::data<T>(gradient);
    T* b = slot.moments.empty() ? nullptr : static_cast<T*>(detail::overwrite(slot.moments[0]));
    T* p = static_cast<T*>(detail::overwrite(slot.parameter));
    for_numbers(gradient, [&](std::int64_t begin, std::int64_t end) {
      kernels::optim<T>().sgd(s, end - begin, g + begin, b ? b + begin : b, p + begin);
    });
  });
}

namespace {

std::vector<const char*> adam_moments(bool amsgrad) {
  if (amsgrad) return {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"};
  return {"exp_avg", "exp_avg_sq"};
}

}  // namespace

Adam::Adam(const char* name, const Parameters& parameters, const AdamOptions& options, const std::vector<Group>& groups,
           Decay decay)
    : Optimizer(name, parameters, options.lr, options.weight_decay, groups, adam_moments(options.amsgrad)),
      options_(options),
      decay_(decay) {
  check_fraction(name, "beta1", options.beta1);
  check_fraction(name, "beta2", options.beta2);
  check_not_negative(name, "eps", options.eps);
}

AdamW::AdamW(const Parameters& parameters, const AdamWOptions& o, const std::vector<Group>& groups)
    : Adam("AdamW", parameters, {o.lr, o.beta1, o.beta2, o.eps, o.weight_decay, o.amsgrad}, groups,
           Decay::decoupled) {}

void Adam::update(const Slot& slot, const Tensor& gradient, double lr) const {
  kernels::AdamStep s{.beta1 = options_.beta1, .beta2 = options_.beta2, .eps = options_.eps};
  const bool decoupled = decay_ == Decay::decoupled;
  s.shrink = decoupled ? 1.0 - lr * slot.weight_decay : 1.0;
  s.weight_decay = decoupled ? 0.0 : slot.weight_decay;
  s.step_size = lr / (1.0 - std::pow(options_.beta1, double(slot.steps)));
  s.correction = std::sqrt(1.0 - std::pow(options_.beta2, double(slot.steps)));
  detail::visit_floating(gradient.dtype(), [&]<class T>(T) {
    const auto mine = [](const Tensor& x) { return static_cast<T*>(detail::overwrite(x)); };
    const T* g = detail::data<T>(gradient);
    T *m = mine(slot.moments[0]), *v = mine(slot.moments[1]), *p = mine(slot.parameter);
    T* largest = options_.amsgrad ? mine(slot.moments[2]) : nullptr;
    for_numbers(gradient, [&](std::int64_t begin, std::int64_t end) {
      kernels::optim<T>().adam(s, end - begin, g + begin, m + begin, v + begin, largest ? largest + begin : largest,
                               p + begin);
    });
  });
}

}  // namespace surgeon
