// Scopes and Probes are lists of the thread; a probe() call walks the Probes alive.
#include "framework/probe.hpp"

#include <algorithm>

#include "framework/errors.hpp"

namespace surgeon {
namespace {

thread_local std::string scope;
thread_local std::vector<Probe*> alive;

// Matches what is left of the pattern against what is left of the text; * takes as little as it can at first.
bool matches(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0, star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') star = p++, resume = t;
    else if (p < pattern.size() && pattern[p] == text[t]) ++p, ++t;
    else if (star != std::string_view::npos) p = star + 1, t = ++resume;
    else return false;
  }
  return std::all_of(pattern.begin() + std::ptrdiff_t(p), pattern.end(), [](char c) { return c == '*'; });
}

std::string full_name(std::string_view name) { return scope + std::string(name); }

}  // namespace

ProbeScope::ProbeScope(std::string_view name) : before_(scope.size()) { scope.append(name).append("."); }
ProbeScope::~ProbeScope() { scope.resize(before_); }

Probe::Probe(std::string pattern, Replacement replace) : pattern_(std::move(pattern)), replace_(std::move(replace)) {
  alive.push_back(this);
}
Probe::~Probe() { std::erase(alive, this); }

bool probed(std::string_view name) {
  if (alive.empty()) return false;
  const std::string full = full_name(name);
  return std::any_of(alive.begin(), alive.end(), [&](const Probe* p) { return matches(p->pattern_, full); });
}

Tensor probe(std::string_view name, const Tensor& x) {
  if (alive.empty()) return x;
  const std::string full = full_name(name);
  Tensor y = x;
  for (std::size_t i = 0; i < alive.size(); ++i) {   // by index: a replacement may make Probes of its own
    Probe& p = *alive[i];
    if (!matches(p.pattern_, full)) continue;
    if (p.replace_) {
      Tensor other = p.replace_(full, y);
      require(other.shape() == y.shape() && (y.empty() || other.dtype() == y.dtype()), "probe: ", full,
              ": a replacement must keep shape ", y.shape(), " and dtype; this one has shape ", other.shape());
      y = std::move(other);
    }
    p.seen_.emplace_back(full, y);
  }
  return y;
}

const Tensor& Probe::operator[](std::string_view name) const {
  const auto found = std::find_if(seen_.rbegin(), seen_.rend(), [&](const Named& n) { return n.first == name; });
  if (found != seen_.rend()) return found->second;
  std::string names;
  for (std::size_t i = 0; i < std::min<std::size_t>(seen_.size(), 8); ++i) names += (i ? ", " : "") + seen_[i].first;
  throw std::out_of_range(sentence("probe: no tensor named ", name, " was seen; ",
                                   names.empty() ? "none was" : "seen were " + names, seen_.size() > 8 ? ", ..." : ""));
}

std::vector<Probe::Named> Probe::gradients(const Tensor& y, GradOptions options) const {
  std::vector<Named> found;
  std::vector<Tensor> tensors;
  for (const auto& [name, tensor] : seen_) {
    if (tensor.empty() || !is_floating(tensor.dtype())) continue;
    found.emplace_back(name, Tensor());
    tensors.push_back(tensor);
  }
  options.allow_unused = true;
  const std::vector<Tensor> gradients = grad(y, tensors, options);
  for (std::size_t i = 0; i < found.size(); ++i) found[i].second = gradients[i];
  return found;
}

}  // namespace surgeon
