#include "layers/foreign_weights/names.hpp"

#include <algorithm>
#include <cctype>

namespace surgeon::foreign {

const std::vector<Names>& families() {
  static const std::vector<Names> all = {
      {Foreign::gpt2, "gpt2", "wte.weight",
       {{"wte.weight", Take::as_it_is, "embedding.weight"},
        {"wpe.weight", Take::as_it_is, "positions.weight"},
        {"h.#.ln_1.weight", Take::as_it_is, "blocks.#.norm1.weight"},
        {"h.#.ln_1.bias", Take::as_it_is, "blocks.#.norm1.bias"},
        {"h.#.attn.c_attn.weight", Take::qkv_matrix, "blocks.#.attention.W_?.weight"},
        {"h.#.attn.c_attn.bias", Take::qkv_rows, "blocks.#.attention.W_?.bias"},
        {"h.#.attn.c_proj.weight", Take::matrix, "blocks.#.attention.W_o.weight"},
        {"h.#.attn.c_proj.bias", Take::as_it_is, "blocks.#.attention.W_o.bias"},
        {"h.#.attn.bias", Take::unused, "the causal mask"},
        {"h.#.attn.masked_bias", Take::unused, "what the mask fills in"},
        {"h.#.ln_2.weight", Take::as_it_is, "blocks.#.norm2.weight"},
        {"h.#.ln_2.bias", Take::as_it_is, "blocks.#.norm2.bias"},
        {"h.#.mlp.c_fc.weight", Take::matrix, "blocks.#.feed_forward.linear1.weight"},
        {"h.#.mlp.c_fc.bias", Take::as_it_is, "blocks.#.feed_forward.linear1.bias"},
        {"h.#.mlp.c_proj.weight", Take::matrix, "blocks.#.feed_forward.linear2.weight"},
        {"h.#.mlp.c_proj.bias", Take::as_it_is, "blocks.#.feed_forward.linear2.bias"},
        {"ln_f.weight", Take::as_it_is, "norm.weight"},
        {"ln_f.bias", Take::as_it_is, "norm.bias"},
        {"lm_head.weight", Take::as_it_is, "head.weight"}}},
      {Foreign::llama, "llama", "embed_tokens.weight",
       {{"embed_tokens.weight", Take::as_it_is, "embedding.weight"},
        {"layers.#.input_layernorm.weight", Take::as_it_is, "blocks.#.norm1.weight"},
        {"layers.#.self_attn.q_proj.weight", Take::as_it_is, "blocks.#.attention.W_q.weight"},
        {"layers.#.self_attn.k_proj.weight", Take::as_it_is, "blocks.#.attention.W_k.weight"},
        {"layers.#.self_attn.v_proj.weight", Take::as_it_is, "blocks.#.attention.W_v.weight"},
        {"layers.#.self_attn.o_proj.weight", Take::as_it_is, "blocks.#.attention.W_o.weight"},
        {"layers.#.self_attn.q_proj.bias", Take::as_it_is, "blocks.#.attention.W_q.bias"},
        {"layers.#.self_attn.k_proj.bias", Take::as_it_is, "blocks.#.attention.W_k.bias"},
        {"layers.#.self_attn.v_proj.bias", Take::as_it_is, "blocks.#.attention.W_v.bias"},
        {"layers.#.self_attn.o_proj.bias", Take::as_it_is, "blocks.#.attention.W_o.bias"},
        {"layers.#.self_attn.rotary_emb.inv_freq", Take::unused, "computed from rotary_base"},
        {"layers.#.post_attention_layernorm.weight", Take::as_it_is, "blocks.#.norm2.weight"},
        {"layers.#.self_attn.qkv_proj.weight", Take::qkv_rows, "blocks.#.attention.W_?.weight"},
        {"layers.#.self_attn.qkv_proj.bias", Take::qkv_rows, "blocks.#.attention.W_?.bias"},
        {"layers.#.mlp.gate_up_proj.weight", Take::gate_up_rows, "blocks.#.feed_forward.?.weight"},
        {"layers.#.mlp.gate_proj.weight", Take::as_it_is, "blocks.#.feed_forward.gate.weight"},
        {"layers.#.mlp.up_proj.weight", Take::as_it_is, "blocks.#.feed_forward.linear1.weight"},
        {"layers.#.mlp.down_proj.weight", Take::as_it_is, "blocks.#.feed_forward.linear2.weight"},
        {"norm.weight", Take::as_it_is, "norm.weight"},
        {"lm_head.weight", Take::as_it_is, "head.weight"}}},
      {Foreign::attention, "attention", "out_proj.weight",
       {{"in_proj_weight", Take::qkv_rows, "W_?.weight"},
        {"q_proj_weight", Take::as_it_is, "W_q.weight"},
        {"k_proj_weight", Take::as_it_is, "W_k.weight"},
        {"v_proj_weight", Take::as_it_is, "W_v.weight"},
        {"in_proj_bias", Take::qkv_rows, "W_?.bias"},
        {"out_proj.weight", Take::as_it_is, "W_o.weight"},
        {"out_proj.bias", Take::as_it_is, "W_o.bias"}}},
      {Foreign::attention, "MultiHeadAttention", "W_o.weight",
       {{"W_q.weight", Take::as_it_is, "W_q.weight"},
        {"W_k.weight", Take::as_it_is, "W_k.weight"},
        {"W_v.weight", Take::as_it_is, "W_v.weight"},
        {"W_o.weight", Take::as_it_is, "W_o.weight"},
        {"W_q.bias", Take::as_it_is, "W_q.bias"},
        {"W_k.bias", Take::as_it_is, "W_k.bias"},
        {"W_v.bias", Take::as_it_is, "W_v.bias"},
        {"W_o.bias", Take::as_it_is, "W_o.bias"}}}};
  return all;
}

std::optional<std::string> matched(std::string_view name, std::string_view pattern) {
  const std::size_t at = pattern.find('#');
  if (at == std::string_view::npos) return name == pattern ? std::optional<std::string>("") : std::nullopt;
  const std::string_view before = pattern.substr(0, at), after = pattern.substr(at + 1);
  if (!name.starts_with(before) || !name.ends_with(after) || name.size() <= before.size() + after.size())
    return std::nullopt;
  const std::string number(name.substr(before.size(), name.size() - before.size() - after.size()));
  const bool digits = number.size() < 6 && std::all_of(number.begin(), number.end(),
                                                       [](unsigned char c) { return std::isdigit(c); });
  return digits ? std::optional(number) : std::nullopt;
}

std::string filled(std::string text, char mark, const std::string& with) {
  if (const auto at = text.find(mark); at != std::string::npos) text.replace(at, 1, with);
  return text;
}

}  // namespace surgeon::foreign
