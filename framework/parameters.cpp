// Parameters: adding, finding and counting tensors by name.
#include "framework/parameters.hpp"

#include <algorithm>
#include <numeric>
#include <unordered_set>

#include "framework/detail/node.hpp"
#include "framework/errors.hpp"

namespace surgeon {

namespace {

// Levenshtein's distance: how many letters must be put in, taken out or changed to make b of a.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

Parameters::Parameters(std::initializer_list<std::pair<std::string, Tensor>> items) {
  for (const auto& [name, tensor] : items) add(name, tensor);
}

void Parameters::add(std::string name, Tensor tensor) {
  require(places_.emplace(name, items_.size()).second, "parameters: the name ", name, " occurs twice");
  items_.emplace_back(std::move(name), std::move(tensor));
}

void Parameters::add(const std::string& prefix, const Parameters& nested) {
  for (const auto& [name, tensor] : nested) add(prefix + "." + name, tensor);
}

const Tensor& Parameters::operator[](std::string_view name) const {
  if (const auto place = places_.find(name); place != places_.end()) return items_[place->second].second;
  require<std::out_of_range>(!items_.empty(), "parameters: no parameter is named ", name, "; there are none");
  const auto nearest = std::min_element(begin(), end(), [&](const auto& a, const auto& b) {
    return edit_distance(a.first, name) < edit_distance(b.first, name);
  });
  throw std::out_of_range(
      sentence("parameters: no parameter is named ", name, "; the nearest name is ", nearest->first));
}

std::vector<Tensor> Parameters::tensors() const {
  std::vector<Tensor> result;
  for (const auto& item : items_) result.push_back(item.second);
  return result;
}

std::int64_t Parameters::count() const {
  std::unordered_set<const void*> seen;
  std::int64_t numbers = 0;
  for (const auto& [name, tensor] : items_)
    if (tensor.defined() && seen.insert(&tensor.node()).second) numbers += tensor.size();
  return numbers;
}

void require_alike(std::string_view what, const Parameters& expected, const Parameters& given) {
  for (const auto& [name, tensor] : expected) {
    require(given.contains(name), what, ": ", name, " is missing");
    const Tensor& other = given[name];
    require(tensor.defined() && other.defined(), what, ": ", name, " has no values");
    require(other.shape() == tensor.shape() && other.dtype() == tensor.dtype(), what, ": ", name, " is ",
            other.dtype(), " ", other.shape(), ", not ", tensor.dtype(), " ", tensor.shape());
  }
  for (const auto& [name, tensor] : given)
    require(expected.contains(name), what, ": ", name, " does not belong here");
}

void assign_all(const Parameters& parameters, const Parameters& values) {
  require_alike("assign_all", parameters, values);
  for (const auto& [name, tensor] : parameters) Tensor(tensor).assign(values[name]);
}

void update(const Parameters& parameters, std::span<const Tensor> gradients,
            const std::function<Tensor(const Tensor& parameter, const Tensor& gradient)>& change) {
  require(gradients.size() == parameters.size(), "update: ", gradients.size(), " gradients for ", parameters.size(),
          " parameters");
  const NoRecord pause;
  std::vector<Tensor> values;   // all of them first: a throw changes nothing
  const Tensor* gradient = gradients.data();
  for (const auto& [name, tensor] : parameters) {
    values.push_back(change(tensor, *gradient++));
    require(values.back().shape() == tensor.shape() && values.back().dtype() == tensor.dtype(), "update: ", name, " would become ",
            values.back().dtype(), " ", values.back().shape(), ", but is ", tensor.dtype(), " ", tensor.shape());
  }
  std::size_t i = 0;
  for (const auto& [name, tensor] : parameters) Tensor(tensor).assign(values[i++]);
}

void assert_connected(const Tensor& loss, const Parameters& parameters) {
  require_value("assert_connected", loss);
  std::unordered_set<const void*> reached{&loss.node()};
  std::vector<Tensor> todo{loss};
  while (!todo.empty()) {
    const Tensor x = todo.back();
    todo.pop_back();
    if (const detail::Step* step = x.node().step)
      for (const Tensor& input : step->inputs)
        if (input.defined() && reached.insert(&input.node()).second) todo.push_back(input);
  }
  std::string missing;
  for (const auto& [name, tensor] : parameters)
    if (tensor.empty() || !reached.contains(&tensor.node())) missing += (missing.empty() ? "" : ", ") + name;
  require(missing.empty(), "assert_connected: no gradient reaches ", missing);
}

}  // namespace surgeon
