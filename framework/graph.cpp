// Walks over a graph for people: listings, DOT, and the search for the first nan.
#include "framework/graph.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <unordered_map>

#include "framework/detail/node.hpp"
#include "framework/ops.hpp"
#include "framework/detail/require.hpp"

namespace surgeon {
namespace {

thread_local bool anomaly_watched = false;

std::string short_number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", x);
  return text;
}

struct Range {
  double low = 0, high = 0;
  std::int64_t nans = 0, infinities = 0, first_bad = -1, finite = 0;
};

Range range_of(const Tensor& x) {
  Range range;
  detail::visit_dtype(x.dtype(), [&](auto t) {
    const auto* values = detail::data<decltype(t)>(x);
    for (std::int64_t i = 0; i < x.size(); ++i) {
      const double value = double(values[i]);
      if (std::isfinite(value)) {
        range.low = range.finite ? std::min(range.low, value) : value;
        range.high = range.finite++ ? std::max(range.high, value) : value;
        continue;
      }
      ++(std::isnan(value) ? range.nans : range.infinities);
      if (range.first_bad < 0) range.first_bad = i;
    }
  });
  return range;
}

// "[-1.2, 3], 2 nan"
std::string text_of(const Range& r) {
  std::string text = r.finite ? "[" + short_number(r.low) + ", " + short_number(r.high) + "]" : "no finite value";
  if (r.nans) text += ", " + std::to_string(r.nans) + " nan";
  if (r.infinities) text += ", " + std::to_string(r.infinities) + " inf";
  return text;
}

std::string described(const Tensor& x) {
  return to_string(x.shape()) + " " + to_string(x.dtype()) + " in " + text_of(range_of(x));
}

std::string index_of(std::int64_t flat, const Shape& shape) {
  Shape index(shape.size());
  for (std::size_t axis = shape.size(); axis-- > 0; flat /= shape[axis]) index[axis] = flat % shape[axis];
  return to_string(index);
}

// Everything y was made from and y itself, oldest first.
std::vector<Tensor> ancestors(const Tensor& y) {
  std::vector<Tensor> found{y};
  std::unordered_map<std::uint64_t, bool> seen{{y.node().id, true}};
  for (std::size_t i = 0; i < found.size(); ++i)
    if (const detail::Step* step = found[i].node().step)
      for (const Tensor& input : step->inputs)
        if (seen.emplace(input.node().id, true).second) found.push_back(input);
  std::sort(found.begin(), found.end(), [](auto& a, auto& b) { return a.node().id < b.node().id; });
  return found;
}

// One tensor of a listing.
struct Entry {
  std::string name, op, shape, facts;
  std::vector<std::size_t> inputs;   // places in the listing
};

std::vector<Entry> entries_of(const Tensor& y, const GraphOptions& options) {
  detail::require_value("graph", y);
  const std::vector<Tensor> tensors = ancestors(y);
  std::unordered_map<std::uint64_t, std::size_t> places;
  std::vector<Entry> entries;
  std::vector<Tensor> floating, gradients;
  for (const Tensor& x : tensors) {
    Entry entry{.name = "%" + std::to_string(entries.size()), .op = "given", .shape = to_string(x.shape()) + " " + to_string(x.dtype()),
                .facts = {}, .inputs = {}};
    for (const auto& [name, named] : options.names)
      if (named.same(x)) entry.name = name;
    if (const detail::Step* step = x.node().step) {
      entry.op = step->name;
      for (const Tensor& input : step->inputs) entry.inputs.push_back(places[input.node().id]);
    }
    if (options.ranges && x.size() > 0) entry.facts = "in " + text_of(range_of(x));
    places[x.node().id] = entries.size();
    entries.push_back(std::move(entry));
    if (is_floating(x.dtype())) floating.push_back(x);
  }
  if (!options.gradients || y.size() != 1 || !is_floating(y.dtype())) return entries;
  gradients = grad(y, floating, {.allow_unused = true});
  const NoRecord pause;
  for (std::size_t i = 0; i < floating.size(); ++i) {
    const Tensor g = gradients[i].to(Dtype::float64);
    std::string& facts = entries[places[floating[i].node().id]].facts;
    facts += (facts.empty() ? "" : "  ") + ("|grad| " + short_number(std::sqrt(sum(g * g).item())));
  }
  return entries;
}

// "add <- multiply <- given": one way back from x, along each op's first recorded input.
std::string way_back(std::span<const Tensor> inputs) {
  std::string way;
  for (int steps = 0; steps < 12; ++steps) {
    const auto made = std::find_if(inputs.begin(), inputs.end(), [](const Tensor& x) { return x.node().step; });
    if (made == inputs.end()) return way + " <- given";
    way += std::string(" <- ") + made->node().step->name;
    inputs = made->node().step->inputs;
  }
  return way + " <- ...";
}

// The ops from y (not included) to the loss.
std::string way_on(const Tensor& y, const Tensor& loss) {
  std::unordered_map<std::uint64_t, const detail::Node*> consumer;   // on one way to the loss
  std::vector<const detail::Node*> todo{&loss.node()};
  while (!todo.empty() && !consumer.contains(y.node().id)) {
    const detail::Node* node = todo.back();
    todo.pop_back();
    if (!node->step || node->id < y.node().id) continue;
    for (const Tensor& input : node->step->inputs)
      if (consumer.emplace(input.node().id, node).second) todo.push_back(&input.node());
  }
  std::string way;
  int steps = 0;
  for (const detail::Node* node = &y.node(); node != &loss.node();) {
    const auto next = consumer.find(node->id);
    if (next == consumer.end()) return way;
    node = next->second;
    if (++steps <= 12) way += std::string(" -> ") + node->step->name;
  }
  return way + (steps > 12 ? " -> ... -> loss" : " -> loss");
}

bool has_infinity(std::span<const Tensor> inputs) {
  return std::any_of(inputs.begin(), inputs.end(), [](const Tensor& x) {
    return !x.empty() && is_floating(x.dtype()) && range_of(x).infinities > 0;
  });
}

std::string inputs_text(std::span<const Tensor> inputs) {
  std::string text;
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (!inputs[i].empty()) text += "\n  input " + std::to_string(i) + ": " + described(inputs[i]);
  return text;
}

}  // namespace

std::string graph_text(const Tensor& y, const GraphOptions& options) {
  const std::vector<Entry> entries = entries_of(y, options);
  std::size_t widths[3] = {};
  std::vector<std::string> calls;
  for (const Entry& e : entries) {
    std::string call = e.op;
    for (std::size_t i = 0; i < e.inputs.size(); ++i) call += (i ? ", " : " ") + entries[e.inputs[i]].name;
    widths[0] = std::max(widths[0], e.name.size());
    widths[1] = std::max(widths[1], call.size());
    widths[2] = std::max(widths[2], e.shape.size());
    calls.push_back(std::move(call));
  }
  const auto padded = [](std::string text, std::size_t width) { return text.append(width - text.size() + 2, ' '); };
  std::string text;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    std::string line = padded(entries[i].name, widths[0]) + padded(calls[i], widths[1]) +
                       padded(entries[i].shape, widths[2]) + entries[i].facts;
    text += line.erase(line.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

std::string graph_dot(const Tensor& y, const GraphOptions& options) {
  const auto quoted = [](const std::string& text) {
    std::string safe;
    for (const char c : text) safe += c == '"' || c == '\\' ? std::string{'\\', c} : std::string{c};
    return safe;
  };
  const std::vector<Entry> entries = entries_of(y, options);
  std::string dot = "digraph attention_surgeon {\n  rankdir=BT;\n  node [shape=box, fontname=\"sans-serif\"];\n";
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const Entry& e = entries[i];
    const bool named = e.name.front() != '%';
    dot += "  n" + std::to_string(i) + " [label=\"" + (named ? quoted(e.name) + ": " : "") + e.op + "\\n" + e.shape +
           (e.facts.empty() ? "" : "\\n" + e.facts) + "\"" + (e.op == "given" ? ", style=rounded" : "") + "];\n";
    for (const std::size_t input : e.inputs) dot += "  n" + std::to_string(input) + " -> n" + std::to_string(i) + ";\n";
  }
  return dot + "}\n";
}

Anomaly::Anomaly(bool watch) noexcept : before_(std::exchange(anomaly_watched, watch)) {}
Anomaly::~Anomaly() { anomaly_watched = before_; }

namespace detail {

bool watching() noexcept { return anomaly_watched; }

void check_value(const char* op, std::span<const Tensor> inputs, const Tensor& value) {
  const Range range = range_of(value);
  const bool may_be_infinite = range.infinities == 0 || std::string_view(op) == "masked_fill" || has_infinity(inputs);
  if (range.nans == 0 && may_be_infinite) return;
  throw AnomalyError(join("anomaly: ", op, " gave ", range.nans ? "nan" : "inf", " in ", range.nans + range.infinities, " of ",
                          value.size(), " values, first at ", index_of(range.first_bad, value.shape()), inputs_text(inputs),
                          "\n  made by: ", op, way_back(inputs)));
}

void check_gradient(const Step& step, std::size_t input, const Tensor& g, const Tensor& gradient, const Tensor& y,
                    const Tensor& loss) {
  const Range range = range_of(gradient);
  const Tensor upstream[] = {g};
  if (range.nans == 0 && (range.infinities == 0 || has_infinity(upstream))) return;
  throw AnomalyError(join("anomaly: the gradient of ", step.name, " gave ", range.nans ? "nan" : "inf", " in ",
                          range.nans + range.infinities, " of ", gradient.size(), " values for input ", input, ", first at ",
                          index_of(range.first_bad, gradient.shape()), inputs_text(step.inputs), "\n  from above: ",
                          described(g), "\n  on the way: ", step.name, way_on(y, loss)));
}

}  // namespace detail
}  // namespace surgeon
