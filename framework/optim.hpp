// Optimizers. Names, defaults and the order of the arithmetic are those of PyTorch 1.13 (its single-tensor path): in
// float64 the trajectories agree up to rounding.
//
//   AdamW optimizer(model.parameters(), {.lr = 3e-4}, {no_decay_on_vectors()});
//   Schedule rate = schedule::warmup_cosine(3e-4, 100, 2000);
//   for (std::int64_t t = 0; t < 2000; ++t) {
//     std::vector<Tensor> gradients = grad(loss(model, batch(t)), optimizer.parameters().tensors());
//     clip_grad_norm(gradients, 1.0);
//     optimizer.set_lr(rate(t));
//     optimizer.step(gradients);
//   }
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "framework/clipping.hpp"
#include "framework/parameters.hpp"
#include "framework/schedules.hpp"
#include "framework/tensor.hpp"

namespace surgeon {

// ---- Optimizers ----------------------------------------------------------------------------------------------------

// Parameters with options of their own. A parameter belongs to the first group whose `takes` returns true, if any.
struct Group {
  std::function<bool(std::string_view name, const Tensor& tensor)> takes;
  std::optional<double> weight_decay = {};   // replaces the optimizer's
  double lr_factor = 1.0;                    // multiplies the learning rate of each step
};
// No weight decay for norms and biases, which are the tensors of rank 0 and 1.
Group no_decay_on_vectors();

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // Updates every parameter, through its handle. gradients: one per parameter, in order, with its shape and dtype, or
  // std::invalid_argument is thrown before anything changes. An empty gradient leaves its parameter, and that
  // parameter's step count, as they are. A tensor that is listed twice (a tied head) is updated once, with its first
  // gradient.
  void step(std::span<const Tensor> gradients);
  void step(std::initializer_list<Tensor> gradients) { step(std::span(gradients.begin(), gradients.size())); }

  double lr() const noexcept { return lr_; }
  void set_lr(double lr);   // std::invalid_argument unless finite and not negative
  const Parameters& parameters() const noexcept { return parameters_; }

  // All that it remembers: "lr"; "step" (int64, one per distinct parameter); and the moments, with PyTorch's name
  // before the parameter's ("exp_avg.W_q.weight"). It is a snapshot: later steps do not change it.
  Parameters state() const;
  // Takes a state back, all or nothing; std::invalid_argument names what is missing, unexpected or of another shape.
  void restore(const Parameters& state);

 protected:
  // What is kept for each distinct parameter.
  struct Slot {
    std::string name;
    Tensor parameter;
    std::size_t index;             // of its gradient
    std::vector<Tensor> moments;   // as many as the optimizer has names for
    double weight_decay, lr_factor;
    std::int64_t steps = 0;
  };
  Optimizer(const char* name, Parameters parameters, double lr, double weight_decay, const std::vector<Group>& groups,
            std::vector<const char*> moments);

 private:
  virtual void update(const Slot& slot, const Tensor& gradient, double lr) const = 0;   // slot.steps includes this one
  void add_slot(const std::string& label, const Tensor& tensor, std::size_t index, double weight_decay,
                const std::vector<Group>& groups);
  Parameters moments() const;

  const char* name_;
  Parameters parameters_;
  std::vector<Slot> slots_;
  std::vector<const char*> moment_names_;
  double lr_;
};

struct SgdOptions {
  double lr = 1e-3;
  double momentum = 0.0;
  double dampening = 0.0;
  bool nesterov = false;      // needs momentum and no dampening
  double weight_decay = 0.0;
};
// d = g + weight_decay p; with momentum b = momentum b + (1 - dampening) d (b = d the first time) and then
// d = b, or d + momentum b with nesterov; p -= lr d. Sutskever 2013.
class Sgd final : public Optimizer {
 public:
  explicit Sgd(const Parameters& parameters, const SgdOptions& options = {}, const std::vector<Group>& groups = {});

 private:
  void update(const Slot& slot, const Tensor& gradient, double lr) const override;
  SgdOptions options_;
};

struct AdamOptions {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.0;
  bool amsgrad = false;
};
// g += weight_decay p; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g g;
// p -= lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps). amsgrad: with the largest v so far instead of v.
// Kingma & Ba 2014, arXiv 1412.6980; Reddi 2018, arXiv 1904.09237.
class Adam : public Optimizer {
 public:
  explicit Adam(const Parameters& parameters, const AdamOptions& options = {}, const std::vector<Group>& groups = {})
      : Adam("Adam", parameters, options, groups) {}

 protected:
  enum class Decay { in_gradient, decoupled };
  Adam(const char* name, const Parameters& parameters, const AdamOptions& options, const std::vector<Group>& groups,
       Decay decay = Decay::in_gradient);

 private:
  void update(const Slot& slot, const Tensor& gradient, double lr) const override;
  AdamOptions options_;
  Decay decay_;
};

struct AdamWOptions {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 1e-2;
  bool amsgrad = false;
};
// Adam with weight decay kept out of the gradient: first p *= 1 - lr weight_decay. Loshchilov & Hutter 2017, arXiv
// 1711.05101.
class AdamW final : public Adam {
 public:
  explicit AdamW(const Parameters& parameters, const AdamWOptions& options = {}, const std::vector<Group>& groups = {});
};

}  // namespace surgeon
