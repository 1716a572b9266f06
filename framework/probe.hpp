// Named intermediates. A layer calls probe("scores", x) where a reader may want to look; a Probe alive on the same
// thread keeps what passes, or puts something else in its place. With no Probe alive, probe() returns x and costs
// nothing. Watching changes no bit of any number, with one exception: attention whose scores or weights are watched is
// computed step by step instead of in one op, with the same results but for rounding (about 1e-7 in float32).
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

// x, or what a Probe replaces it by. The full name is that of the scopes around it, joined by dots.
Tensor probe(std::string_view name, const Tensor& x);
// Whether some Probe asks for this name: for work that is only worth doing then.
bool probed(std::string_view name);

// While one lives, names on this thread begin with its own: "blocks.0" then "attention" give "blocks.0.attention.".
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

  // Sees the names that match: * stands for any run of characters. Several Probes may live at once; the inner ones
  // see what the outer ones put in place.
  explicit Probe(std::string pattern = "*", Replacement replace = {});
  ~Probe();
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

  // In the order in which they passed; a name that passes twice is there twice.
  const std::vector<Named>& seen() const noexcept { return seen_; }
  const Tensor& operator[](std::string_view name) const;   // the last under this full name; std::out_of_range lists some
  void clear() { seen_.clear(); }
  // dy/d(each seen floating tensor), by name; zeros for what does not lead to y.
  std::vector<Named> gradients(const Tensor& y, GradOptions options = {}) const;

 private:
  friend Tensor probe(std::string_view, const Tensor&);
  friend bool probed(std::string_view);
  std::string pattern_;
  Replacement replace_;
  std::vector<Named> seen_;
};

}  // namespace surgeon
