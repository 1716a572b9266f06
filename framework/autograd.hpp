// Recording what ops do, and walking back: grad(y, {any tensors that y was made from}).
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
  Tensor cotangent = {};       // dL/dy, with y's shape and dtype; 1 when left out, which needs a y of one element
  bool create_graph = false;   // record the walk back too, so that the gradients have gradients
  bool allow_unused = false;   // give zeros, not an error, for a tensor that y does not depend on
};

// dy/dx for each x, contracted with the cotangent; each has the shape and dtype of its x.
// Throws std::invalid_argument when y has several elements and no cotangent is given, when y does not depend on an x,
// or when a value that the walk needs has since been changed by assign() (the op is named).
std::vector<Tensor> grad(const Tensor& y, const std::vector<Tensor>& xs, const GradOptions& options = {});

namespace detail {
enum class Depth { whole, up_to_xs };   // up_to_xs: the walk ends at each x, even at one that another x was made from
void grad_into(const Tensor& y, std::span<const Tensor> xs, const GradOptions&, std::span<Tensor> result,
               Depth depth = Depth::whole);
}

// auto [dQ, dK] = grad(y, {Q, K});
template <std::size_t N>
std::array<Tensor, N> grad(const Tensor& y, const Tensor (&xs)[N], const GradOptions& options = {}) {
  std::array<Tensor, N> result;
  detail::grad_into(y, xs, options, result);
  return result;
}

// While one lives, ops on this thread build no graph. It may be nested, and ends with its scope, exceptions included.
// Use it for whatever is carried from step to step: without it, a running average such as
//   average = 0.99 * average + 0.01 * loss
// holds on to the graph of every step before it, and memory grows without end.
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
// While one lives, ops on this thread are recorded, even inside a NoRecord: for functions that differentiate on their
// way to a value.
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
Tensor stop_gradient(const Tensor& x);   // the same numbers, through which no gradient flows

// ---- Making ops ----------------------------------------------------------------------------------------------------

// What a gradient rule is given and returns. A rule must not capture tensors: what it needs must be among the op's
// inputs, or be plain numbers.
class Ins {
 public:
  Ins(std::span<const Tensor> inputs, std::uint64_t wanted) : inputs_(inputs), wanted_(wanted) {}
  const Tensor& operator[](std::size_t i) const { return inputs_[i]; }
  std::size_t size() const { return inputs_.size(); }
  bool wanted(std::size_t i) const { return i >= 64 || (wanted_ >> i & 1); }   // false: its gradient is not used
  std::span<const Tensor> all() const { return inputs_; }

 private:
  std::span<const Tensor> inputs_;
  std::uint64_t wanted_;
};
using Out = const Tensor&;
using Grad = const Tensor&;          // dL/d(output): the output's shape and dtype
using Inputs = SmallList<Tensor, 4>;
using Grads = SmallList<Tensor, 4>;  // one per input, in order; an empty tensor means no gradient

namespace detail {

// One recorded op. It lives as long as the node of its output.
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

// What is called for every value and every gradient on this thread; Anomaly sets it.
struct Watch {
  void (*value)(const char* op, std::span<const Tensor> inputs, const Tensor& value);
  void (*gradient)(const Step&, std::size_t input, const Tensor& g, const Tensor& gradient, const Tensor& y,
                   const Tensor& loss);
};
class Watching {   // sets it as long as it lives; an inner one replaces an outer one
 public:
  explicit Watching(const Watch* watch) noexcept;   // null: nothing is called
  ~Watching();
  Watching(const Watching&) = delete;
  Watching& operator=(const Watching&) = delete;

 private:
  const Watch* before_;
};

void* allocate_step(std::size_t bytes);
// Whether recording is on and the dtype has derivatives. Refuses a value that another op made.
bool records(const char* name, const Inputs& inputs, const Tensor& value);
void attach(const Tensor& value, Step* step) noexcept;

}  // namespace detail

// The output of an op: `value`, which from here on remembers how it was made.
//   name    a string that outlives every graph (a literal)
//   inputs  every tensor that the rule needs, differentiable or not
//   value   made by this op alone: nothing else may refer to it
//   rule    (const Ins&, Out, Grad) -> Grads, written in Tensor ops, so that it can be differentiated again
// A rule may return the gradient of a broadcast input unsummed: the engine sums it back to the input's shape. With
// recording off, record returns `value` as it is.
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
// under create_graph the gradient goes through `reference`. Without a reference, asking for a second derivative is an
// error that names the op. Every fused op has a test: fused equals reference.
template <class Rule>
Tensor fused(const char* name, Inputs inputs, Tensor value, Rule fast_rule, Reference reference) {
  return record(name, std::move(inputs), std::move(value),
                [name, fast_rule = std::move(fast_rule), reference = std::move(reference)](
                    const Ins& in, Out y, Grad g) -> Grads {
                  return recording() ? detail::pull_reference(name, in, g, reference) : fast_rule(in, y, g);
                });
}

}  // namespace surgeon
