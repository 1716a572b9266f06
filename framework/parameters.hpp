// Parameters: tensors by name, in a fixed order. Layers have them, optimizers update them, files hold them.
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

// It holds handles: Tensor::assign on one of its tensors changes the layer's own. Names are unique (a second one throws
// std::invalid_argument), but a tensor may have two names, as a tied head does.
class Parameters {
 public:
  Parameters() = default;
  Parameters(std::initializer_list<std::pair<std::string, Tensor>> items);

  void add(std::string name, Tensor tensor);
  void add(const std::string& prefix, const Parameters& nested);   // "prefix.name" for each
  const Tensor& operator[](std::string_view name) const;           // std::out_of_range suggests the nearest
  bool contains(std::string_view name) const { return places_.find(name) != places_.end(); }
  std::vector<Tensor> tensors() const;
  std::int64_t count() const;                                      // of numbers in all; a tied tensor counts once
  std::size_t size() const { return items_.size(); }
  auto begin() const { return items_.begin(); }                    // of std::pair<std::string, Tensor>
  auto end() const { return items_.end(); }

 private:
  std::vector<std::pair<std::string, Tensor>> items_;
  std::map<std::string, std::size_t, std::less<>> places_;   // a map, since a file may have a million names
};

// grad(loss, model.parameters()): one gradient for each, in their order.
inline std::vector<Tensor> grad(const Tensor& y, const Parameters& parameters, const GradOptions& options = {}) {
  return grad(y, parameters.tensors(), options);
}

// Throws std::invalid_argument that names every parameter which the loss was not made from, so that no gradient can reach
// it: what forward left out, detached, or computed under NoRecord.
void assert_connected(const Tensor& loss, const Parameters& parameters);

// A step of one's own: each parameter becomes change(parameter, gradient), without a graph.
//   update(model.parameters(), gradients, [](const Tensor& w, const Tensor& g) { return w - 0.1 * g; });
void update(const Parameters& parameters, std::span<const Tensor> gradients,
            const std::function<Tensor(const Tensor& parameter, const Tensor& gradient)>& change);

// Throws std::invalid_argument unless both have the same names, in any order, each with the same shape and dtype. The
// sentence begins with `what` and names the first that is missing, different or unexpected.
void require_alike(std::string_view what, const Parameters& expected, const Parameters& given);
// Assigns to each parameter the value with its name. All or nothing: it calls require_alike first.
void assign_all(const Parameters& parameters, const Parameters& values);

}  // namespace surgeon
