// How other programs name their weights, and what becomes of each under our names.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "layers/foreign_weights.hpp"

namespace surgeon::foreign {

// What is done with a tensor. matrix: as it is, or transposed where the file has [in, out].
enum class Take { as_it_is, matrix, qkv_rows, qkv_matrix, gate_up_rows, unused };

struct Rule {
  const char* theirs;   // # stands for a block's number
  Take take;
  const char* ours;     // with ? for q, k, v, or for gate, linear1, where a tensor holds several
};

struct Names {
  Foreign kind;
  const char* name;
  const char* anchor;   // the tensor by which it is known, and by which its prefix is found
  std::vector<Rule> rules;
};

const std::vector<Names>& families();

// The number that # stands for in `name`, "" where there is no #; nothing when they do not match.
std::optional<std::string> matched(std::string_view name, std::string_view pattern);
std::string filled(std::string text, char mark, const std::string& with);   // the first mark replaced

}  // namespace surgeon::foreign
