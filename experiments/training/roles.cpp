// What trained heads came to do: on which earlier token their weight lies.
#include <algorithm>

#include <fmt/format.h>

#include "experiments/figures.hpp"
#include "experiments/training.hpp"
#include "framework/probe.hpp"
#include "layers/attention_watch.hpp"

namespace surgeon {
namespace {

constexpr std::int64_t most_weights = 1 << 22;   // of one layer
constexpr std::int64_t farthest = 8;             // tokens
constexpr std::uint64_t looked_at = 0x0A77E4DED;  // the stream of the sequences: of its own, so that looking changes nothing

// The place for each query of one sequence x: so many tokens back, or so many after a token equal to its own.
struct Place { std::int64_t back = -1, after = -1; };

bool holds(const Place& place, const std::int64_t* x, std::int64_t i, std::int64_t j) {
  if (place.back >= 0) return j == i - place.back;
  return j - place.after >= 0 && j - place.after < i && x[j - place.after] == x[i];
}

std::string name_of(const Place& place) {
  if (place.back == 0) return "itself";
  if (place.back > 0) return place.back == 1 ? "the previous token" : fmt::format("{} tokens back", place.back);
  if (place.after == 0) return "the same token before";
  return place.after == 1 ? "what followed the same token" : fmt::format("{} after the same token", place.after);
}

std::vector<Place> places() {
  std::vector<Place> all;
  for (std::int64_t n = 0; n <= farthest; ++n) all.push_back({.back = n});
  for (std::int64_t n = 0; n <= farthest; ++n) all.push_back({.after = n});
  return all;
}

// Sums over the queries that have such a place.
struct Sums { double weight = 0, uniform = 0, queries = 0; };

void add_sequence(Sums& sums, const Place& place, const std::int64_t* x, const double* weights, std::int64_t T) {
  for (std::int64_t i = 1; i < T; ++i) {
    double weight = 0, keys = 0;
    for (std::int64_t j = 0; j <= i; ++j)
      if (holds(place, x, i, j)) weight += weights[i * T + j], ++keys;
    if (keys == 0) continue;
    sums.weight += weight, sums.uniform += keys / double(i + 1), ++sums.queries;
  }
}

HeadRole role_of(const Tensor& tokens, const Tensor& weights, std::int64_t heads, std::int64_t head) {
  const std::int64_t B = tokens.shape(0), T = tokens.shape(1);
  HeadRole best{.head = head, .place = "no one place"};
  double most = 0.2;   // the share of what an even spread leaves free; less is nothing to speak of
  for (const Place& place : places()) {
    Sums sums;
    for (std::int64_t b = 0; b < B; ++b)
      add_sequence(sums, place, tokens.values<std::int64_t>().data() + b * T,
                   weights.values<double>().data() + (b * heads + head) * T * T, T);
    if (sums.queries < double(B * T) / 8) continue;
    const double weight = sums.weight / sums.queries, uniform = sums.uniform / sums.queries;
    const double excess = (weight - uniform) / (1 - uniform);
    if (excess > most) most = excess, best.place = name_of(place), best.weight = weight, best.uniform = uniform;
  }
  return best;
}

}  // namespace

std::vector<HeadRole> roles_of(const Attended& seen, std::int64_t heads) {
  std::vector<HeadRole> roles;
  for (std::size_t layer = 0; layer < seen.weights.size(); ++layer) {
    const Tensor weights = seen.weights[layer].to(Dtype::float64);
    for (std::int64_t head = 0; head < heads; ++head) {
      roles.push_back(role_of(seen.tokens, weights, heads, head));
      roles.back().layer = std::int64_t(layer);
    }
  }
  return roles;
}

Row row_of(const HeadRole& r, std::int64_t step) {
  return {{"kind", "role"}, {"step", step}, {"layer", r.layer}, {"head", r.head}, {"place", r.place},
          {"weight", r.weight}, {"uniform", r.uniform}};
}

std::vector<std::string> cells_of(const HeadRole& r) {
  const bool somewhere = r.weight > 0;
  return {std::to_string(r.layer), std::to_string(r.head), r.place, somewhere ? fixed(r.weight, 2) : "",
          somewhere ? fixed(r.uniform, 2) : ""};
}

std::vector<std::string> words_of(const Tensor& tokens, std::int64_t sequence, std::int64_t many, const Task& task) {
  std::vector<std::string> words;
  for (std::int64_t i = 0; i < many; ++i) {
    const std::string text = task.show(std::int64_t(tokens.at({sequence, i})));
    words.push_back(text == " " ? "␣" : text == "\n" ? "↵" : text.substr(0, text.find_last_not_of(' ') + 1));
  }
  return words;
}

Heatmap map_of(const Attended& seen, const HeadRole& role, const Task& task) {
  const std::int64_t shown = std::min<std::int64_t>(seen.tokens.shape(1), 40);
  Heatmap map = heatmap_of(slice(slice(seen.weights[std::size_t(role.layer)], 1, 0, shown), 2, 0, shown), role.head);
  map.title = fmt::format("Layer {} head {}\n{}", role.layer, role.head, role.place);
  map.x_ticks = map.y_ticks = words_of(seen.tokens, 0, shown, task);
  map.bar_label = "Attention Weight";
  map.low = 0, map.high = 1;
  map.decimals = -1;
  return map;
}

Attended Trainer::attended() const {
  const NoRecord pause;
  Rng rng(seed_, looked_at);
  Probe weights("blocks.*.attention.weights");
  const std::int64_t sequences = most_weights / (knobs_.heads * task_.tokens * task_.tokens);
  Attended seen{.tokens = task_.draw_held_out(rng, std::clamp<std::int64_t>(sequences, 1, 16)).tokens};
  model_(seen.tokens);
  for (const auto& [name, tensor] : weights.seen()) seen.weights.push_back(tensor);
  return seen;
}

Batch Trainer::probe_batch(std::int64_t sequences) const {
  Rng rng(seed_, looked_at);
  return task_.draw_held_out(rng, sequences);
}

Watched Trainer::watched(const Batch& batch) const {
  const AttentionWatch watch;
  const Tensor loss = loss_of(batch, nullptr);
  return {batch.tokens, watch.specimens(model_, loss)};
}

}  // namespace surgeon
