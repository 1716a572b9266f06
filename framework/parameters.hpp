// Parameters: tensors by name, in a fixed order: what layers have, optimizers step and files hold.
#pragma once

#include <functional>
#include <initializer_list>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "framework/autograd.hpp"
#include "framework/tensor.hpp"

namespace surgeon {

// Handles: assigning to a tensor in here changes the layer's own (Tensor::assign). No name occurs twice, which
// std::invalid_argument enforces; a tensor may have two names (a tied head).
class Parameters {
 public:
  Parameters() = default;
  Parameters(std::initializer_list<std::pair<std::string, Tensor>> items);

  void add(std::string name, Tensor tensor);
  void add(const std::string& prefix, const Parameters& nested);   // "prefix.name" for each
  const Tensor& operator[](std::string_view name) const;           // std::out_of_range names the nearest
  bool contains(std::string_view name) const { return places_.find(name) != places_.end(); }
  std::vector<Tensor> tensors() const;
  std::int64_t count() const;                                      // numbers in all of them, tied ones once
  std::size_t size() const { return items_.size(); }
  auto begin() const { return items_.begin(); }                    // of std::pair<std::string, Tensor>
  auto end() const { return items_.end(); }

 private:
  std::vector<std::pair<std::string, Tensor>> items_;
  std::map<std::string, std::size_t, std::less<>> places_;   // a file may bring a million names
};

// grad(loss, model.parameters()): one gradient for each, in their order.
inline std::vector<Tensor> grad(const Tensor& y, const Parameters& parameters, const GradOptions& options = {}) {
  return grad(y, parameters.tensors(), options);
}

// A step of one's own: each parameter becomes change(parameter, gradient), without a graph.
//   update(model.parameters(), gradients, [](const Tensor& w, const Tensor& g) { return w - 0.1 * g; });
void update(const Parameters& parameters, std::span<const Tensor> gradients,
            const std::function<Tensor(const Tensor& parameter, const Tensor& gradient)>& change);

// std::invalid_argument unless both have the same names, in any order, each with the same shape and dtype. `what` opens
// the sentence, which names what is missing, too much or different.
void require_alike(std::string_view what, const Parameters& expected, const Parameters& given);
// Assigns to each parameter the value of its name. All or nothing: require_alike first.
void assign_all(const Parameters& parameters, const Parameters& values);

}  // namespace surgeon
