// Walks over a graph for people: listings and DOT.
#include "framework/graph.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <unordered_map>

#include "framework/autograd.hpp"
#include "framework/detail/node.hpp"
#include "framework/detail/range.hpp"
#include "framework/errors.hpp"
#include "framework/ops.hpp"

namespace surgeon {

using detail::range_of;
using detail::short_number;
using detail::text_of;

namespace {

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
  require_value("graph", y);
  const std::vector<Tensor> tensors = ancestors(y);
  std::unordered_map<std::uint64_t, std::size_t> places;
  std::vector<Entry> entries;
  std::vector<Tensor> floating, gradients;
  for (const Tensor& x : tensors) {
    Entry entry{.name = sentence("%", entries.size()), .op = "given",
                .shape = to_string(x.shape()) + " " + to_string(x.dtype()), .facts = {}, .inputs = {}};
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

}  // namespace surgeon
