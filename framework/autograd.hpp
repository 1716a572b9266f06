// Recording what ops do, and walking back: grad(y, {any tensors y was made from}).
// There is no requires_grad, no .grad and no backward(): gradients are values.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "framework/small_list.hpp"
#include "framework/tensor.hpp"

namespace surgeon {

// ---- Asking for gradients ------------------------------------------------------------------------------------------

struct GradOptions {
  Tensor cotangent = {};       // dL/dy, y's shape and dtype; may be left out when y has one element (then 1)
  bool create_graph = false;   // record the walk too, so that the gradients have gradients
  bool allow_unused = false;   // a tensor that y was not made from gets zeros instead of an error
};

// dy/dx for each x, contracted with the cotangent; each has the shape and dtype of its x.
// Throws std::invalid_argument when y is no scalar and has no cotangent, when a tensor does not lead to y,
// or when a value saved for the walk was changed by assign() since (names the op).
std::vector<Tensor> grad(const Tensor& y, const std::vector<Tensor>& xs, const GradOptions& options = {});

namespace detail {
// With up_to_xs the walk ends at each x, even at one that another x was made from.
void grad_into(const Tensor& y, std::span<const Tensor> xs, const GradOptions&, std::span<Tensor> result,
               bool up_to_xs = false);
}

// auto [dQ, dK] = grad(y, {Q, K});
template <std::size_t N>
std::array<Tensor, N> grad(const Tensor& y, const Tensor (&xs)[N], const GradOptions& options = {}) {
  std::array<Tensor, N> result;
  detail::grad_into(y, xs, options, result);
  return result;
}

// While one lives, ops on this thread build no graph. Nests; restored by exceptions too.
class NoRecord {
 public:
  NoRecord() noexcept;
  ~NoRecord();
  NoRecord(const NoRecord&) = delete;
  NoRecord& operator=(const NoRecord&) = delete;

 private:
  bool before_;
};

namespace detail {
// While one lives, ops on this thread are recorded, whatever a NoRecord further out says: for functions that
// differentiate on their way to a value.
class Recording {
 public:
  Recording() noexcept;
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

 private:
  bool before_;
};
}  // namespace detail

bool recording() noexcept;
Tensor stop_gradient(const Tensor& x);   // the same numbers; no gradient flows through

// ---- Making ops ----------------------------------------------------------------------------------------------------

// What a gradient rule is given and gives back. A rule must not capture tensors: what it needs are inputs or attributes.
class Ins {
 public:
  Ins(std::span<const Tensor> inputs, std::uint64_t wanted) : inputs_(inputs), wanted_(wanted) {}
  const Tensor& operator[](std::size_t i) const { return inputs_[i]; }
  std::size_t size() const { return inputs_.size(); }
  bool wanted(std::size_t i) const { return i >= 64 || (wanted_ >> i & 1); }   // false: any answer will be thrown away
  std::span<const Tensor> all() const { return inputs_; }

 private:
  std::span<const Tensor> inputs_;
  std::uint64_t wanted_;
};
using Out = const Tensor&;
using Grad = const Tensor&;          // dL/d(output): the output's shape and dtype
using Inputs = SmallList<Tensor, 4>;
using Grads = SmallList<Tensor, 4>;   // one per input, in order; an empty tensor means no gradient

namespace detail {

// One recorded op. Lives and dies with the node of its output.
struct Step {
  Step(const char* name_, Inputs inputs_) : name(name_), inputs(std::move(inputs_)) {}
  virtual ~Step() = default;
  virtual Grads pull(const Ins& inputs, Out y, Grad g) const = 0;
  virtual std::size_t bytes() const noexcept = 0;   // of the whole object, for the pool
  const char* name;
  Inputs inputs;
  std::uint64_t saved_versions = 0;   // sum over inputs; versions only grow, so any assign() changes it
};

template <class Rule>
struct RuleStep final : Step {
  RuleStep(const char* name, Inputs inputs, Rule rule_) : Step(name, std::move(inputs)), rule(std::move(rule_)) {}
  Grads pull(const Ins& inputs, Out y, Grad g) const override { return rule(inputs, y, g); }
  std::size_t bytes() const noexcept override { return sizeof *this; }
  Rule rule;
};

void* allocate_step(std::size_t bytes);
// Whether recording is on and the dtype has derivatives; refuses a value that is not this op's own.
bool records(const char* name, const Inputs& inputs, const Tensor& value);
void attach(const Tensor& value, Step* step) noexcept;

}  // namespace detail

// The output of an op: `value`, which remembers how it was made.
//   name    a string that outlives every graph (a literal)
//   inputs  every tensor the rule needs, differentiable or not
//   value   made by this op alone: nothing else may hold it
//   rule    (const Ins&, Out, Grad) -> Grads, in Tensor ops, so that it can be differentiated again
// Broadcast inputs are summed back to their shape by the engine. With recording off it returns `value` as it is.
template <class Rule>
Tensor record(const char* name, Inputs inputs, Tensor value, Rule rule) {
  if (!detail::records(name, inputs, value)) return value;
  using Made = detail::RuleStep<Rule>;
  detail::attach(value, new (detail::allocate_step(sizeof(Made))) Made(name, std::move(inputs), std::move(rule)));
  return value;
}

using Reference = std::function<Tensor(std::span<const Tensor> inputs)>;

namespace detail { Grads pull_reference(const char* name, const Ins&, Grad, const Reference&); }

// An op with a kernel for its value and its first derivative, and the same function in plain ops for higher ones:
// under create_graph the gradient is taken through `reference`. With an empty reference a second derivative is an
// error that names the op. The test that belongs to each: fused equals reference.
template <class Rule>
Tensor fused(const char* name, Inputs inputs, Tensor value, Rule fast_rule, Reference reference) {
  return record(name, std::move(inputs), std::move(value),
                [name, fast_rule = std::move(fast_rule), reference = std::move(reference)](
                    const Ins& in, Out y, Grad g) -> Grads {
                  return recording() ? detail::pull_reference(name, in, g, reference) : fast_rule(in, y, g);
                });
}

}  // namespace surgeon
