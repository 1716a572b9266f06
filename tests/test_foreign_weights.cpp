// Weights of other programs: what PyTorch computes with them, ours must compute too.
#include <doctest/doctest.h>

#include <fstream>

#include "framework/serialize.hpp"
#include "layers/layers.hpp"
#include "tests/folder.hpp"
#include "tests/golden/golden.hpp"

using namespace surgeon;
using namespace surgeon::tests;

namespace {

Parameters load(const Json& written, const Folder& folder) {
  const std::string bytes = from_hexadecimal(written["bytes"]);
  std::ofstream(folder / "a.pt", std::ios::binary) << bytes;
  return load_pt(folder / "a.pt");
}

ForeignOptions options_of(const Json& written) {
  const Json& o = written["options"];
  return {.prefix = o.value("prefix", ""), .heads = o.value("heads", std::int64_t{0}),
          .rotary_base = o.value("rotary_base", 10000.0), .norm_eps = o.value("norm_eps", 0.0)};
}

std::string refusal_of(const Parameters& theirs, const ForeignOptions& options) {
  try {
    (void)read_foreign(theirs, options);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace

TEST_SUITE("foreign_weights") {
  TEST_CASE("state dicts of nn.MultiheadAttention, GPT-2 and Llama give PyTorch's outputs") {
    const Folder folder;
    for (const Json& written : golden_cases("foreign.json")) {
      const std::string name = written["name"];
      CAPTURE(name);
      const Parameters theirs = load(written, folder);
      if (written.contains("refused")) {
        const std::string refusal = refusal_of(theirs, options_of(written));
        CAPTURE(refusal);
        CHECK(refusal.find(written["refused"].get<std::string>()) != std::string::npos);
        continue;
      }
      const ForeignModel found = read_foreign(theirs, options_of(written));
      const Tensor input = golden_tensor(written["input"], Dtype::float32);
      const Tensor output = found.model ? (*found.model)(input) : (*found.attention)(input).output;
      CHECK(golden_difference(output, written["output"], 1e-5) == "");
      CHECK(found.table.size() >= theirs.size());
    }
  }

  TEST_CASE("the table has a line for each tensor, and for each part of one") {
    const Folder folder;
    const Json cases = golden_cases("foreign.json");
    const auto gpt2 = std::find_if(cases.begin(), cases.end(), [](const Json& c) { return c["name"] == "GPT-2"; });
    REQUIRE(gpt2 != cases.end());
    const ForeignModel found = read_foreign(load(*gpt2, folder), {.heads = 4});
    const auto line = [&](const std::string& theirs, const std::string& ours) {
      for (const ForeignModel::Line& l : found.table)
        if (l.theirs == theirs && l.ours == ours) return l.how;
      return std::string("no such line");
    };
    CHECK(line("transformer.h.1.attn.c_attn.weight", "blocks.1.attention.W_k.weight") == "transposed, rows 8 to 15");
    CHECK(line("transformer.h.0.attn.c_attn.bias", "blocks.0.attention.W_v.bias") == "rows 16 to 23");
    CHECK(line("transformer.h.0.mlp.c_fc.weight", "blocks.0.feed_forward.linear1.weight") == "transposed");
    CHECK(line("transformer.h.0.attn.bias", "") == "the causal mask");
    CHECK(line("lm_head.weight", "") == "the same as the embedding");
    CHECK(found.model->config.tied);
  }
}
