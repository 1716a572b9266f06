#include "layers/foreign_weights.hpp"

#include <algorithm>
#include <set>
#include <variant>

#include "framework/errors.hpp"
#include "layers/foreign_weights/names.hpp"

namespace surgeon {
namespace {

using foreign::filled;
using foreign::matched;
using foreign::Names;
using foreign::Rule;
using foreign::Take;

// ---- Names ---------------------------------------------------------------------------------------------------------

// The first few, for an error.
std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < std::min<std::size_t>(names.size(), 6); ++i) text += (i ? ", " : "") + names[i];
  return names.size() > 6 ? text + ", ... (" + std::to_string(names.size()) + " in all)" : text;
}

// What stands before the family's names. Throws when it is not the same for all.
struct Place { const Names* family; std::string prefix; };
Place place_of(const Parameters& theirs, const ForeignOptions& options) {
  for (const Names& family : foreign::families()) {
    if (options.kind && *options.kind != family.kind) continue;
    std::vector<std::string> prefixes;
    for (const auto& [name, x] : theirs) {
      const std::string_view anchor = family.anchor;
      if (!name.starts_with(options.prefix) || !name.ends_with(anchor)) continue;
      const std::string before = name.substr(0, name.size() - anchor.size());
      if (before.empty() || before.back() == '.') prefixes.push_back(before);
    }
    if (prefixes.empty()) continue;
    require(prefixes.size() == 1, "read_foreign: there are several layers, and the prefix must say which: ",
            listed(prefixes));
    return {&family, prefixes[0]};
  }
  throw std::invalid_argument(sentence("read_foreign: no tensor", options.prefix.empty() ? "" : " after ", options.prefix,
                                       " has the name by which a model is known: wte.weight (GPT-2), "
                                       "embed_tokens.weight (Llama), out_proj.weight (nn.MultiheadAttention) or "
                                       "W_o.weight (MultiHeadAttention)"));
}

// ---- Their tensors under our names ---------------------------------------------------------------------------------

struct Taken {
  std::vector<ForeignModel::Line> table;
  Parameters ours;

  void add(const std::string& theirs, const Shape& shape, const std::string& how, const std::string& name,
           const Tensor& x) {
    table.push_back({theirs, shape, how, name});
    ours.add(name, x);
  }
};

// Of the rows of one tensor, as many for each of ours as `rows` says.
void split(Taken& taken, const std::string& name, const Shape& shape, const Tensor& x, const std::string& how,
           const std::string& ours, const std::vector<std::pair<std::string, std::int64_t>>& rows) {
  std::int64_t first = 0;
  for (const auto& [part, n] : rows) {
    taken.add(name, shape, sentence(how, "rows ", first, " to ", first + n - 1), filled(ours, '?', part),
              slice(x, 0, first, first + n));
    first += n;
  }
}

// How many rows are queries': `d_model` of them, where heads share keys; keys and values have the rest.
std::vector<std::pair<std::string, std::int64_t>> rows_of_qkv(const std::string& name, const Tensor& x,
                                                              std::int64_t d_model) {
  const std::int64_t rows = x.shape(0), shared = (rows - d_model) / 2;
  require(rows > d_model && rows <= 3 * d_model && (rows - d_model) % 2 == 0, "read_foreign: ", name, " ", x.shape(),
          " cannot be split into Q, K and V of a model of width ", d_model);
  return {{"q", d_model}, {"k", shared}, {"v", shared}};
}

struct Way { bool in_by_out; std::int64_t d_model; };   // how the file has its matrices; the width of the model

void take(Taken& taken, const std::string& name, const Tensor& x, const Rule& rule, const std::string& number,
          const Way& way) {
  const std::string ours = filled(rule.ours, '#', number);
  const bool matrix = rule.take == Take::matrix || rule.take == Take::qkv_matrix;
  require(rule.take == Take::unused || is_floating(x.dtype()), "read_foreign: ", name, " holds ", x.dtype());
  require(!matrix || x.rank() == 2, "read_foreign: ", name, " ", x.shape(), " must be a matrix");
  const bool turn = matrix && way.in_by_out;
  const Tensor turned = turn ? transpose(x, 0, 1) : x;
  switch (rule.take) {
    case Take::unused: taken.table.push_back({name, x.shape(), rule.ours, ""}); return;
    case Take::qkv_rows: case Take::qkv_matrix:
      require(x.rank() >= 1, "read_foreign: ", name, " is a scalar");
      return split(taken, name, x.shape(), turned, turn ? "transposed, " : "", ours,
                   rows_of_qkv(name, turned, way.d_model));
    case Take::gate_up_rows:
      require(x.rank() == 2 && x.shape(0) % 2 == 0, "read_foreign: ", name, " ", x.shape(),
              " cannot be split into gate and up");
      return split(taken, name, x.shape(), x, "", ours, {{"gate", x.shape(0) / 2}, {"linear1", x.shape(0) / 2}});
    default: taken.add(name, x.shape(), turn ? "transposed" : "as it is", ours, turned);
  }
}

// Whether matrices are [in, out]: the one for Q, K and V together says so.
bool in_by_out(const Parameters& theirs) {
  for (const auto& [name, x] : theirs)
    if (name.ends_with("attn.c_attn.weight") && x.rank() == 2) return x.shape(0) < x.shape(1);
  return false;
}

// The width: the last axis of the tensor by which the family is known.
std::int64_t d_model_of(const Parameters& theirs, const Place& place) {
  const Tensor& anchor = theirs[place.prefix + place.family->anchor];
  require(anchor.rank() == 2, "read_foreign: ", place.prefix, place.family->anchor, " ", anchor.shape(),
          " must be a matrix");
  return place.family->kind == Foreign::attention ? anchor.shape(0) : anchor.shape(1);
}

Taken taken_from(const Parameters& theirs, const Place& place) {
  Taken taken;
  std::vector<std::string> unknown;
  const Way way{in_by_out(theirs), d_model_of(theirs, place)};
  const std::size_t dot = place.prefix.size() < 2 ? std::string::npos : place.prefix.rfind('.', place.prefix.size() - 2);
  const std::string outer = dot == std::string::npos ? "" : place.prefix.substr(0, dot + 1);
  for (const auto& [name, x] : theirs) {
    std::string inside = name.starts_with(place.prefix) ? name.substr(place.prefix.size()) : "";
    if (name == outer + "lm_head.weight") inside = "lm_head.weight";   // it stands beside "transformer." or "model."
    bool known = false;
    for (const Rule& rule : place.family->rules)
      if (const auto number = matched(inside, rule.theirs); number && !known) {
        take(taken, name, x, rule, *number, way);
        known = true;
      }
    if (known) continue;
    if (inside.empty()) taken.table.push_back({name, x.shape(), "not used: not of this model", ""});
    else unknown.push_back(name);
  }
  require(unknown.empty(), "read_foreign: ", place.family->name, " has no such tensors: ", listed(unknown));
  return taken;
}

// ---- Our model -----------------------------------------------------------------------------------------------------

const Tensor& needed(const Taken& taken, const std::string& name, int rank) {
  require(taken.ours.contains(name), "read_foreign: what becomes our ", name, " is missing");
  require(taken.ours[name].rank() == rank, "read_foreign: what becomes our ", name, " has shape ",
          taken.ours[name].shape());
  return taken.ours[name];
}

bool has_bias(const Taken& taken) {
  return std::any_of(taken.ours.begin(), taken.ours.end(), [](const auto& item) {
    return item.first.find("W_") != std::string::npos && item.first.ends_with(".bias");
  });
}

MultiHeadConfig projections(const Taken& taken, const std::string& where, std::int64_t heads) {
  const Tensor &W_q = needed(taken, where + "W_q.weight", 2), &W_k = needed(taken, where + "W_k.weight", 2);
  const std::int64_t d_k = W_q.shape(0) / heads;
  require(d_k > 0 && W_q.shape(0) % heads == 0 && W_k.shape(0) % d_k == 0, "read_foreign: ", heads,
          " heads do not divide the rows of Q ", W_q.shape(), " and K ", W_k.shape());
  return {.kv_heads = W_k.shape(0) / d_k, .bias = has_bias(taken)};
}

// How many blocks there are; all numbers below must be there, or a few tensors would ask for a huge model.
std::int64_t layers_in(const Taken& taken) {
  std::set<std::int64_t> numbers;
  for (const auto& [name, x] : taken.ours)
    if (name.starts_with("blocks.")) numbers.insert(std::stoll(name.substr(std::string_view("blocks.").size())));
  require(!numbers.empty(), "read_foreign: there is not one block");
  const std::int64_t layers = *numbers.rbegin() + 1;
  require(std::int64_t(numbers.size()) == layers, "read_foreign: there is a block ", layers - 1, ", but only ",
          numbers.size(), " blocks");
  return layers;
}

TransformerConfig config_of(Foreign kind, const Taken& taken, const ForeignOptions& options) {
  const Tensor& embedding = needed(taken, "embedding.weight", 2);
  TransformerConfig c{.vocabulary = embedding.shape(0), .context = options.context, .layers = layers_in(taken)};
  c.block.d_model = embedding.shape(1);
  c.block.heads = options.heads;
  c.block.hidden = needed(taken, "blocks.0.feed_forward.linear1.weight", 2).shape(0);
  c.block.dtype = embedding.dtype();
  c.block.projections = projections(taken, "blocks.0.attention.", options.heads);
  c.tied = !taken.ours.contains("head.weight");
  if (kind == Foreign::gpt2) {
    c.context = needed(taken, "positions.weight", 2).shape(0);
    c.block.activation = Activation::gelu_tanh;
  } else {
    c.block.norm = NormKind::rms;
    c.block.activation = Activation::swiglu;
    c.positions = Positions::rotary;
    c.block.projections.rotary_base = options.rotary_base;
    c.block.projections.rotary_pairs = options.rotary_pairs;
  }
  return c;
}

// A head that is the embedding again is the embedding.
void tie(Taken& taken) {
  if (!taken.ours.contains("head.weight") || !taken.ours.contains("embedding.weight")) return;
  const Tensor &head = taken.ours["head.weight"], &embedding = taken.ours["embedding.weight"];
  if (head.shape() != embedding.shape() || head.dtype() != embedding.dtype() || !all(head == embedding).item()) return;
  Parameters rest;
  for (const auto& [name, x] : taken.ours)
    if (name != "head.weight") rest.add(name, x);
  taken.ours = rest;
  for (ForeignModel::Line& line : taken.table)
    if (line.ours == "head.weight") line = {line.theirs, line.shape, "the same as the embedding", ""};
}

// Biases that none of their layers has are zeros.
void add_zero_biases(Taken& taken, const Parameters& ours) {
  const auto kind_of = [](const std::string& name) {   // "blocks.3.norm1.bias" -> "norm1.bias"
    const auto number = matched(name.substr(0, name.find('.', 7)), "blocks.#");
    return number && !number->empty() ? name.substr(8 + number->size()) : name;
  };
  std::set<std::string> present;
  for (const auto& [name, x] : taken.ours) present.insert(kind_of(name));
  for (const auto& [name, x] : ours) {
    if (!name.ends_with("bias") || present.contains(kind_of(name))) continue;
    taken.add("", x.shape(), "zeros: they have none", name, zeros_like(x));
  }
}

// Puts the weights in place, or says everything that does not fit.
void fill(const Parameters& ours, const Taken& taken) {
  std::vector<std::string> wrong;
  for (const auto& [name, x] : ours) {
    if (!taken.ours.contains(name)) wrong.push_back(name + " is missing");
    else if (const Tensor& y = taken.ours[name]; y.shape() != x.shape() || y.dtype() != x.dtype())
      wrong.push_back(sentence(name, " is ", y.dtype(), " ", y.shape(), ", not ", x.dtype(), " ", x.shape()));
  }
  for (const auto& [name, x] : taken.ours)
    if (!ours.contains(name)) wrong.push_back(name + " does not belong here");
  require(wrong.empty(), "read_foreign: under our names, ", listed(wrong));
  assign_all(ours, taken.ours);
}

void set_eps(Norm& norm, double eps) {
  std::visit([&](auto& kind) { kind.eps = eps; }, norm.kind);
}

}  // namespace

ForeignModel read_foreign(const Parameters& theirs, const ForeignOptions& options) {
  require(options.heads > 0, "read_foreign: heads must be given: tensors do not say how many there are");
  const Place place = place_of(theirs, options);
  Taken taken = taken_from(theirs, place);
  ForeignModel found{.kind = place.family->kind};
  Rng unused(0);   // every weight is set below
  if (found.kind == Foreign::attention) {
    const Tensor& W_o = needed(taken, "W_o.weight", 2);
    found.attention.emplace(W_o.shape(0), options.heads, projections(taken, "", options.heads), unused, W_o.dtype());
    add_zero_biases(taken, found.attention->parameters());
    fill(found.attention->parameters(), taken);
  } else {
    tie(taken);
    found.model.emplace(config_of(found.kind, taken, options), unused);
    add_zero_biases(taken, found.model->parameters());
    fill(found.model->parameters(), taken);
    const double eps = options.norm_eps > 0 ? options.norm_eps : found.kind == Foreign::gpt2 ? 1e-5 : 1e-6;
    for (TransformerBlock& block : found.model->blocks) {
      set_eps(block.norm1, eps);
      set_eps(block.norm2, eps);
    }
    set_eps(*found.model->norm, eps);
  }
  found.table = std::move(taken.table);
  return found;
}

}  // namespace surgeon
