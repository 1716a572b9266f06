#include "experiments/specimen_files/tensors.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <map>

#include "framework/errors.hpp"
#include "framework/serialize.hpp"
#include "layers/masks.hpp"

namespace surgeon {
namespace {

// How a tensor's axes are to be read: rows of vectors, a map of queries against keys, or tokens without heads.
enum class Axes { of_queries, of_keys, map, input };

struct Part {
  const char* name;
  Tensor Specimen::*place;
  Axes axes;
  std::vector<std::string> also;   // other names for it, in lower case
};

const std::vector<Part>& parts() {
  static const std::vector<Part> all = {
      {"Q", &Specimen::Q, Axes::of_queries, {"query", "queries"}},
      {"K", &Specimen::K, Axes::of_keys, {"key", "keys"}},
      {"V", &Specimen::V, Axes::of_keys, {"value", "values"}},
      {"X", &Specimen::X, Axes::input, {"hidden_states"}},
      {"mask", &Specimen::mask, Axes::map, {"attn_mask", "attention_mask"}},
      {"bias", &Specimen::bias, Axes::map, {"attn_bias", "position_bias"}},
      {"output", &Specimen::output, Axes::of_queries, {"o", "out"}},
      {"weights", &Specimen::weights, Axes::map, {"p", "attn", "attention", "attn_weights"}},
      {"dO", &Specimen::dO, Axes::of_queries, {"d_o", "doutput", "d_output", "grad_output", "grad_o"}},
      {"dP", &Specimen::dP, Axes::map, {"d_p", "dweights", "d_weights", "grad_weights"}},
      {"dS", &Specimen::dS, Axes::map, {"d_s", "dscores", "d_scores", "grad_scores"}},
      {"dQ", &Specimen::dQ, Axes::of_queries, {"d_q", "grad_q", "grad_query"}},
      {"dK", &Specimen::dK, Axes::of_keys, {"d_k", "grad_k", "grad_key"}},
      {"dV", &Specimen::dV, Axes::of_keys, {"d_v", "grad_v", "grad_value"}}};
  return all;
}

std::string lower(std::string text) {
  for (char& c : text) c = char(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

const Part* part_named(const std::string& name) {
  const std::string small = lower(name);
  for (const Part& part : parts())
    if (lower(part.name) == small || std::find(part.also.begin(), part.also.end(), small) != part.also.end())
      return &part;
  return nullptr;
}

// ---- Which tensors there are ---------------------------------------------------------------------------------------
using Layers = std::map<std::string, std::map<const Part*, Tensor>>;

void put(Layers& layers, const std::string& layer, const std::string& name, const Tensor& x) {
  if (!layers[layer].emplace(part_named(name), x).second)
    throw UsageError(name + " is given twice" + (layer.empty() ? "" : " in " + layer));
}

// "2.Q" and "encoder/2/dO": the layer and the name; the name alone when there is no layer.
std::pair<std::string, std::string> layer_and_name(const std::string& full) {
  const auto cut = full.find_last_of("./");
  if (cut == std::string::npos) return {"", full};
  return {full.substr(0, cut), full.substr(cut + 1)};
}

Layers layers_of(const Parameters& many, const SpecimenFiles& files, std::vector<std::string>& ignored) {
  Layers layers;
  std::vector<std::string> taken;
  for (const std::string& word : files.tensors) {
    const auto equals = word.find('=');
    const std::string name = word.substr(0, equals),
                      source = equals == std::string::npos ? "" : word.substr(equals + 1);
    if (!part_named(name) || source.empty())
      throw UsageError("--tensor " + word + ": must be NAME=FILE.npy or NAME=TENSOR, NAME being one of " + names_of_parts());
    const bool inside = many.contains(source);
    if (inside) taken.push_back(source);
    put(layers, "", name, inside ? many[source] : load_npy(source));
  }
  for (const auto& [full, x] : many) {
    if (std::find(taken.begin(), taken.end(), full) != taken.end()) continue;
    const auto [layer, name] = layer_and_name(full);
    if (part_named(name)) put(layers, layer, name, x);
    else
      ignored.push_back(full + " " + to_string(x.shape()) + " is not used: it has none of the names " + names_of_parts() +
                        "; --tensor Q=" + full + " gives it one");
  }
  return layers;
}

// ---- Axes ----------------------------------------------------------------------------------------------------------
// Which of the two orders Q and K allow: the heads of K must divide those of Q, and K and V have equally many.
std::string layout_of(const std::string& asked, const Tensor& Q, const Tensor& K) {
  if (asked != "auto") return asked;
  const auto divides = [&](int axis) { return K.shape(axis) > 0 && Q.shape(axis) % K.shape(axis) == 0; };
  if (divides(1) == divides(2))
    throw UsageError("Q " + to_string(Q.shape()) + " and K " + to_string(K.shape()) +
                     " may be [B, heads, T, d] or [B, T, heads, d]: --layout BHTd or --layout BTHd must say which");
  return divides(1) ? "BHTd" : "BTHd";
}

Tensor apart(const char* name, const Tensor& x, const std::string& layout, std::int64_t heads) {
  if (x.rank() == 4) return layout == "BTHd" ? permute(x, {0, 2, 1, 3}) : x;
  if (x.rank() != 2 && x.rank() != 3)
    throw UsageError(std::string(name) + " " + to_string(x.shape()) + ": must have two, three or four axes");
  const Tensor three = x.rank() == 2 ? reshape(x, {1, x.shape(0), x.shape(1)}) : x;
  if (three.shape(2) % heads != 0)
    throw UsageError(std::string(name) + " " + to_string(x.shape()) + ": its last axis cannot be divided into " +
                     std::to_string(heads) + " heads");
  return heads_apart(three, heads);
}

// Maps are [Tq, Tk], [B, Tq, Tk] with one head, or [B, heads, Tq, Tk], whatever the layout.
Tensor map_apart(const Tensor& x, bool whole) {
  if (x.rank() == 3) return reshape(x, {x.shape(0), 1, x.shape(1), x.shape(2)});
  return x.rank() == 2 && whole ? reshape(x, {1, 1, x.shape(0), x.shape(1)}) : x;
}

Scale scale_of(const std::string& word) {
  if (word == "d_k") return true;
  if (word == "none") return false;
  double factor = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), factor);
  if (error != std::errc() || end != word.data() + word.size())
    throw UsageError("--scale must be d_k, none or a number, not \"" + word + "\"");
  return factor;
}

Specimen specimen_of(const std::string& layer, const std::map<const Part*, Tensor>& tensors, const SpecimenFiles& f,
                     const std::string& asked) {
  Specimen s{.name = layer};
  for (const auto& [part, x] : tensors) s.*part->place = x;
  for (const char* name : {"Q", "K", "V"})
    if ((s.*part_named(name)->place).empty())
      throw UsageError(std::string(name) + " is missing" + (layer.empty() ? "" : " in " + layer) +
                       "; a file has tensors of the names " + names_of_parts() + ", and --tensor gives others a name");
  const bool four = s.Q.rank() == 4 && s.K.rank() == 4;
  const std::string layout = four ? layout_of(asked, s.Q, s.K) : "BTd";
  Dtype widest = Dtype::float32;
  for (const auto& [part, x] : tensors)
    if (part->place != &Specimen::mask && x.dtype() == Dtype::float64) widest = Dtype::float64;
  const std::int64_t heads = std::max<std::int64_t>(f.heads, 1), kv_heads = f.kv_heads ? f.kv_heads : heads;
  for (const auto& [part, x] : tensors) {
    Tensor& place = s.*part->place;
    const bool mask = part->place == &Specimen::mask, broadcasts = mask || part->place == &Specimen::bias;
    if (part->axes == Axes::input) place = x.rank() == 2 ? unsqueeze(x, 0) : x;
    else if (part->axes == Axes::map) place = map_apart(x, !broadcasts);
    else place = apart(part->name, x, layout, part->axes == Axes::of_keys ? kv_heads : heads);
    if (mask) place = detail::boolean_mask("mask", place.dtype() == Dtype::int64 ? place.to(widest) : place);
    else place = place.to(widest);
  }
  s.scale = scale_of(f.scale);
  s.causal = f.causal, s.window = f.window, s.soft_cap = f.soft_cap;
  check(s);
  return s;
}

}  // namespace

bool has_queries(const Parameters& tensors) {
  return std::any_of(tensors.begin(), tensors.end(),
                     [](const auto& item) { return part_named(layer_and_name(item.first).second) == &parts()[0]; });
}

std::string names_of_parts() {
  std::string text;
  for (const Part& part : parts()) text += (text.empty() ? "" : ", ") + std::string(part.name);
  return text;
}

std::vector<Specimen> specimens_of(const Parameters& tensors, const SpecimenFiles& files, const std::string& layout,
                                   std::vector<std::string>& ignored) {
  std::vector<Specimen> specimens;
  for (const auto& [layer, own] : layers_of(tensors, files, ignored))
    specimens.push_back(specimen_of(layer, own, files, layout));
  return specimens;
}

}  // namespace surgeon
