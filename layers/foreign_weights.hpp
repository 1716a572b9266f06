// Weights that other programs trained, under our names: PyTorch's nn.MultiheadAttention, and models whose tensors are
// named as those of GPT-2 and of Llama.
//   const ForeignModel found = read_foreign(load_pt("model.pt"), {.heads = 12});
//   const Tensor logits = (*found.model)(tokens);
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "layers/transformer.hpp"

namespace surgeon {

// attention   in_proj_weight, or q_proj_weight, k_proj_weight, v_proj_weight; in_proj_bias; out_proj.*; or our own
//             names: W_q.weight, W_q.bias, W_k.weight, ...
// gpt2        wte, wpe, h.0.ln_1, h.0.attn.c_attn, h.0.attn.c_proj, h.0.ln_2, h.0.mlp.c_fc, h.0.mlp.c_proj, ..., ln_f,
//             lm_head. Matrices [in, out], as in GPT-2's own Conv1D, or [out, in]: their shapes tell.
// llama       embed_tokens, layers.0.input_layernorm, layers.0.self_attn.q_proj, k_proj, v_proj, o_proj,
//             layers.0.post_attention_layernorm, layers.0.mlp.gate_proj, up_proj, down_proj, ..., norm, lm_head. Also
//             Mistral's and Qwen 2's; and Phi-3's, with qkv_proj and gate_up_proj.
// Each with or without something before it, as "transformer.", "model." or "layers.3.self_attn.".
enum class Foreign { attention, gpt2, llama };

// What a state dict does not say.
struct ForeignOptions {
  std::optional<Foreign> kind = {};                // empty: what the names say
  std::string prefix = {};                         // only tensors whose names begin with it are looked at
  std::int64_t heads = 0;                          // must be given; the heads of keys and values follow from the shapes
  std::int64_t context = 2048;                     // llama: the longest sequence
  double rotary_base = 10000.0;                    // llama
  RotaryPairs rotary_pairs = RotaryPairs::halves;  // llama; interleaved: weights as Meta stores them
  double norm_eps = 0.0;                           // 0: 1e-5 for gpt2, 1e-6 for llama
};

struct ForeignModel {
  struct Line {
    std::string theirs;      // "" for what they do not have: zeros
    Shape shape;
    std::string how;         // "as it is", "transposed", "rows 64 to 127", ...; or why it is not used
    std::string ours;        // "" when it is not used
  };
  Foreign kind = Foreign::attention;
  std::vector<Line> table = {};                       // in their order; a tensor that is split has a line for each part
  std::optional<MultiHeadAttention> attention = {};   // for Foreign::attention
  std::optional<Transformer> model = {};              // for the others
};

// std::invalid_argument, naming the tensors, when some are missing, unknown or of the wrong shape, when the file holds
// several layers and no prefix says which, and for heads that do not divide what they should.
ForeignModel read_foreign(const Parameters& theirs, const ForeignOptions& options);

}  // namespace surgeon
