// Named intermediates. A layer calls probe("scores", x) where somebody may want to look. A Probe alive on the same
// thread keeps what passes, or replaces it. With no Probe alive, probe() returns x and costs nothing. Looking changes
// no bit of any number, with one exception: attention whose scores or weights are watched is computed step by step
// instead of in one op, with the same results up to rounding (about 1e-7 in float32).
//
//   Probe look("blocks.*.attention.scores");
//   Tensor loss = model(x);
//   for (auto& [name, dS] : look.gradients(loss)) ...
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "framework/autograd.hpp"

namespace surgeon {

// x, or what a Probe replaces it with. Its full name is the names of the scopes around it and its own, joined by dots.
Tensor probe(std::string_view name, const Tensor& x);
// Whether any Probe asks for this name: for work that is worth doing only then.
bool probed(std::string_view name);

// While one lives, probe names on this thread begin with its name: "blocks.0" and then "attention" give
// "blocks.0.attention.".
class ProbeScope {
 public:
  explicit ProbeScope(std::string_view name);
  ~ProbeScope();
  ProbeScope(const ProbeScope&) = delete;
  ProbeScope& operator=(const ProbeScope&) = delete;

 private:
  std::size_t before_;
};

class Probe {
 public:
  using Replacement = std::function<Tensor(const std::string& name, const Tensor& x)>;
  using Named = std::pair<std::string, Tensor>;

  // Sees the tensors whose full names match the pattern, in which * stands for any characters. Several Probes may live
  // at once; the inner ones see what the outer ones put in place.
  explicit Probe(std::string pattern = "*", Replacement replace = {});
  ~Probe();
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

  // In the order in which they passed; a name that passed twice is listed twice.
  const std::vector<Named>& seen() const noexcept { return seen_; }
  // The last tensor with this full name; the std::out_of_range for a wrong name lists what was seen.
  const Tensor& operator[](std::string_view name) const;
  void clear() { seen_.clear(); }
  // dy/dx by name, for each float32 or float64 x that was seen; zeros where y does not depend on x.
  std::vector<Named> gradients(const Tensor& y, GradOptions options = {}) const;

 private:
  friend Tensor probe(std::string_view, const Tensor&);
  friend bool probed(std::string_view);
  std::string pattern_;
  Replacement replace_;
  std::vector<Named> seen_;
};

}  // namespace surgeon
